"""`Engine`: requests in, tokens out, one step at a time. In process, synchronous, text-free.

`Engine.step()` is the definition of the whole: schedule, forward, sample, advance, emit. One request can fail without
touching another; an exception that leaves `step` means that the engine itself is broken.
"""

import secrets
import time
from dataclasses import dataclass

import numpy as np

from penstock_decoding.finish import Finish
from penstock_decoding.processor import Row
from penstock_decoding.sampler import RowDraws, Sampler, SampleRow
from penstock_decoding.strategy import Branches, Draw, Drawn, Live, Sampled
from penstock_engine.blocks import BlockAllocator
from penstock_engine.config import EngineStats
from penstock_engine.errors import QueueFull
from penstock_engine.group import Group
from penstock_engine.limits import Limits, check_request
from penstock_engine.outputs import StepOutput, TokenLogprobs, TokenOutput
from penstock_engine.pace import Pace
from penstock_engine.request import GenerationRequest
from penstock_engine.runner import Runner
from penstock_engine.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that ended by a fault of its own."""

    message: str


class Engine:
    """Owns the scheduler, the sampler and the open requests; borrows the runner."""

    def __init__(self, runner: Runner, limits: Limits, *, prefix_caching: bool = True) -> None:
        self.limits = limits
        self._runner = runner
        self._sampler = Sampler()
        self._allocator = BlockAllocator(limits.num_blocks)
        self._scheduler = Scheduler(
            self._allocator,
            block_size=limits.block_size,
            max_batch_tokens=limits.max_batch_tokens,
            max_rows=limits.max_rows,
        )
        self._prefix_caching = prefix_caching
        self._groups: dict[str, Group] = {}
        self._num_arrived = 0
        self._num_prompt_tokens = 0
        self._num_generated_tokens = 0
        self._num_steps = 0
        self._last_step_seconds = 0.0
        self._total_step_seconds = 0.0
        self._pace = Pace()

    @property
    def has_work(self) -> bool:
        """Whether a step would have something to do."""
        return bool(self._groups)

    @property
    def stats(self) -> EngineStats:
        """The state now."""
        return EngineStats(
            num_running=len(self._scheduler.running),
            num_waiting=len(self._scheduler.waiting),
            num_blocks=self._allocator.num_blocks,
            num_blocks_in_use=self._allocator.num_in_use,
            num_steps=self._num_steps,
            num_preemptions=self._scheduler.num_preemptions,
            num_prompt_tokens=self._num_prompt_tokens,
            num_generated_tokens=self._num_generated_tokens,
            num_prefix_query_tokens=self._scheduler.num_prefix_query_tokens,
            num_prefix_hit_tokens=self._scheduler.num_prefix_hit_tokens,
            last_step_seconds=self._last_step_seconds,
            total_step_seconds=self._total_step_seconds,
        )

    def add(self, request: GenerationRequest) -> None:
        """Queue a request.

        Raises:
            RequestRefused: it could not be served even alone.
            QueueFull: try again later.
        """
        assert request.id not in self._groups, f"request id {request.id!r} is open already"
        check_request(request, self.limits)
        num_waiting = len(self._scheduler.waiting)
        if num_waiting >= self.limits.max_queue:
            raise QueueFull(num_waiting, self._pace.seconds_for(num_waiting))
        # Without prefix caching nobody else shares a prompt's blocks; the request's own rows still do.
        salt = request.cache_salt if self._prefix_caching else secrets.token_hex(16)
        group = Group.of(request, self._num_arrived, self._scheduler.slots.take(), salt)
        self._num_arrived += 1
        self._num_prompt_tokens += len(request.prompt)
        self._groups[request.id] = group
        self._scheduler.add(group)

    def abort(self, request_id: str, choice: int | None = None) -> bool:
        """Stop one answer of a request, or all; its blocks are free when this returns. Unknown ids are ignored.

        Returns whether the request ended by it.
        """
        group = self._groups.get(request_id)
        if group is None:
            return False
        self._drop_rows(group, range(len(group.rows)) if choice is None else group.strategy.drop(choice))
        return request_id not in self._groups

    def step(self) -> list[tuple[str, StepOutput | Failure]]:
        """One step for every request whose turn it is. Returns what each got, by request id."""
        started = time.perf_counter()
        batch = self._scheduler.schedule()
        groups = list(dict.fromkeys(entry.group for entry in batch.entries if entry.wants_logits))
        logits = self._runner.forward(batch)
        self._scheduler.mark_computed(batch)
        draws = [group.strategy.draw(len(group.rows)) for group in groups]
        rows = self._sample_rows(groups, draws)
        drawn = self._sampler.sample(logits, rows) if rows else []
        outputs = [
            (group.request.id, self._advance(group, drawn_rows)) for group, drawn_rows in _by_group(groups, drawn)
        ]
        self._num_steps += 1
        self._last_step_seconds = time.perf_counter() - started
        self._total_step_seconds += self._last_step_seconds
        return outputs

    def check(self) -> None:
        """Prove that nothing leaked.

        Raises:
            AssertionError: says what did.
        """
        self._scheduler.check()
        open_groups = {*self._scheduler.waiting, *self._scheduler.running}
        assert open_groups == set(self._groups.values()), "the engine and the scheduler disagree on what is open"

    def _sample_rows(self, groups: list[Group], draws: list[Draw]) -> list[SampleRow]:
        rows: list[SampleRow] = []
        for group, draw in zip(groups, draws, strict=True):
            decoding, stop_ids = group.request.decoding, group.request.stop.token_ids
            for i, row in enumerate(group.rows):
                rows.append(
                    SampleRow(
                        Row(len(rows), row.slot, row.prompt, row.output, stop_ids),
                        decoding.chain,
                        decoding.seed,
                        row.num_tokens,
                        draw.samples[i] if isinstance(draw, Sampled) else None,
                        1 if isinstance(draw, Sampled) else draw.count,
                        decoding.num_logprobs,
                    )
                )
        return rows

    def _advance(self, group: Group, drawn: list[RowDraws]) -> StepOutput | Failure:
        if not all(row.is_valid for row in drawn):
            self._drop_rows(group, range(len(group.rows)))
            return Failure("the model or a processor gave scores that are not finite numbers")
        live = Live(len(group.rows), group.num_generated)
        stacked = Drawn(np.stack([row.tokens for row in drawn]), np.stack([row.logprobs for row in drawn]))
        branches = group.strategy.advance(live, stacked, group.stop)
        slots = [row.slot for row in group.rows]
        for source, target in self._scheduler.apply(group, branches):
            self._sampler.fork(source, target)
        self._release(slots, group)
        self._num_generated_tokens += len(branches.token)
        return StepOutput(_token_outputs(branches, drawn), not group.rows, group.num_cached_tokens)

    def _drop_rows(self, group: Group, indices: "range | list[int]") -> None:
        slots = [row.slot for row in group.rows]
        self._scheduler.drop_rows(group, indices)
        self._release(slots, group)

    def _release(self, slots: list[int], group: Group) -> None:
        """Forget the slots among these that the group no longer has, and the group when it has none."""
        kept = {row.slot for row in group.rows}
        for slot in slots:
            if slot not in kept:
                self._sampler.release(slot)
        if not group.rows:
            del self._groups[group.request.id]
            self._pace.finished()


def _by_group(groups: list[Group], drawn: list[RowDraws]) -> list[tuple[Group, list[RowDraws]]]:
    # Sizes are read before any group advances: advancing changes the number of rows.
    parts, start = [], 0
    for group in groups:
        parts.append((group, drawn[start : start + len(group.rows)]))
        start += len(group.rows)
    return parts


def _token_outputs(branches: Branches, drawn: list[RowDraws]) -> tuple[TokenOutput, ...]:
    outputs = []
    arrays = (branches.parent, branches.token, branches.choice, branches.finish)
    for parent, token, choice, finish in zip(*(array.tolist() for array in arrays), strict=True):
        if choice >= 0:
            outputs.append(TokenOutput(choice, token, Finish(finish), _logprobs(drawn[parent], token)))
    return tuple(outputs)


def _logprobs(row: RowDraws, token: int) -> TokenLogprobs | None:
    if not row.model_logprobs:
        return None
    return TokenLogprobs(row.model_logprobs[int(np.flatnonzero(row.tokens == token)[0])], row.top)
