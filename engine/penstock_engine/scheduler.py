"""`Scheduler`: gives sequences their share of each step's token budget, and blocks of the KV cache to write into.

It knows counts, not contents: no tensor, no text, no probability. Order is (priority, arrival) everywhere: who is
served first is preempted last, so the first one always gets on and every request ends.

Invariants: a waiting group holds no block; a running one holds what its computed tokens need; a group's rows are
computed, preempted and advanced together.

Most steps only decode, and what they compute does not depend on which tokens the step before chose, but for those
tokens themselves, which the device knows. Such a step can be launched while the one before is still under way:

    schedule_next() -> launch()      step t + 1, as if each row of step t had got its token and went on
                       land()        step t has gone through the model; then `apply` and `drop_rows`

A row that turns out to have ended at step t is computed once too often. It keeps its blocks until step t + 1 has
landed: nobody else gets a block that a launched step still writes to. While a step is under way nothing is preempted.

A prompt that is read (`reading.py`) has to be computed for that, so its group takes from the prefix cache only what has
been read already: nothing when it is admitted, and when it comes back from a preemption what it had told before. What
it computes can be found by others as ever. Steps are not launched ahead while a running group still reads.
"""

from bisect import insort
from collections import Counter
from collections.abc import Container, Iterable

from penstock_decoding.finish import Finish
from penstock_decoding.strategy import Branches
from penstock_engine.batch import Batch, Entry
from penstock_engine.blocks import BlockAllocator
from penstock_engine.group import Group
from penstock_engine.prefix_hash import block_digest
from penstock_engine.sequence import Sequence
from penstock_engine.slots import SlotPool
from penstock_engine.step_plan import StepPlan


