"""A processor or a strategy that breaks down fails its own request, by name; the others get what they get alone."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from scripted_engine import LIMITS, VOCAB_SIZE, make_engine, make_request, noise, run_alone
from torch import Tensor

from penstock_decoding.catalogue import SHIPPED, Catalogue
from penstock_decoding.draws import Best, Perturbed, Sampled
from penstock_decoding.finish import Finish
from penstock_decoding.params import read_decoding
from penstock_decoding.plugins import load_plugins
from penstock_decoding.processor import Ask
from penstock_decoding.processors import PROCESSORS
from penstock_decoding.strategies import STRATEGIES
from penstock_decoding.strategies.sample import Sample
from penstock_decoding.strategy import Branches, Drawn, Live, Settled, StopRule
from penstock_engine.engine import Engine, Failure
from penstock_engine.errors import RequestFailed
from penstock_engine.outputs import TokenOutput
from penstock_engine.request import GenerationRequest
from penstock_engine.scripted import ScriptedRunner

# Requests that are well, of every kind that shares a step with a broken one.
NEIGHBOURS: dict[str, dict[str, object]] = {
    "greedy": {"temperature": 0},
    "sample": {"n": 2, "seed": 5, "temperature": 1.3, "top_k": 7, "repetition_penalty": 1.2},
    "beam": {"decoding": {"strategy": "beam", "width": 3}, "num_logprobs": 1},
    "without_replacement": {"decoding": {"strategy": "stochastic_beam", "width": 2}, "seed": 3},
}
ROOMY = replace(LIMITS, max_rows=64, num_blocks=1024, max_batch_tokens=64)

Answers = dict[tuple[str, int], list[TokenOutput]]


def neighbours() -> list[GenerationRequest]:
    return [make_request(name, [3 + i, 4, 5], fields) for i, (name, fields) in enumerate(NEIGHBOURS.items())]


def asking(catalogue: Catalogue, name: str, **decoding: object) -> GenerationRequest:
    """A request of at most eight tokens with such a `decoding`."""
    request = make_request(name, [1, 2, len(name)], {})
    return replace(
        request, decoding=read_decoding({"decoding": decoding, "seed": 9}, vocab_size=VOCAB_SIZE, catalogue=catalogue)
    )


def engine_with(catalogue: Catalogue) -> Engine:
    runner = ScriptedRunner(noise, num_blocks=ROOMY.num_blocks, block_size=ROOMY.block_size)
    return Engine(runner, ROOMY, catalogue=catalogue)


def run(engine: Engine, requests: Sequence[GenerationRequest]) -> tuple[Answers, dict[str, str]]:
    """The answers, and the messages of the requests that failed."""
    answers: Answers = {}
    failures: dict[str, str] = {}
    for request in requests:
        engine.add(request)
    while engine.has_work:
        for name, output in engine.step():
            if isinstance(output, Failure):
                failures[name] = output.message
            else:
                for token in output.tokens:
                    answers.setdefault((name, token.choice), []).append(token)
        engine.check()
    return answers, failures


def assert_neighbours_never_noticed(answers: Answers) -> None:
    for request in neighbours():
        own = {key: tokens for key, tokens in answers.items() if key[0] == request.id}
        assert own == run_alone(request)


@dataclass(frozen=True, slots=True)
class WhenParams:
    """`length`: of the answer at which it breaks down; -1: never."""

    length: int = 2


class Plans:
    """A processor that adds to its rows' scores, and does worse to those that have come to their length."""

    name = "mine"
    Params = WhenParams

    def plan(self, asks: Sequence[Ask[WhenParams]]) -> "Edit":
        due = [ask.row.index for ask in asks if len(ask.row.output) == ask.params.length]
        if due:
            self.at_plan()
        return Edit([ask.row.index for ask in asks], due, self.at_apply)

    def at_plan(self) -> None:
        """What it does wrong here."""

    def at_apply(self, scores: Tensor, due: Sequence[int]) -> None:
        """What it does wrong there, amid its work."""


class Edit:
    def __init__(self, rows: Sequence[int], due: Sequence[int], then: Callable[[Tensor, Sequence[int]], None]) -> None:
        self._rows, self._due, self._then = rows, due, then

    def apply(self, scores: Tensor) -> None:
        for row in self._rows:
            scores[row, ::2] += 1.0
            if row in self._due:
                self._then(scores, self._due)


class RaisesInPlan(Plans):
    def at_plan(self) -> None:
        raise ZeroDivisionError("secret detail")


