"""A strategy that breaks down or breaks its contract fails its own request, by name; the others never notice."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from neighbours import asking, assert_neighbours_never_noticed, engine_with, neighbours, run
from scripted_engine import VOCAB_SIZE

from penstock_decoding.catalogue import SHIPPED, Catalogue
from penstock_decoding.draws import Best, Perturbed, Sampled
from penstock_decoding.finish import Finish
from penstock_decoding.plugins import load_plugins
from penstock_decoding.processors import PROCESSORS
from penstock_decoding.strategies import STRATEGIES
from penstock_decoding.strategies.sample import Sample
from penstock_decoding.strategy import Branches, Drawn, Live, Settled, StopRule
from penstock_engine.engine import Failure
from penstock_engine.errors import RequestFailed


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
