"""A processor that breaks down fails the requests that asked for it, by name; the others get what they get alone."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from neighbours import asking, assert_neighbours_never_noticed, engine_with, neighbours, run
from torch import Tensor

from penstock_decoding.catalogue import Catalogue
from penstock_decoding.plugins import load_plugins
from penstock_decoding.processor import Ask
from penstock_decoding.processors import PROCESSORS
from penstock_decoding.strategies import STRATEGIES
from penstock_engine.request import GenerationRequest


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
