"""`ProcessorSet`: one instance of every processor of a catalogue, run so that a fault stays with the rows it is about.

When a processor raises, each row is tried alone, and only those over which it raises again fail. A plug-in is trusted
with less: it gets a copy of its rows, which is looked at before it counts, so that it cannot reach other rows, and NaN
or +inf fails the row that holds it. What is shipped edits the scores in place, which costs nothing; should it raise
while it edits, all the rows that it was at work on fail.

A processor that raises while it follows a fork or a rollback has lost that sequence: the row fails when it asks next.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from penstock_decoding.catalogue import Catalogue
from penstock_decoding.chain import Stage
from penstock_decoding.errors import DecodingFault, PluginError
from penstock_decoding.grammar.vocabulary import Vocabulary
from penstock_decoding.params import Step
from penstock_decoding.processor import Ask, Plan, Prepares, Processor, Row, Stateful, WorksAhead
from penstock_kernels import Kernels

_log = logging.getLogger(__name__)

Faults = dict[int, str]
"""By row index, what broke over that row; fit for the caller."""


@dataclass(slots=True)
class _Member:
    """A processor in use.

    `lost`: slots whose sequences it does not know any more. `met`: for a plug-in, the slots that have asked for it:
    of others it hears nothing, so that it cannot break down over requests that never named it.
    """

    called: str
    processor: Processor
    is_plugin: bool
    lost: set[int] = field(default_factory=set)
    met: set[int] = field(default_factory=set)

    def has_met(self, slot: int) -> bool:
        """Whether it has to be told what becomes of this sequence."""
        return not self.is_plugin or slot in self.met

    def lose(self, slot: int) -> None:
        """It raised over this sequence."""
        _log.exception("%s failed", self.called)
        self.lost.add(slot)


class ProcessorSet:
    """Runs stages, and keeps what the processors remember in step with the sequences."""

    def __init__(
        self, catalogue: Catalogue, vocabulary: Vocabulary | None = None, kernels: Kernels | None = None
    ) -> None:
        """`vocabulary`, `kernels`: given to the processors that say that they need them.

        Raises:
            PluginError: a plug-in could not be made.
        """
        given = {"needs_vocabulary": vocabulary, "needs_kernels": kernels}
        self._members = {name: _member(name, catalogue, given) for name in catalogue.processors}
        self._stateful = [
            (member, member.processor) for member in self._members.values() if isinstance(member.processor, Stateful)
        ]
        self._ahead = {
            name: (member, member.processor)
            for name, member in self._members.items()
            if isinstance(member.processor, WorksAhead)
        }

    def run(self, stage: Stage, scores: Tensor) -> Faults:
        """Edit the scores [rows, vocab] of the rows that ask. What is returned failed: its scores mean nothing."""
        member, asks = self._members[stage.processor], stage.asks
        faults: Faults = {}
        if member.lost:
            faults = {ask.row.index: f"{member.called} failed" for ask in asks if ask.row.slot in member.lost}
            asks = [ask for ask in asks if ask.row.index not in faults]
        if not asks:
            return faults
        if member.is_plugin:
            member.met.update(ask.row.slot for ask in asks)
            return faults | _run_apart(member, asks, scores)
        return faults | _run_in_place(member, asks, scores)

    def prepares(self, chain: Sequence[Step]) -> bool:
        """Whether parameters of this chain have to be made ready."""
        return any(isinstance(self._members[step.name].processor, Prepares) for step in chain)

    def prepare(self, chain: Sequence[Step]) -> list[tuple[str, Future[None]]]:
        """Begin to make these parameters ready; by name of the processor, for those that have to be."""
        preparing = []
        for step in chain:
            processor = self._members[step.name].processor
            if isinstance(processor, Prepares):
                preparing.append((step.name, processor.prepare(step.params)))
        return preparing

    def works_ahead(self, chain: Sequence[Step]) -> bool:
        """Whether a processor of this chain begins early for its next plan."""
        return any(step.name in self._ahead for step in chain)

    def ahead(self, row: Row, chain: Sequence[Step]) -> None:
        """The sequence is as its next plans will find it: begin for them."""
        for step in chain:
            if step.name in self._ahead:
                member, processor = self._ahead[step.name]
                if member.is_plugin:
                    member.met.add(row.slot)
                try:
                    processor.ahead(Ask(row, step.params))
                except Exception:
                    member.lose(row.slot)

    def awaited(self, slot: int) -> list[Future[Any]]:
        """What the sequence's next plans would wait for."""
        futures = []
        for member, processor in self._ahead.values():
            if member.has_met(slot) and slot not in member.lost:
                try:
                    future = processor.awaited(slot)
                except Exception:
                    member.lose(slot)
                    continue
                if future is not None and not future.done():
                    futures.append(future)
        return futures

    def fork(self, source: int, target: int) -> None:
        """The sequence in slot `target` begins as a copy of the one in `source`."""
        for member, processor in self._stateful:
            if member.has_met(source):
                if member.is_plugin:
                    member.met.add(target)
                if source in member.lost:
                    member.lost.add(target)
                    continue
                try:
                    processor.fork(source, target)
                except Exception:
                    member.lose(target)

    def rollback(self, slot: int, num_kept: int) -> None:
        """The sequence's answer is cut back to its first `num_kept` tokens."""
        for member, processor in self._stateful:
            if member.has_met(slot):
                try:
                    processor.rollback(slot, num_kept)
                except Exception:
                    member.lose(slot)

    def release(self, slot: int) -> None:
        """The sequence is over. If a processor raises here, the slot stays lost to it: the next sequence in the slot
        must not inherit what may be left of this one."""
        for member, processor in self._stateful:
            if member.has_met(slot):
                try:
                    processor.release(slot)
                except Exception:
                    member.lose(slot)
                else:
                    member.lost.discard(slot)
                member.met.discard(slot)


