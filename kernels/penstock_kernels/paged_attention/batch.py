"""`AttentionBatch`: how many tokens and keys each sequence of a step has, and in which blocks; on the host."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class AttentionBatch:
    """The sequences of one step: S sequences, whose tokens lie one after another.

    query_lens: [S] new tokens of each, at least 1.
    context_lens: [S] keys visible to the last new token of each, itself included.
    block_tables: [S, columns] block ids, 0 where a sequence has no more; entries past the context mean nothing.
    """

    query_lens: IntArray
    context_lens: IntArray
    block_tables: IntArray
    block_size: int

    @classmethod
    def build(
        cls,
        query_lens: Sequence[int],
        context_lens: Sequence[int],
        block_tables: Sequence[Sequence[int]],
        *,
        block_size: int,
    ) -> "AttentionBatch":
        """Put a step's sequences together.

        Args:
            block_tables: at least ceil(context_len / block_size) block ids for each sequence; more are allowed.

        Raises:
            ValueError: a sequence has no new token, fewer keys than new tokens, or too few blocks.
        """
        queries = np.asarray(query_lens, dtype=np.int64)
        contexts = np.asarray(context_lens, dtype=np.int64)
        lengths = np.fromiter(map(len, block_tables), dtype=np.int64, count=len(block_tables))
        if not len(queries) == len(contexts) == len(lengths):
            raise ValueError(f"{len(queries)} query lengths, {len(contexts)} context lengths, {len(lengths)} tables")
        bad = (queries < 1) | (contexts < queries) | (lengths * block_size < contexts)
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(
                f"sequence {row} has {queries[row]} new tokens, {contexts[row]} keys"
                f" and {lengths[row]} blocks of {block_size}"
            )
        return cls(queries, contexts, _padded(block_tables, lengths), block_size)

    def positions(self) -> IntArray:
        """The position of every new token, sequence after sequence."""
        ends = np.cumsum(self.query_lens)
        starts = self.context_lens - self.query_lens
        positions: IntArray = np.arange(ends[-1]) + np.repeat(starts - (ends - self.query_lens), self.query_lens)
        return positions

    def slots(self, positions: IntArray) -> IntArray:
        """The cache slot of every new token, given what `positions` returned."""
        rows = np.repeat(np.arange(len(self.query_lens)), self.query_lens)
        blocks: IntArray = self.block_tables[rows, positions // self.block_size]
        return blocks * self.block_size + positions % self.block_size


def _padded(block_tables: Sequence[Sequence[int]], lengths: IntArray) -> IntArray:
    """The tables as one array, 0 where a table has ended."""
    padded = np.zeros((len(lengths), int(lengths.max())), dtype=np.int64)
    filled = np.arange(padded.shape[1]) < lengths[:, None]
    padded[filled] = np.fromiter(chain.from_iterable(block_tables), dtype=np.int64, count=int(lengths.sum()))
    return padded
