"""`Engine`: requests in, tokens out, one step at a time. In process, synchronous, text-free.

`Engine.step()` is the definition of the whole: schedule, forward, sample, advance, emit. A runner that can choose
tokens itself is given the next step before this one's tokens are looked at, if it can do without: see `launches.py`.
One request can fail without touching another; an exception that leaves `step` means that the engine itself is broken.
"""

import secrets
import time
from dataclasses import dataclass

import numpy as np

from penstock_decoding.catalogue import SHIPPED, Catalogue
from penstock_decoding.draws import BestTokens, Draw, SampledTokens
from penstock_decoding.errors import DecodingFault, NoAnswer
from penstock_decoding.grammar.vocabulary import Vocabulary
from penstock_decoding.guarded_strategy import GuardedStrategy
from penstock_decoding.processor import Row
from penstock_decoding.sample_row import RowDraws, SampleRow
from penstock_decoding.sampler import Sampler
from penstock_decoding.strategy import Drawn, Live
from penstock_engine.ahead import Ahead
from penstock_engine.blocks import BlockAllocator
from penstock_engine.config import EngineStats
from penstock_engine.errors import QueueFull, RequestFailed, RequestRefused
from penstock_engine.group import Group
from penstock_engine.launches import Flight, Launches
from penstock_engine.limits import Limits, check_request
from penstock_engine.outputs import StepOutput
from penstock_engine.pace import Pace
from penstock_engine.preparation import RETRY_SECONDS, Preparation
from penstock_engine.reading import PartRead
from penstock_engine.record import told_going_on
from penstock_engine.request import GenerationRequest
from penstock_engine.runner import LaunchingRunner, Runner
from penstock_engine.scheduler import Scheduler
from penstock_kernels import Kernels


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that ended by a fault of its own."""

    message: str


Outputs = dict[Group, StepOutput | Failure]


class Engine:
    """Owns the scheduler, the sampler and the open requests; borrows the runner."""

    def __init__(
        self,
        runner: Runner,
        limits: Limits,
        *,
        prefix_caching: bool = True,
        catalogue: Catalogue = SHIPPED,
        vocabulary: Vocabulary | None = None,
        kernels: Kernels | None = None,
    ) -> None:
        """
        Args:
            runner: one that launches steps is given the next one before this one's tokens are looked at.
            vocabulary: the bytes of the model's tokens; without it a processor that needs them is refused.
            kernels: as for `Sampler`.
        """
        self.limits = limits
        self.catalogue = catalogue
        self._runner = runner
        self._has_vocabulary = vocabulary is not None
        resized = None if vocabulary is None else vocabulary.resized(limits.vocab_size)
        self._sampler = Sampler(catalogue, resized, kernels)
        self._ahead = Ahead(self._sampler)
        self._allocator = BlockAllocator(limits.num_blocks)
        self._scheduler = Scheduler(
            self._allocator,
            block_size=limits.block_size,
            max_batch_tokens=limits.max_batch_tokens,
            max_rows=limits.max_rows,
        )
        self._launches: Launches | None = None
        if isinstance(runner, LaunchingRunner):
            self._launches = Launches(runner, self._scheduler, self._rows_of)
        self._flight: Flight | None = None
        self._prefix_caching = prefix_caching
        self._groups: dict[str, Group] = {}
        self._preparations: list[Preparation] = []
        self._failed_between_steps: list[tuple[str, Failure]] = []
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
        return bool(self._groups or self._failed_between_steps or self._flight)

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

    def check_request(self, request: GenerationRequest) -> GuardedStrategy:
        """Its search, if the request can be served at all.

        Raises:
            RequestRefused: it could not be served even alone.
            RequestFailed: its strategy could not be made.
        """
        try:
            strategy = GuardedStrategy(request.decoding.strategy, self.catalogue, self.limits.vocab_size)
        except DecodingFault as error:
            raise RequestFailed(str(error)) from error
        check_request(request, strategy.max_live if request.stop.max_tokens > 0 else 1, self.limits)
        for step in request.decoding.chain:
            needs_vocabulary = getattr(self.catalogue.processors[step.name], "needs_vocabulary", False)
            if needs_vocabulary and not self._has_vocabulary:
                raise RequestRefused(step.name, "needs the tokens' texts, for which there is no tokenizer")
        return strategy

    def prepare(self, request: GenerationRequest) -> Preparation | None:
        """Begin what has to be done, off the step loop, before the request can be added; None for nothing.

        Raises:
            RequestRefused, RequestFailed: as `check_request`.
            QueueFull: so much is under way already; try again later.
        """
        self.check_request(request)
        if not self._sampler.prepares(request.decoding.chain):
            return None
        self._preparations = [preparation for preparation in self._preparations if not preparation.is_done]
        if len(self._preparations) >= self.limits.max_queue:
            raise QueueFull(len(self._preparations), RETRY_SECONDS)
        preparation = Preparation(request, self._sampler.prepare(request.decoding.chain))
        self._preparations.append(preparation)
        return preparation

    def add(self, request: GenerationRequest) -> None:
        """Queue a request.

        Raises:
            RequestRefused, RequestFailed: as `check_request`.
            QueueFull: try again later.
        """
        assert request.id not in self._groups, f"request id {request.id!r} is open already"
        strategy = self.check_request(request)
        num_waiting = len(self._scheduler.waiting)
        if num_waiting >= self.limits.max_queue:
            raise QueueFull(num_waiting, self._pace.seconds_for(num_waiting))
        # Without prefix caching nobody else shares a prompt's blocks; the request's own rows still do.
        salt = request.cache_salt if self._prefix_caching else secrets.token_hex(16)
        group = Group.of(request, strategy, self._num_arrived, self._scheduler.slots.take(), salt)
        self._num_arrived += 1
        self._num_prompt_tokens += len(request.prompt)
        self._groups[request.id] = group
        self._scheduler.add(group)
        if group.generates:
            self._ahead.add(group)

    def abort(self, request_id: str, choice: int | None = None) -> bool:
        """Stop one answer of a request, or all. Unknown ids are ignored.

        Its blocks are free when this returns, or, if a step that uses them is under way, when the next step does.

        Returns whether the request ended by it.
        """
        group = self._groups.get(request_id)
        if group is None:
            return False
        try:
            ended = list(range(len(group.rows))) if choice is None else group.strategy.drop(choice)
        except DecodingFault as error:
            self._failed_between_steps.append((request_id, self._fail(group, str(error))))
            return False
        self._drop_rows(group, ended)
        return request_id not in self._groups

    def step(self) -> list[tuple[str, StepOutput | Failure]]:
        """One step for every request whose turn it is. Returns what each got, by request id."""
        started = time.perf_counter()
        failed, self._failed_between_steps = self._failed_between_steps, []
        if not self._groups and self._flight is None:
            return [*failed]
        under_way, self._flight = self._flight, self._launch()
        if under_way is not None:
            outputs = self._land(under_way)
        elif self._flight is not None:
            outputs = []  # what it gives comes out of the next call
        else:
            outputs = self._compute()
        self._last_step_seconds = time.perf_counter() - started
        self._total_step_seconds += self._last_step_seconds
        return [*failed, *outputs]

    def _compute(self) -> list[tuple[str, StepOutput | Failure]]:
        """A whole step: schedule, forward, read, sample, advance."""
        batch = self._scheduler.schedule(self._ahead.still_late())
        if not batch.entries:
            self._ahead.wait()
        wanting = [entry.group for entry in batch.entries if entry.wants_logits]
        groups = list(dict.fromkeys(wanting))
        parts: dict[Group, PartRead] = {}
        if batch.is_read:
            logits, parts = self._runner.forward_and_read(batch)
        else:
            logits = self._runner.forward(batch)
        late = self._ahead.late(groups)
        self._scheduler.mark_computed(batch, late)
        told = {group: self._read(group, part) for group, part in parts.items()}
        passed_over = late.union(group for group, output in told.items() if isinstance(output, Failure))
        if passed_over:
            logits = logits[[i for i, group in enumerate(wanting) if group not in passed_over]]
            groups = [group for group in groups if group not in passed_over]
        draws = [_draw(group) for group in groups]
        rows = self._sample_rows(groups, draws)
        drawn = self._sampler.sample(logits, rows) if rows else []
        self._num_steps += 1
        advanced: Outputs = {
            group: self._advance(group, draw, drawn_rows)
            for draw, (group, drawn_rows) in zip(draws, _by_group(groups, drawn), strict=True)
        }
        outputs = _joined(told, advanced) if told else advanced
        return [(group.request.id, output) for group, output in outputs.items()]

    def _launch(self) -> Flight | None:
        """The next step, sent on its way before its tokens are needed, if that can be."""
        return None if self._launches is None else self._launches.launch()

    def _land(self, flight: Flight) -> list[tuple[str, StepOutput | Failure]]:
        """The other half of a launched step: wait, advance."""
        assert self._launches is not None, "a step was launched"
        self._num_steps += 1
        return [
            (group.request.id, self._advance(group, None, drawn))
            for group, drawn in self._launches.land(flight).items()
        ]

    def check(self) -> None:
        """Prove that nothing leaked.

        Raises:
            AssertionError: says what did.
        """
        self._scheduler.check()
        open_groups = {*self._scheduler.waiting, *self._scheduler.running}
        assert open_groups == set(self._groups.values()), "the engine and the scheduler disagree on what is open"

    def _sample_rows(self, groups: list[Group], draws: list[Draw | Failure]) -> list[SampleRow]:
        rows: list[SampleRow] = []
        for group, draw in zip(groups, draws, strict=True):
            decoding, stop_ids = group.request.decoding, group.request.stop.token_ids
            num_processed = decoding.num_processed_logprobs
            if group.watch is not None and num_processed is None:
                num_processed = 0  # a watch tells what each token adds to its hypothesis
            for i, sequence in enumerate(group.rows):
                # The rows of a search that has failed have their place in the logits; anything may be drawn for them.
                asked = BestTokens() if isinstance(draw, Failure) else draw.for_row(i)
                sample = asked.samples[0] if isinstance(asked, SampledTokens) else 0
                row = Row(len(rows), sequence.slot, sequence.prompt, sequence.output, stop_ids, decoding.seed, sample)
                rows.append(
                    SampleRow(row, decoding.chain, asked, decoding.num_logprobs, num_processed, decoding.chain_trace)
                )
        return rows

    def _read(self, group: Group, part: PartRead) -> StepOutput | Failure:
        """What a step told of a group's prompt. Ends the group if that was all it asked for."""
        assert group.reading is not None, "only a prompt that is read has parts"
        if part.fault is not None:
            self._scheduler.distrust(group)
            return self._fail(group, part.fault)
        told = group.reading.take(part)
        is_last = group.reading.is_over and not group.generates
        if is_last:
            self._drop_rows(group, range(len(group.rows)))
        return StepOutput((), is_last, group.num_cached_tokens, None, *told)

    def _rows_of(self, group: Group) -> list[SampleRow]:
        return self._sample_rows([group], [_draw(group)])

    def _advance(self, group: Group, draw: Draw | Failure | None, drawn: list[RowDraws]) -> StepOutput | Failure:
        if isinstance(draw, Failure):
            return self._fail(group, draw.message)
        fault = next((row.fault for row in drawn if row.fault is not None), None)
        if fault is not None:
            # Scores that are no numbers come from keys and values that are none, and those others would share.
            self._scheduler.distrust(group)
            return self._fail(group, fault)
        choices = group.strategy.going_on
        if choices is not None and group.watch is None:
            tokens = [int(row.tokens[0]) for row in drawn]
            if not _ends(group, tokens):
                return self._go_on(group, choices, tokens, drawn)
        live = Live(len(group.rows), group.num_generated)
        try:
            branches = group.strategy.advance(live, _stacked(drawn), group.stop)
        except (NoAnswer, DecodingFault) as error:
            return self._fail(group, str(error))
        told = group.record.tokens(branches, drawn)
        watched = None if group.watch is None else group.watch.step(branches, drawn)
        slots = [row.slot for row in group.rows]
        for source, target in self._scheduler.apply(group, branches):
            self._sampler.fork(source, target)
        self._release(slots, group)
        self._ahead.begin(group)
        self._num_generated_tokens += len(branches.token)
        return StepOutput(told, not group.rows, group.num_cached_tokens, watched)

    def _go_on(self, group: Group, choices: tuple[int, ...], tokens: list[int], drawn: list[RowDraws]) -> StepOutput:
        """What `_advance` comes to in nearly every step of nearly every request: a token for each row, and no end."""
        self._scheduler.go_on(group, tokens)
        self._ahead.begin(group)
        self._num_generated_tokens += len(tokens)
        return StepOutput(told_going_on(choices, tokens, drawn), False, group.num_cached_tokens)

    def _fail(self, group: Group, message: str) -> Failure:
        self._drop_rows(group, range(len(group.rows)))
        return Failure(message)

    def _drop_rows(self, group: Group, indices: "range | list[int]") -> None:
        slots = [row.slot for row in group.rows]
        if group.watch is not None:
            group.watch.drop(indices)
        self._scheduler.drop_rows(group, indices)
        self._release(slots, group)

    def _release(self, slots: list[int], group: Group) -> None:
        """Forget the slots among these that the group no longer has, and the group when it has none."""
        kept = {row.slot for row in group.rows}
        for slot in slots:
            if slot not in kept:
                self._sampler.release(slot)
                if self._launches is not None:
                    self._launches.release(group, slot)
        if not group.rows:
            del self._groups[group.request.id]
            self._ahead.forget(group)
            self._pace.finished()