class RaisesAmidApply(Plans):
    def at_apply(self, scores: Tensor, due: Sequence[int]) -> None:
        raise IndexError("secret detail")


class GivesNan(Plans):
    def at_apply(self, scores: Tensor, due: Sequence[int]) -> None:
        scores[due[0], 3] = torch.nan


class GivesInfinity(Plans):
    def at_apply(self, scores: Tensor, due: Sequence[int]) -> None:
        scores[due[0], 3] = torch.inf


class Resizes(Plans):
    def at_apply(self, scores: Tensor, due: Sequence[int]) -> None:
        scores.resize_(1, 3)


class ReachesForOthers(Plans):
    def at_apply(self, scores: Tensor, due: Sequence[int]) -> None:
        scores[len(scores) + 1] = 0.0


PROCESSOR_FAULTS = {
    RaisesInPlan: "failed: ZeroDivisionError",
    RaisesAmidApply: "failed: IndexError",
    GivesNan: "gave scores that are NaN or +inf",
    GivesInfinity: "gave scores that are NaN or +inf",
    Resizes: "failed: RuntimeError",
    ReachesForOthers: "failed: IndexError",
}


def plan_requests(catalogue: Catalogue) -> list[GenerationRequest]:
    """Requests that break down early, late and in a search, and two of the same processor that are well."""

    def chain(length: int) -> list[dict[str, object]]:
        return [{"mine": {"length": length}}, {"temperature": 0.7}]

    return [
        asking(catalogue, "early", strategy="sample", chain=chain(0)),
        asking(catalogue, "well", strategy="sample", n=2, chain=chain(-1)),
        asking(catalogue, "late", strategy="greedy", chain=chain(3)),
        asking(catalogue, "search", strategy="beam", width=3, chain=chain(2)),
        asking(catalogue, "well_beam", strategy="beam", width=2, chain=chain(-1)),
    ]


@pytest.mark.parametrize("broken", PROCESSOR_FAULTS)
def test_plugin_processor_fails_its_own_requests(broken: type[Plans], caplog: pytest.LogCaptureFixture) -> None:
    """Also those in which the same plug-in is well go on: they share its plans with the ones that are not."""
    catalogue = load_plugins([broken])
    requests = plan_requests(catalogue)
    mixed = [request for pair in zip(requests, [*neighbours(), None], strict=True) for request in pair if request]
    answers, failures = run(engine_with(catalogue), mixed)
    told = f"the plug-in processor 'mine' {PROCESSOR_FAULTS[broken]}"
    assert failures == {"early": told, "late": told, "search": told}
    assert ("early", 0) not in answers
    assert len(answers["late", 0]) == 3
    assert_neighbours_never_noticed(answers)
    healthy = load_plugins([Plans])
    for request in requests:
        if request.id.startswith("well"):
            alone, _ = run(engine_with(healthy), [request])
            assert {key: tokens for key, tokens in answers.items() if key[0] == request.id} == alone
    # What the exception says is for the log.
    assert ("secret detail" in caplog.text) == (broken in (RaisesInPlan, RaisesAmidApply))


@pytest.mark.parametrize("broken", [RaisesInPlan, RaisesAmidApply])
def test_shipped_processor_fails_the_rows_it_was_at_work_on(broken: type[Plans]) -> None:
    """A bug of ours: the batch goes on. It edits the scores in place, so that one raise amid its work spoils the rows
    that asked for it in this step; a raise in its plan none but those that cause it."""
    catalogue = Catalogue({**PROCESSORS, "mine": broken}, STRATEGIES)
    requests = plan_requests(catalogue)
    answers, failures = run(engine_with(catalogue), [*requests, *neighbours()])
    assert_neighbours_never_noticed(answers)
    told = f"the processor 'mine' {PROCESSOR_FAULTS[broken]}"
    if broken is RaisesInPlan:
        assert failures == {"early": told, "late": told, "search": told}
    else:
        assert failures == {request.id: told for request in requests}


class Remembers(Plans):
    """Keeps what it saw by slot, and breaks when it is told of what it never saw, as a careless one does."""

    def __init__(self) -> None:
        self.seen: dict[int, int] = {}

    def plan(self, asks: Sequence[Ask[WhenParams]]) -> Edit:
        for ask in asks:
            self.seen.setdefault(ask.row.slot, len(ask.row.output))
        return super().plan(asks)

    def fork(self, source: int, target: int) -> None:
        self.seen[target] = self.seen[source]

    def rollback(self, slot: int, num_kept: int) -> None:
        self.seen[slot] = num_kept

    def release(self, slot: int) -> None:
        del self.seen[slot]


