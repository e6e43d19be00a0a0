"""`AttentionBatch`: where the keys of each sequence of a step lie, and the plan of how to attend, for all layers.

Built once per step on the host, in numpy; no layer recomputes any of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from penstock_kernels.paged_attention.plan import AttentionGroup, plan_groups, round_up

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class AttentionBatch:
    """The sequences of one step: S sequences, whose tokens lie one after another.

    query_lens: [S] new tokens of each, at least 1.
    context_lens: [S] keys visible to the last new token of each, itself included.
    block_tables: [S, columns] block ids; entries past the context mean nothing.
    groups: for each window among the model's layers, how the reference attends.
    """

    query_lens: IntArray
    context_lens: IntArray
    block_tables: IntArray
    block_size: int
    groups: Mapping[int | None, tuple[AttentionGroup, ...]]

    @classmethod
    def build(
        cls,
        query_lens: Sequence[int],
        context_lens: Sequence[int],
        block_tables: Sequence[Sequence[int]],
        *,
        block_size: int,
        windows: Iterable[int | None],
        queries_per_key: int,
        device: torch.device,
    ) -> "AttentionBatch":
        """Plan a step.

        Args:
            block_tables: at least ceil(context_len / block_size) block ids for each sequence; more are allowed.
            windows: the distinct windows of the model's layers.
            queries_per_key: query heads that share a key head.

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
        num_columns = -(-round_up(int(contexts.max())) // block_size)
        tables = _padded(block_tables, lengths, num_columns)
        key_slots = (tables[:, :num_columns, None] * block_size + np.arange(block_size)).reshape(len(tables), -1)
        groups = {
            window: plan_groups(queries, contexts, key_slots, window, queries_per_key, device) for window in windows
        }
        return cls(queries, contexts, tables, block_size, groups)

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


def _padded(block_tables: Sequence[Sequence[int]], lengths: IntArray, num_columns: int) -> IntArray:
    """The tables as one array, at least `num_columns` wide, 0 where a table has ended."""
    padded = np.zeros((len(lengths), max(int(lengths.max()), num_columns)), dtype=np.int64)
    filled = np.arange(padded.shape[1]) < lengths[:, None]
    padded[filled] = np.fromiter(chain.from_iterable(block_tables), dtype=np.int64, count=int(lengths.sum()))
    return padded