def _draw(group: Group) -> Draw | Failure:
    try:
        return group.strategy.draw(Live(len(group.rows), group.num_generated), group.stop)
    except DecodingFault as error:
        return Failure(str(error))


def _ends(group: Group, tokens: list[int]) -> bool:
    """Whether one of these tokens is the last of its answer: see `StopRule.finishes`."""
    num_generated, stop = group.num_generated + 1, group.request.stop
    if num_generated >= stop.max_tokens:
        return True
    return num_generated > stop.min_tokens and any(token in stop.token_ids for token in tokens)


def _joined(of_prompts: Outputs, of_tokens: Outputs) -> Outputs:
    """One output a group: what was told of its prompt, and the tokens that it got in the same step."""
    joined = of_prompts | of_tokens
    for group in of_prompts.keys() & of_tokens.keys():
        told, advanced = of_prompts[group], of_tokens[group]
        if isinstance(told, StepOutput) and isinstance(advanced, StepOutput):
            joined[group] = advanced._replace(prompt_logprobs=told.prompt_logprobs, embedding=told.embedding)
    return joined


def _by_group(groups: list[Group], drawn: list[RowDraws]) -> list[tuple[Group, list[RowDraws]]]:
    # Sizes are read before any group advances: advancing changes the number of rows.
    parts, start = [], 0
    for group in groups:
        parts.append((group, drawn[start : start + len(group.rows)]))
        start += len(group.rows)
    return parts


def _stacked(drawn: list[RowDraws]) -> Drawn:
    perturbed = [row.perturbed for row in drawn if row.perturbed is not None]
    return Drawn(
        np.stack([row.tokens for row in drawn]),
        np.stack([row.logprobs for row in drawn]),
        np.stack(perturbed) if perturbed else None,
    )