class ForksBadly(Remembers):
    def fork(self, source: int, target: int) -> None:
        raise ZeroDivisionError


class ReleasesBadly(Remembers):
    def release(self, slot: int) -> None:
        raise ZeroDivisionError


def test_plugin_hears_only_of_sequences_that_asked_for_it(caplog: pytest.LogCaptureFixture) -> None:
    catalogue = load_plugins([Remembers])
    requests = [request for request in plan_requests(catalogue) if request.id.startswith("well")]
    answers, failures = run(engine_with(catalogue), [*requests, *neighbours()])
    assert failures == {}
    assert_neighbours_never_noticed(answers)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_plugin_that_cannot_fork_fails_what_forks(caplog: pytest.LogCaptureFixture) -> None:
    catalogue = load_plugins([ForksBadly])
    requests = [
        asking(catalogue, "alone", chain=[{"mine": {"length": -1}}]),
        asking(catalogue, "forks", n=2, chain=[{"mine": {"length": -1}}]),
    ]
    answers, failures = run(engine_with(catalogue), [*requests, *neighbours()])
    assert failures == {"forks": "the plug-in processor 'mine' failed"}
    assert len(answers["alone", 0]) > 0
    assert_neighbours_never_noticed(answers)


def test_sequence_never_inherits_what_a_failed_release_left() -> None:
    """Slots are given again. After a release that raised, the next one that asks in that slot fails, rather than
    begin with another request's memory; slots that were released well serve on."""
    catalogue = load_plugins([ReleasesBadly])
    engine = engine_with(catalogue)
    for name, fails in (("first", False), ("second", True)):
        _, failures = run(engine, [asking(catalogue, name, chain=[{"mine": {"length": -1}}])])
        assert (name in failures) == fails
    answers, _ = run(engine, neighbours())
    assert_neighbours_never_noticed(answers)


class BreaksAhead(Plans):
    """Says that it works ahead, and cannot."""

    def ahead(self, ask: Ask[WhenParams]) -> None:
        if ask.params.length == 1:
            raise ZeroDivisionError

    def awaited(self, slot: int) -> None:
        raise ZeroDivisionError


class BreaksOnlyAhead(BreaksAhead):
    def awaited(self, slot: int) -> None:
        return None


def test_plugin_that_breaks_ahead_of_its_turn() -> None:
    """Between two steps, where no request has its turn."""
    for broken, failing in ((BreaksAhead, {"one", "well"}), (BreaksOnlyAhead, {"one"})):
        catalogue = load_plugins([broken])
        requests = [
            asking(catalogue, "one", chain=[{"mine": {"length": 1}}]),
            asking(catalogue, "well", chain=[{"mine": {"length": -1}}]),
        ]
        answers, failures = run(engine_with(catalogue), [*requests, *neighbours()])
        assert failures == dict.fromkeys(failing, "the plug-in processor 'mine' failed")
        assert_neighbours_never_noticed(answers)


def test_plugin_that_cannot_be_made_stops_the_start() -> None:
    class Unmakeable(Plans):
        def __init__(self) -> None:
            raise OSError("no such table")

    with pytest.raises(Exception, match="the plug-in processor 'mine' could not be made: OSError: no such table"):
        engine_with(load_plugins([Unmakeable]))


def test_nan_of_the_model_is_told_as_the_models() -> None:
    """Even when the chain would have excluded the token that shows it, leaving choices among meaningless numbers."""

    def script(prefix: Sequence[int]) -> Any:
        logits = noise(prefix).copy()
        if prefix[0] == 1:
            logits[4] = np.nan
        return logits

    engine = make_engine(ROOMY, script)
    broken = [
        make_request("bare", [1, 2], {}),
        make_request("masked", [1, 2], {"decoding": {"chain": [{"allowed_tokens": [5, 6]}]}}),
    ]
    answers, failures = run(engine, [*broken, *neighbours()])
    assert failures == dict.fromkeys(("bare", "masked"), "the model gave scores that are not finite numbers")
    assert_neighbours_never_noticed(answers)


