"""Processors that work ahead: a group that is late skips steps, holds nobody up, and misses nothing."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from scripted_engine import LIMITS, Answers, collect, make_request, noise, run_all

from penstock_decoding.catalogue import SHIPPED, Catalogue
from penstock_decoding.params import Step
from penstock_decoding.processor import Ask
from penstock_engine.batch import Batch
from penstock_engine.engine import Engine
from penstock_engine.request import GenerationRequest
from penstock_engine.scripted import ScriptedRunner


@dataclass(frozen=True, slots=True)
class SlowParams:
    """Nothing to say."""


class Slow:
    """Changes no score, but wants to be waited for, until the test says that all is done."""

    Params = SlowParams

    def __init__(self) -> None:
        self.under_way: dict[int, tuple[int, Future[None]]] = {}
        self.num_plans = 0

    def ahead(self, ask: Ask[SlowParams]) -> None:
        known = self.under_way.get(ask.row.slot)
        if known is None or known[0] != len(ask.row.output):
            self.under_way[ask.row.slot] = len(ask.row.output), Future()

    def awaited(self, slot: int) -> Future[None] | None:
        return self.under_way[slot][1] if slot in self.under_way else None

    def finish(self) -> None:
        """All that is under way is done."""
        for _, future in self.under_way.values():
            if not future.done():
                future.set_result(None)

    def plan(self, asks: Sequence[Ask[SlowParams]]) -> None:
        self.num_plans += 1
        for ask in asks:
            length, future = self.under_way[ask.row.slot]
            assert length == len(ask.row.output), "planned for a length that was never begun"
            assert future.done(), "planned before it was ready"

    def fork(self, source: int, target: int) -> None:
        """A copy begins anew when it is told to."""

    def rollback(self, slot: int, num_kept: int) -> None:
        raise AssertionError("nothing rolls back here")

    def release(self, slot: int) -> None:
        self.under_way.pop(slot, None)


class CountingRunner(ScriptedRunner):
    """Remembers whose logits each step computed."""

    batches: list[list[str]]

    def forward(self, batch: Batch):  # type: ignore[no-untyped-def]  # as the one it stands for
        self.batches.append([entry.group.request.id for entry in batch.entries if entry.wants_logits])
        return super().forward(batch)


def slow_engine() -> tuple[Engine, Slow, CountingRunner]:
    slow = Slow()
    # A table holds classes; this one stands for the single instance that the test knows.
    made: type[Slow] = type("TheSlow", (Slow,), {"__new__": lambda cls: slow, "__init__": lambda self: None})
    catalogue = Catalogue({**SHIPPED.processors, "slow": made}, SHIPPED.strategies)
    runner = CountingRunner(noise, num_blocks=LIMITS.num_blocks, block_size=LIMITS.block_size)
    runner.batches = []
    return Engine(runner, LIMITS, catalogue=catalogue), slow, runner


def asking(request: GenerationRequest) -> GenerationRequest:
    """The request with the slow processor in its chain."""
    decoding = replace(request.decoding, chain=(*request.decoding.chain, Step("slow", SlowParams())))
    return replace(request, decoding=decoding)


def plain(name: str, fields: Mapping[str, object], max_tokens: int = 6) -> GenerationRequest:
    return make_request(name, [3, 1, 4, 1, 5], fields, max_tokens=max_tokens, stop_token_ids=())


SAMPLES: Mapping[str, object] = {"seed": 4, "n": 2}
BEAMS: Mapping[str, object] = {"decoding": {"strategy": "beam", "width": 3, "n": 2}}


def test_a_late_group_holds_nobody_up() -> None:
    """The neighbour gets its token in every step. The late group computes its logits once in vain and is then left out
    until it is ready; its answers are what they would have been."""
    for fields in (SAMPLES, BEAMS):
        engine, slow, runner = slow_engine()
        late, quick = plain("late", fields), plain("quick", {"seed": 1}, max_tokens=12)
        engine.add(asking(late))
        engine.add(quick)
        answers: Answers = {}
        for step in range(5):
            collect(engine, answers)
            assert len(answers["quick", 0]) == step + 1
        assert not any(name == "late" for name, _ in answers)
        assert [batch.count("late") for batch in runner.batches] == [1, 0, 0, 0, 0]
        while engine.has_work:
            slow.finish()
            collect(engine, answers)
        engine.check()
        assert answers == run_all(slow_engine()[0], [late, quick])


def test_when_nobody_else_waits_a_step_is_short_and_empty() -> None:
    """The engine stays responsive: a step without anything to compute ends soon, and nothing is lost."""
    engine, slow, runner = slow_engine()
    request = plain("late", SAMPLES)
    engine.add(asking(request))
    for _ in range(4):
        assert engine.step() == []
        engine.check()
    assert slow.num_plans == 0 and [batch.count("late") for batch in runner.batches] == [1, 0, 0, 0]
    answers: Answers = {}
    while engine.has_work:
        slow.finish()
        collect(engine, answers)
    assert answers == run_all(slow_engine()[0], [request])


def test_ready_in_time_costs_no_step() -> None:
    """What is done before the logits are there skips nothing."""
    engine, slow, runner = slow_engine()
    engine.add(asking(plain("x", {"seed": 1})))
    answers: Answers = {}
    while engine.has_work:
        slow.finish()
        collect(engine, answers)
    assert len(runner.batches) == 6


def test_a_long_prompt_is_computed_once() -> None:
    """A group that is late after its prompt computes only the last token again."""
    engine, slow, _ = slow_engine()
    long = replace(plain("late", SAMPLES), prompt=tuple(i % 29 for i in range(40)))
    engine.add(asking(long))
    engine.add(plain("quick", {"seed": 1}, max_tokens=12))
    for _ in range(6):
        collect(engine, {})
    row = next(group for group in engine._scheduler.running if group.request.id == "late").rows[0]
    assert row.num_missing == 1
    slow.finish()
    answers: Answers = {}
    while engine.has_work:
        slow.finish()
        collect(engine, answers)
    assert {key: answer for key, answer in answers.items() if key[0] == "late"} == run_all(slow_engine()[0], [long])


def test_abort_while_late() -> None:
    """Nothing stays behind, and the slot's next sequence is not late for it."""
    engine, _, _ = slow_engine()
    engine.add(asking(plain("late", SAMPLES)))
    collect(engine, {})
    engine.abort("late")
    engine.check()
    assert not engine.has_work
    answers = run_all(engine, [plain("next", {"seed": 2})])
    assert len(answers["next", 0]) == 6