def _member(name: str, catalogue: Catalogue, given: Mapping[str, object]) -> _Member:
    called, is_plugin = catalogue.called("processor", name), catalogue.is_plugin("processor", name)
    try:
        make = catalogue.processors[name]
        needed = [value for needs, value in given.items() if getattr(make, needs, False)]
        return _Member(called, make(*needed), is_plugin)  # it says itself what it takes
    except Exception as error:
        if not is_plugin:
            raise
        told = f"{catalogue.origins['processor', name]}: {called} could not be made"
        raise PluginError(f"{told}: {type(error).__name__}: {error}") from error


def _run_in_place(member: _Member, asks: Sequence[Ask[Any]], scores: Tensor) -> Faults:
    plan: Plan | Exception | None
    try:
        plan = member.processor.plan(asks)
    except Exception as error:
        plan = error
    if isinstance(plan, Exception):
        return _each_alone(member, asks, scores, plan, _run_in_place)
    if plan is not None:
        try:
            plan.apply(scores)
        except Exception as error:
            return _blame(member, asks, error)
    return {}


def _run_apart(member: _Member, asks: Sequence[Ask[Any]], scores: Tensor) -> Faults:
    """On a copy of the rows, which counts only when it has turned out well."""
    rows = torch.tensor([ask.row.index for ask in asks], device=scores.device)
    before = scores[rows]
    try:
        plan = member.processor.plan([Ask(replace(ask.row, index=i), ask.params) for i, ask in enumerate(asks)])
        if plan is None:
            return {}
        edited = before.clone()
        plan.apply(edited)
        # NaN and +inf show in the maximum. What was broken before is not this processor's fault.
        is_fault = _is_broken(edited) & ~_is_broken(before)
        outcome: Tensor | Exception = torch.where(is_fault[:, None], before, edited)
    except Exception as error:
        outcome = error
    if isinstance(outcome, Exception):
        return _each_alone(member, asks, scores, outcome, _run_apart)
    scores[rows] = outcome
    return {
        ask.row.index: f"{member.called} gave scores that are NaN or +inf"
        for ask, is_own in zip(asks, is_fault.tolist(), strict=True)
        if is_own
    }


def _is_broken(scores: Tensor) -> Tensor:
    peaks = scores.amax(-1)
    return peaks.isnan() | (peaks == torch.inf)


def _each_alone(
    member: _Member,
    asks: Sequence[Ask[Any]],
    scores: Tensor,
    error: Exception,
    run: Callable[[_Member, Sequence[Ask[Any]], Tensor], Faults],
) -> Faults:
    """Who is to blame for the error that all of them raised together."""
    if len(asks) == 1:
        return _blame(member, asks, error)
    faults: Faults = {}
    for ask in asks:
        faults |= run(member, [ask], scores)
    return faults


def _blame(member: _Member, asks: Sequence[Ask[Any]], error: Exception) -> Faults:
    # The caller learns who failed; what the exception says is for whoever runs the server.
    if isinstance(error, DecodingFault):
        return {ask.row.index: str(error) for ask in asks}
    _log.error("%s failed", member.called, exc_info=error)
    return {ask.row.index: f"{member.called} failed: {type(error).__name__}" for ask in asks}