def test_chain_that_excludes_everything_is_named() -> None:
    catalogue = SHIPPED
    request = asking(
        catalogue, "empty", chain=[{"allowed_tokens": [5]}, {"bad_words": {"words": [[5]]}}, {"temperature": 0.5}]
    )
    answers, failures = run(engine_with(catalogue), [request, *neighbours()])
    assert failures == {"empty": "allowed_tokens, bad_words, temperature left no token to choose"}
    assert_neighbours_never_noticed(answers)


@dataclass(frozen=True, slots=True)
class SearchParams:
    n: int = 2


class Searches(Sample):
    """The shipped sampling, which subclasses spoil at the third token."""

    name = "search"
    Params = SearchParams  # type: ignore[assignment]

    def __init__(self, params: Any) -> None:
        super().__init__(type("Asked", (), {"n": params.n, "best_of": None})())


def at_third(live: Live) -> bool:
    return live.num_generated == 2


class MadeBadly(Searches):
    def __init__(self, params: Any) -> None:
        raise ZeroDivisionError


class NoRows(Searches):
    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.max_live = 0


def drawing(make: Callable[[int], object]) -> type[Searches]:
    class Spoilt(Searches):
        def draw(self, live: Live, stop: StopRule) -> Any:
            return make(live.num_rows) if at_third(live) else super().draw(live, stop)

    return Spoilt


def raising(number: int) -> object:
    raise ZeroDivisionError


def changing(**columns: object) -> type[Searches]:
    """Branches with some columns replaced, by values or by what a function makes of the right ones."""

    class Spoilt(Searches):
        def advance(self, live: Live, drawn: Drawn, stop: StopRule) -> Any:
            branches = super().advance(live, drawn, stop)
            if not at_third(live):
                return branches
            made = {name: change(branches) if callable(change) else change for name, change in columns.items()}
            return replace(branches, **made)  # type: ignore[arg-type]  # wrong on purpose

    return Spoilt


class AdvanceRaises(Searches):
    def advance(self, live: Live, drawn: Drawn, stop: StopRule) -> Any:
        return raising(0) if at_third(live) else super().advance(live, drawn, stop)


class ReturnsNothing(Searches):
    def advance(self, live: Live, drawn: Drawn, stop: StopRule) -> Any:
        return None if at_third(live) else super().advance(live, drawn, stop)


class Multiplies(Searches):
    """Twice as many rows as it said, each answer's second one open to none."""

    def advance(self, live: Live, drawn: Drawn, stop: StopRule) -> Any:
        branches = super().advance(live, drawn, stop)
        if not at_third(live):
            return branches
        twice = {name: np.tile(getattr(branches, name), 2) for name in ("parent", "token", "finish")}
        return Branches(
            twice["parent"],
            twice["token"],
            finish=twice["finish"],
            choice=np.concatenate((branches.choice, -np.ones(2, np.int64))),
        )


class NeverEnds(Searches):
    """Forgets the longest length."""

    def advance(self, live: Live, drawn: Drawn, stop: StopRule) -> Any:
        return super().advance(live, drawn, replace(stop, max_tokens=10**6))


class EndsWithoutAnswer(Searches):
    def advance(self, live: Live, drawn: Drawn, stop: StopRule) -> Any:
        branches = super().advance(live, drawn, stop)
        none = -np.ones_like(branches.choice)
        ended = np.full_like(branches.finish, Finish.STOP)
        return replace(branches, choice=none, finish=ended if at_third(live) else branches.finish)


class GoesOnAfterTheEnd(Searches):
    def advance(self, live: Live, drawn: Drawn, stop: StopRule) -> Any:
        branches = super().advance(live, drawn, stop)
        settled = None
        if live.num_generated in (1, 2):
            column = np.zeros(1, np.int64)
            nothing = np.full(1, np.nan)
            settled = Settled(column, branches.token[:1], column, column + Finish.STOP, nothing, nothing)
        return replace(branches, choice=-np.ones_like(branches.choice), settled=settled)


def settling(**columns: object) -> type[Searches]:
    right: dict[str, object] = {
        **dict.fromkeys(("choice", "token", "node", "finish"), np.zeros(1, np.int64)),
        **dict.fromkeys(("score", "inclusion_probability"), np.full(1, np.nan)),
    }
    return changing(
        choice=lambda branches: -np.ones_like(branches.choice),
        settled=Settled(**{**right, **columns}),  # type: ignore[arg-type]  # wrong on purpose
    )