class Scheduler:
    """Waiting and running groups, and the rules by which they move."""

    def __init__(self, allocator: BlockAllocator, *, block_size: int, max_batch_tokens: int, max_rows: int) -> None:
        assert max_batch_tokens >= max_rows, "every row must be able to decode in one step"
        self.allocator = allocator
        self.slots = SlotPool()
        self.waiting: list[Group] = []
        self.running: list[Group] = []
        self.num_preemptions = 0
        self.num_prefix_query_tokens = 0
        self.num_prefix_hit_tokens = 0
        self._block_size = block_size
        self._max_batch_tokens = max_batch_tokens
        self._max_rows = max_rows
        # Batches under way, oldest first, each with the block tables that it was launched with.
        self._launched: list[tuple[Batch, list[list[int]]]] = []
        self._departing: list[int] = []  # blocks of rows that have ended, until the launched steps have landed

    def add(self, group: Group) -> None:
        """Queue a group. It must fit the cache when alone (`limits.check_request`)."""
        insort(self.waiting, group, key=_order)

    def schedule(self, held: Container[Group] = ()) -> Batch:
        """This step's work: decoding rows first, then prompts under way, then new ones, each in order.

        Groups in `held` cannot choose a token yet: those that only miss their last one are left out.
        """
        assert not self._launched, "what is under way has to land first"
        plan = StepPlan(self._max_batch_tokens)
        for group in [group for group in self.running if group.is_ready and group not in held]:
            if group in self.running:  # not preempted for an earlier one
                self._plan_decode(plan, group)
        for group in [group for group in self.running if not group.is_ready]:
            if group in self.running:
                self._plan_prefill(plan, group)
        self._admit(plan)
        return plan.batch()

    def mark_computed(self, batch: Batch, late: Container[Group] = ()) -> None:
        """The batch went through the model: its tokens are in the cache, and full blocks can be found by others.

        Groups in `late` wanted logits and did not use them: their last tokens are to be computed again.
        """
        for entry in batch.entries:
            row = entry.sequence
            first_new = row.num_computed // self._block_size
            row.num_computed += entry.num_tokens - (entry.group in late)
            for i in range(first_new, row.num_computed // self._block_size):
                self.allocator.register(row.block_table[i], self._digest(entry.group, row, i))

    def schedule_next(self) -> Batch | None:
        """The step after the one under way, or the next one if none is, if all it has to do is to decode.

        None if a prompt has to be computed or a request to be admitted, if blocks have to be copied or are too few, or
        if no row goes on. The caller has made sure that no row waits for anything but its last token, and that no
        prompt is still to be read.
        """
        if self._can_admit() or not all(group.is_ready for group in self.running):
            return None
        # Rows for which the step under way chooses their last token by `max_tokens` have nothing left to decode.
        rows = [(group, row) for group in self.running for row in group.rows if not _is_last_flying(group, row)]
        growing = []
        for _, row in rows:
            place = row.num_computed // self._block_size
            if place == len(row.block_table):
                growing.append(row)
            elif self.allocator.is_shared(row.block_table[place]):
                return None
        if not rows or len(rows) > self._max_batch_tokens or len(growing) > self.allocator.num_available:
            return None
        for row in growing:
            row.block_table.append(self.allocator.take())
        return Batch(tuple(Entry(group, row, 1) for group, row in rows), copies=())

    def launch(self, batch: Batch) -> None:
        """The batch, from `schedule_next`, is on its way: its rows have a further token that nobody knows yet."""
        self._launched.append((batch, [entry.sequence.block_table for entry in batch.entries]))
        for entry in batch.entries:
            entry.sequence.num_computed += 1
            entry.sequence.num_flying += 1

    def land(self, batch: Batch) -> None:
        """The batch launched first has gone through the model. Its tokens are to be applied next."""
        assert self._launched.pop(0)[0] is batch, "steps land in the order in which they were launched"
        # All these blocks left while no later step than this one was under way.
        self.allocator.drop(self._departing)
        self._departing = []
        for entry in batch.entries:
            row = entry.sequence
            if not row.is_live:
                continue
            num_landed = row.num_computed - row.num_flying + 1
            row.num_flying -= 1
            if num_landed % self._block_size == 0:
                index = num_landed // self._block_size - 1
                self.allocator.register(row.block_table[index], self._digest(entry.group, row, index))

    def apply(self, group: Group, branches: Branches) -> list[tuple[int, int]]:
        """Go on with these branches. Returns the forks made, as (source slot, target slot), before any slot is freed.

        A live row with no open branch is freed; its first open branch is appended in place; each further one forks.
        """
        continued: dict[int, Sequence] = {}
        rows, forks = [], []
        is_open = branches.finish == Finish.OPEN
        for parent, token in zip(branches.parent[is_open].tolist(), branches.token[is_open].tolist(), strict=True):
            row = group.rows[parent]
            if parent in continued:
                row = self._fork(row, group.num_generated)
                forks.append((group.rows[parent].slot, row.slot))
            continued[parent] = row
            row.output.append(token)
            rows.append(row)
        ended = [row for i, row in enumerate(group.rows) if i not in continued]
        group.rows = rows
        group.num_generated += 1
        self._end_rows(group, ended)
        return forks

    def go_on(self, group: Group, tokens: Iterable[int]) -> None:
        """As `apply`, where each row continues with one token."""
        for row, token in zip(group.rows, tokens, strict=True):
            row.output.append(token)
        group.num_generated += 1

    def distrust(self, group: Group) -> None:
        """What a group has computed is not to be found in the cache: it may be as broken as its scores were."""
        for row in group.rows:
            self.allocator.forget(row.block_table)

    def drop_rows(self, group: Group, indices: Iterable[int]) -> None:
        """End some live rows of a group; without any left the group is over."""
        dropped = set(indices)
        ended = [row for i, row in enumerate(group.rows) if i in dropped]
        group.rows = [row for i, row in enumerate(group.rows) if i not in dropped]
        self._end_rows(group, ended)

    def check(self) -> None:
        """Prove that no block and no slot is lost, and that waiting groups hold none.

        Raises:
            AssertionError: says what is wrong.
        """
        tables = [row.block_table for group in self.running for row in group.rows]
        self.allocator.check([*tables, self._departing])
        held = {block for table in [*tables, self._departing] for block in table}
        for _, launched in self._launched:
            assert all(map(held.issuperset, launched)), "a launched step has lost a block"
        flying = Counter(entry.sequence for batch, _ in self._launched for entry in batch.entries)
        rows = [row for group in [*self.waiting, *self.running] for row in group.rows]
        assert all(row.num_flying == flying[row] for row in rows), "rows and launched steps disagree"
        assert self._launched or not self._departing, "no step is under way, and blocks are held for one"
        assert not any(row.block_table for group in self.waiting for row in group.rows), "a waiting group holds blocks"
        num_alive = sum(len(group.rows) for group in [*self.waiting, *self.running])
        assert self.slots.num_taken == num_alive, f"{self.slots.num_taken} slots taken for {num_alive} sequences"

    def _plan_decode(self, plan: StepPlan, group: Group) -> None:
        if len(group.rows) > plan.budget:
            return
        for row in group.rows:
            if not self._reserve(plan, group, row, 1):
                return

    def _plan_prefill(self, plan: StepPlan, group: Group) -> None:
        """Compute what the group's rows miss, in order. A row whose next block an earlier one is about to compute waits
        for that: it then finds what they share in the cache, so that coming back takes no more room than before."""
        # All rows decode in one step or none: with several, each stops one token short until all are there.
        held_back = 0 if len(group.rows) == 1 else 1
        under_way: set[bytes] = set()
        for row in group.rows:
            if not row.block_table:
                if under_way and self._next_digest(group, row) in under_way:
                    continue
                self._match_prefix(group, row)
            num_missing = row.num_missing - held_back
            num_tokens = min(num_missing, plan.budget)
            if num_tokens > 0:
                if not self._reserve(plan, group, row, num_tokens):
                    return
                first, end = row.num_computed // self._block_size, (row.num_computed + num_tokens) // self._block_size
                under_way.update(self._digest(group, row, i) for i in range(first, end))
            if num_tokens < num_missing:
                return

    def _admit(self, plan: StepPlan) -> None:
        while plan.budget > 0 and self._can_admit():
            group = self.waiting.pop(0)
            insort(self.running, group, key=_order)
            self._plan_prefill(plan, group)
            if group not in self.running:
                return

    def _can_admit(self) -> bool:
        """Whether the group that has waited longest could run beside the others."""
        if not self.waiting:
            return False
        num_rows = sum(group.max_live for group in (*self.running, self.waiting[0]))
        return num_rows <= self._max_rows and self._has_room(self.waiting[0])

    def _has_room(self, group: Group) -> bool:
        """Whether the group's present tokens fit beside the running ones, with a block to grow for each of those."""
        if not self.running:
            return True
        first = group.rows[0]
        found = self._found_prefix(group, first)
        num_in_use = sum(not self.allocator.is_cached(block) for block in found)
        needed = self._num_blocks(first.num_tokens + 1) - num_in_use
        num_shared = len(first.prompt) // self._block_size
        needed += sum(self._num_blocks(row.num_tokens + 1) - num_shared for row in group.rows[1:])
        return self.allocator.num_available >= needed + sum(len(other.rows) for other in self.running)

    def _reserve(self, plan: StepPlan, group: Group, row: Sequence, num_tokens: int) -> bool:
        """Make the row's next `num_tokens` slots its own to write, and plan them. Preempts from the end of the order.

        Returns False if the group itself had to go.
        """
        first = row.num_computed // self._block_size
        while True:
            is_copied = first < len(row.block_table) and self.allocator.is_shared(row.block_table[first])
            num_new = self._num_blocks(row.num_computed + num_tokens) - len(row.block_table)
            if self.allocator.num_available >= num_new + is_copied:
                break
            victim = self.running[-1]
            self._preempt(victim)
            plan.remove(victim)
            if victim is group:
                return False
        copy = None
        if is_copied:
            source, own = row.block_table[first], self.allocator.take()
            row.block_table = [*row.block_table[:first], own, *row.block_table[first + 1 :]]
            self.allocator.drop([source])
            copy = source, own
        row.block_table.extend(self.allocator.take() for _ in range(num_new))
        plan.add(Entry(group, row, num_tokens), copy)
        return True

    def _preempt(self, group: Group) -> None:
        """Back to the queue, in its old place; what it had computed is computed again, or found in the cache."""
        for row in group.rows:
            self._free_blocks(row)
        self.running.remove(group)
        insort(self.waiting, group, key=_order)
        self.num_preemptions += 1

    def _match_prefix(self, group: Group, row: Sequence) -> None:
        found = self._found_prefix(group, row)
        for block in found:
            self.allocator.take_found(block)
        row.block_table = found
        row.num_computed = len(found) * self._block_size
        if not group.was_admitted:
            group.was_admitted = True
            group.num_cached_tokens = row.num_computed
            self.num_prefix_query_tokens += row.num_tokens
            self.num_prefix_hit_tokens += row.num_computed

    def _found_prefix(self, group: Group, row: Sequence) -> list[int]:
        """Blocks that hold the row's start. Never all of its tokens: the last one must be computed for its logits, and
        so must those of a prompt that are still to be read."""
        found: list[int] = []
        num_usable = row.num_tokens - 1
        if group.reading is not None and group.is_reading:
            num_usable = min(num_usable, group.reading.num_read)
        for i in range(num_usable // self._block_size):
            block = self.allocator.find(self._digest(group, row, i))
            if block is None:
                break
            found.append(block)
        return found

    def _next_digest(self, group: Group, row: Sequence) -> bytes | None:
        """That of the first full block of the row that is not in the cache; None if all are."""
        index = len(self._found_prefix(group, row))
        return self._digest(group, row, index) if index < row.num_tokens // self._block_size else None

    def _digest(self, group: Group, row: Sequence, index: int) -> bytes:
        while len(row.digests) <= index:
            start = len(row.digests) * self._block_size
            parent = row.digests[-1] if row.digests else group.root
            row.digests.append(block_digest(parent, row.tokens(start, start + self._block_size)))
        return row.digests[index]

    def _fork(self, row: Sequence, num_output: int) -> Sequence:
        """A sequence that begins with the row's first `num_output` tokens and shares its blocks."""
        for block in row.block_table:
            self.allocator.share(block)
        return Sequence(
            slot=self.slots.take(),
            prompt=row.prompt,
            output=row.output[:num_output],
            block_table=list(row.block_table),
            num_computed=row.num_computed,
            digests=list(row.digests),
        )

    def _end_rows(self, group: Group, rows: Iterable[Sequence]) -> None:
        for row in rows:
            row.is_live = False
            self._free_blocks(row)
            self.slots.give_back(row.slot)
        if not group.rows:
            (self.running if group in self.running else self.waiting).remove(group)

    def _free_blocks(self, row: Sequence) -> None:
        if row.num_flying:
            self._departing += reversed(row.block_table)
        else:
            self.allocator.drop(reversed(row.block_table))
        row.block_table = []
        row.num_computed = 0

    def _num_blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self._block_size)


def _is_last_flying(group: Group, row: Sequence) -> bool:
    return group.num_generated + row.num_flying >= group.stop.max_tokens


def _order(group: Group) -> tuple[int, int]:
    return group.order
