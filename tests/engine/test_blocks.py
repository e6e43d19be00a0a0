"""`BlockAllocator` under random use: no block is ever lost, held twice or found under a wrong digest."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock_engine.blocks import BlockAllocator, OutOfBlocks

NUM_BLOCKS = 6


class Allocator(RuleBasedStateMachine):
    """Tables of blocks beside the allocator's own books."""

    def __init__(self) -> None:
        super().__init__()
        self.allocator = BlockAllocator(NUM_BLOCKS)
        self.tables: list[list[int]] = []
        self.digests: dict[int, bytes] = {}

    @rule()
    def take(self) -> None:
        if self.allocator.num_available:
            block = self.allocator.take()
            self.digests.pop(block, None)
            self.tables.append([block])
        else:
            with pytest.raises(OutOfBlocks):
                self.allocator.take()

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        table = data.draw(st.sampled_from(self.tables))
        for block in table:
            self.allocator.share(block)
        self.tables.append(list(table))

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        table = data.draw(st.sampled_from(self.tables))
        self.tables.remove(table)
        self.allocator.drop(table)

    @precondition(lambda self: self.tables)
    @rule(data=st.data(), name=st.integers(0, 3))
    def register(self, data: st.DataObject, name: int) -> None:
        block = data.draw(st.sampled_from(self.tables))[0]
        self.allocator.register(block, bytes([name]))
        if self.allocator.find(bytes([name])) == block:
            self.digests[block] = bytes([name])

    @rule(name=st.integers(0, 3))
    def take_found(self, name: int) -> None:
        block = self.allocator.find(bytes([name]))
        if block is not None:
            assert self.digests[block] == bytes([name]), "the block holds another prefix"
            self.allocator.take_found(block)
            self.tables.append([block])

    @invariant()
    def books_are_right(self) -> None:
        self.allocator.check(self.tables)
        in_use = {block for table in self.tables for block in table}
        assert self.allocator.num_in_use == len(in_use)


TestAllocator = Allocator.TestCase
TestAllocator.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_check_finds_a_leak() -> None:
    """The proof that nothing leaked can fail: a block taken and put in no table is reported by number."""
    allocator = BlockAllocator(3)
    block = allocator.take()
    with pytest.raises(AssertionError, match=f"block {block}"):
        allocator.check([])


def test_the_deepest_block_of_a_sequence_is_given_away_first() -> None:
    """A prefix serves more prompts than what follows it, so its start is kept longest."""
    allocator = BlockAllocator(3)
    table = [allocator.take() for _ in range(3)]
    for block in table:
        allocator.register(block, bytes([block]))
    allocator.drop(reversed(table))
    assert [allocator.take() for _ in range(3)] == table[::-1]