INTEGERS = np.asarray([0, 0], np.int64)
STRATEGY_FAULTS: dict[str, tuple[type[Searches], str]] = {
    "draw_raises": (drawing(raising), "failed: ZeroDivisionError"),
    "draws_a_string": (drawing(lambda rows: "best"), "must draw Best, Sampled or Perturbed, not str"),
    "none_best": (drawing(lambda rows: Best(0)), f"asked for the 0 best tokens of {VOCAB_SIZE}"),
    "too_many_best": (drawing(lambda rows: Best(30)), f"asked for the 30 best tokens of {VOCAB_SIZE}"),
    "names_a_list": (drawing(lambda rows: Best(2, [[1], [2]])), "must name tokens as an array of integers"),  # type: ignore[arg-type]
    "names_for_others": (drawing(lambda rows: Best(2, np.zeros((5, 1), np.int64))), "named tokens for 5 rows, but 2"),
    "names_no_token": (
        drawing(lambda rows: Best(2, np.full((rows, 1), VOCAB_SIZE))),
        f"named a token outside the vocabulary of {VOCAB_SIZE}",
    ),
    "logprobs_for_others": (drawing(lambda rows: Best(2, logprobs=np.zeros(5))), "must give logprobs as float64 [2]"),
    "samples_for_one": (drawing(lambda rows: Sampled(((0,),))), "must sample for each of the 2 live rows"),
    "samples_unequal": (drawing(lambda rows: Sampled(((0,), (1, 2)))), "must draw equally many samples for each row"),
    "samples_none": (drawing(lambda rows: Sampled(((), ()))), "must draw equally many samples for each row"),
    "samples_below_0": (drawing(lambda rows: Sampled(((0,), (-1,)))), "must name samples by integers from 0"),
    "perturbs_too_many": (
        drawing(lambda rows: Perturbed(10**9, np.zeros(rows), np.zeros(rows))),
        "asked for 1000000000 perturbed tokens",
    ),
    "perturbs_for_others": (
        drawing(lambda rows: Perturbed(2, np.zeros(1), np.zeros(rows))),
        "must give logprobs and peaks as float64 [2]",
    ),
    "advance_raises": (AdvanceRaises, "failed: ZeroDivisionError"),
    "returns_nothing": (ReturnsNothing, "must return Branches, not NoneType"),
    "list": (changing(parent=[0, 1]), "must return parent as an array of integers, as long as parent"),
    "floats": (changing(token=np.zeros(2)), "must return token as an array of integers, as long as parent"),
    "unequal": (changing(choice=INTEGERS[:1]), "must return choice as an array of integers, as long as parent"),
    "node_unequal": (changing(node=INTEGERS[:1]), "must return node as an array of integers, as long as parent"),
    "lost_parent": (changing(parent=INTEGERS + 2), "continued a row that is not among the 2 live ones"),
    "negative_parent": (changing(parent=INTEGERS - 1), "continued a row that is not among the 2 live ones"),
    "no_finish": (changing(finish=INTEGERS + 9), "returned a finish that is no Finish"),
    "undrawn_token": (
        changing(token=lambda branches: (branches.token + 1) % VOCAB_SIZE),
        "appended a token that was not drawn for its row",
    ),
    "outside_the_vocabulary": (changing(token=INTEGERS + 10**6), "appended a token that was not drawn for its row"),
    "lost_choice": (
        changing(choice=INTEGERS + np.asarray([0, 2])),
        "gave a token to an answer that is not among the 2 asked for",
    ),
    "two_tokens": (changing(choice=INTEGERS), "gave one answer two tokens in one step"),
    "multiplies": (Multiplies, "keeps 4 rows live; its max_live is 2"),
    "never_ends": (NeverEnds, "went on past 8 tokens, the longest answer"),
    "ends_without_answer": (EndsWithoutAnswer, "ended without any answer; it must raise NoAnswer then"),
    "after_the_end": (GoesOnAfterTheEnd, "gave a token to answer 0, which is over"),
    "settles_floats": (settling(token=np.zeros(1)), "must settle token as an array of integers"),
    "settles_unequal": (settling(score=np.zeros(3)), "must settle as many scores and inclusion probabilities as"),
    "settles_lost_choice": (settling(choice=INTEGERS[:1] + 2), "settled an answer that is not among the 2 asked for"),
    "settles_lost_token": (settling(token=INTEGERS[:1] - 1), f"settled a token outside the vocabulary of {VOCAB_SIZE}"),
    "settles_no_finish": (settling(finish=INTEGERS[:1] + 9), "settled a finish that is no Finish"),
    "forgets_a_float": (changing(forgotten=np.zeros(1)), "must return forgotten as an array of integers"),
}


@pytest.mark.parametrize("fault", STRATEGY_FAULTS)
def test_plugin_strategy_fails_its_own_request(fault: str) -> None:
    broken, told = STRATEGY_FAULTS[fault]
    catalogue = load_plugins([broken])
    requests = [asking(catalogue, "broken", strategy="search"), *neighbours()]
    for order in (requests, requests[::-1]):
        answers, failures = run(engine_with(catalogue), order)
        assert failures.keys() == {"broken"}
        assert failures["broken"].startswith(f"the plug-in strategy 'search' {told}")
        assert_neighbours_never_noticed(answers)


def test_the_spoilt_strategy_unspoilt_breaks_no_rule() -> None:
    """Or the tests above would prove nothing: what they fail is what they spoil."""
    catalogue = load_plugins([Searches])
    answers, failures = run(engine_with(catalogue), [asking(catalogue, "well", strategy="search")])
    plain, _ = run(engine_with(SHIPPED), [asking(SHIPPED, "well", strategy="sample", n=2)])
    assert (answers, failures) == (plain, {})


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "constrained_beam"])
def test_every_shipped_strategy_keeps_the_contract(name: str) -> None:
    """As a plug-in it is checked at every step."""

    checked = type("AsPlugin", (STRATEGIES[name],), {"name": "checked"})
    catalogue = load_plugins([checked])
    own: Mapping[str, object] = {"n": 2} | ({"width": 3} if "beam" in name else {})
    if name == "sample":
        own = {"n": 2, "best_of": 3}
    for prompt in range(5):
        request = replace(asking(catalogue, "checked", strategy="checked", **own), prompt=(1, prompt))
        answers, failures = run(engine_with(catalogue), [request])
        plain, _ = run(
            engine_with(SHIPPED), [replace(asking(SHIPPED, "checked", strategy=name, **own), prompt=(1, prompt))]
        )
        assert (answers, failures) == (plain, {})


@pytest.mark.parametrize(
    ("broken", "told"),
    [(MadeBadly, "failed: ZeroDivisionError"), (NoRows, "has a max_live of 0; it must be between 1 and 4096")],
)
def test_strategy_that_cannot_be_made_is_not_queued(broken: type[Searches], told: str) -> None:
    catalogue = load_plugins([broken])
    engine = engine_with(catalogue)
    with pytest.raises(RequestFailed, match=f"the plug-in strategy 'search' {told}"):
        engine.add(asking(catalogue, "broken", strategy="search"))
    assert not engine.has_work
    engine.check()


class DropRaises(Searches):
    def drop(self, choice: int) -> list[int]:
        raise ZeroDivisionError


class DropsOthers(Searches):
    def drop(self, choice: int) -> list[int]:
        return [7]


@pytest.mark.parametrize(
    ("broken", "told"), [(DropRaises, "failed: ZeroDivisionError"), (DropsOthers, "dropped rows [7] of 2")]
)
@pytest.mark.parametrize("num_neighbours", [0, 4])
def test_drop_that_fails_ends_the_request_at_the_next_step(
    broken: type[Searches], told: str, num_neighbours: int
) -> None:
    """Aborting one answer has no reply of its own: what went wrong is told with the next step, also when the broken
    request was the only one."""
    catalogue = load_plugins([broken])
    engine = engine_with(catalogue)
    requests = [asking(catalogue, "broken", strategy="search"), *neighbours()[:num_neighbours]]
    for request in requests:
        engine.add(request)
    before = dict(engine.step())
    assert not isinstance(before["broken"], Failure)
    assert not engine.abort("broken", 0)
    engine.check()
    assert engine.has_work
    after = dict(engine.step())
    assert after.pop("broken") == Failure(f"the plug-in strategy 'search' {told}")
    assert len(after) == num_neighbours
    while engine.has_work:
        assert "broken" not in dict(engine.step())
    engine.check()


def test_shipped_strategy_that_raises_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    catalogue = Catalogue(PROCESSORS, {**STRATEGIES, "search": AdvanceRaises})
    answers, failures = run(engine_with(catalogue), [asking(catalogue, "broken", strategy="search"), *neighbours()])
    assert failures == {"broken": "the strategy 'search' failed: ZeroDivisionError"}
    assert_neighbours_never_noticed(answers)
    assert "Traceback" in caplog.text
