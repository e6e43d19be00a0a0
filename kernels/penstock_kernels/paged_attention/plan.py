"""How the reference attends: which sequences share one call, and the gather and the mask of each call.

Sequences with equally many new tokens are attended together, their keys padded to the longest. A padded position
repeats the slot of the sequence's own last key and is masked out, so that nothing of a neighbour is ever read.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from penstock_kernels.paged_attention import AttentionPlan, AttentionShape, DecodingPlan, DecodingRows
from penstock_kernels.paged_attention.batch import AttentionBatch, IntArray

# Keys begin and end at absolute multiples of this, the depth of a bf16 matrix tile (two vector registers of float32). A
# query's sums are then formed in the same order whatever its neighbours' lengths are and wherever its chunk begins: in
# bf16 on AMX a token has the same bits alone, in a chunk and in the whole prompt. With 16, some differed.
KEY_MULTIPLE = 32
# The queries of a long row are padded to a multiple of this: a product with a single row, which a tail of one query
# would be, takes another routine with other sums.
QUERY_MULTIPLE = 16
# Fewer queries of one key head than this are padded to it, for the same reason: on Zen 5, which has bf16 vectors and no
# matrix unit, products with 1 to 3 rows sum in another order (head sizes 16 to 256, 32 to 4096 keys were tried), on AMX
# those with 1. Four rows take 1.2 times as long as two, and a third of the time of one.
MIN_QUERIES = 4
# Sequences with more new tokens than this have enough work for a call of their own.
MAX_SHARED_QUERY_LEN = 16
# One more call costs about as much as gathering and attending this many padded keys (30 us against 0.06 to 0.3 us).
CALL_COST_IN_KEYS = 256


@dataclass(frozen=True, slots=True)
class AttentionGroup:
    """Sequences attended in one call: `num_rows` of them, `query_len` new tokens each, keys padded to `key_len`.

    tokens: [num_rows * query_len] which of the step's tokens these are, or None for all of them in order.
    slots: [num_rows * key_len] cache slots of the keys, row after row.
    mask: added to the scores. None if nothing is masked; [num_rows, 1, queries, key_len] where rows share a call
        (queries = query_len * query heads per key head, at least MIN_QUERIES, or 1 if query_len is 1); for a single
        long row [query_len rounded up to QUERY_MULTIPLE, key_len], where the rows past query_len mean nothing.
    """

    num_rows: int
    query_len: int
    key_len: int
    tokens: Tensor | None
    slots: Tensor
    mask: Tensor | None


@dataclass(frozen=True, slots=True)
class GroupedPlan(AttentionPlan):
    """The calls of a layer, by its window."""

    groups: Mapping[int | None, tuple[AttentionGroup, ...]]


class GroupedDecodingPlan(DecodingPlan):
    """Reads the lengths on the host and groups the rows as if they had just arrived. Padding attends one key."""

    def __init__(self, rows: DecodingRows, shape: AttentionShape) -> None:
        self._rows = rows
        self._shape = shape
        self.grouped: GroupedPlan | None = None

    def refresh(self) -> None:
        """See `DecodingPlan.refresh`."""
        context_lens = np.maximum(self._rows.context_lens.cpu().numpy().astype(np.int64), 1)
        # Two steps: the columns that no context reaches may be many, and stay on the device.
        columns = -(-int(context_lens.max()) // self._rows.block_size)
        tables = self._rows.block_tables[:, :columns].index_select(0, self._rows.table_rows)
        batch = AttentionBatch(
            query_lens=np.ones_like(context_lens),
            context_lens=context_lens,
            block_tables=tables.cpu().numpy().astype(np.int64),
            block_size=self._rows.block_size,
        )
        self.grouped = plan_attention(batch, self._shape, self._rows.context_lens.device)

    def first(self, num_rows: int) -> "GroupedDecodingPlan":
        """See `DecodingPlan.first`."""
        rows = self._rows
        return GroupedDecodingPlan(
            DecodingRows(rows.context_lens[:num_rows], rows.table_rows[:num_rows], rows.block_tables, rows.block_size),
            self._shape,
        )

    def can_hold(self, context_lens: IntArray) -> bool:
        """Always: there is no workspace."""
        return True


def plan_decoding(rows: DecodingRows, shape: AttentionShape, max_context: int) -> GroupedDecodingPlan:
    """See `PlanDecoding`."""
    return GroupedDecodingPlan(rows, shape)


def plan_attention(batch: AttentionBatch, shape: AttentionShape, device: torch.device) -> GroupedPlan:
    """See `PlanAttention`."""
    # Wide enough for the longest context rounded up; what is past a row's own blocks is masked out.
    num_columns = -(-round_up(int(batch.context_lens.max())) // batch.block_size)
    tables = batch.block_tables[:, :num_columns]
    tables = np.pad(tables, ((0, 0), (0, num_columns - tables.shape[1])))
    key_slots = (tables[:, :, None] * batch.block_size + np.arange(batch.block_size)).reshape(len(tables), -1)
    queries_per_key = shape.num_heads // shape.num_kv_heads
    return GroupedPlan(
        {
            window: plan_groups(batch.query_lens, batch.context_lens, key_slots, window, queries_per_key, device)
            for window in shape.windows
        }
    )


def plan_groups(
    query_lens: IntArray,
    context_lens: IntArray,
    key_slots: IntArray,
    window: int | None,
    queries_per_key: int,
    device: torch.device,
) -> tuple[AttentionGroup, ...]:
    """Plan the calls of one layer.

    Args:
        query_lens, context_lens: [S], as in `AttentionBatch`.
        key_slots: [S, at least the longest context rounded up to KEY_MULTIPLE], the slot of each position; anything
            past a row's context.
    """
    # The first key that the first new token sees.
    first_keys = np.zeros_like(context_lens) if window is None else context_lens - query_lens + 1 - window
    np.maximum(first_keys // KEY_MULTIPLE * KEY_MULTIPLE, 0, out=first_keys)
    all_key_lens = context_lens - first_keys
    first_tokens = np.cumsum(query_lens) - query_lens
    groups = []
    for rows in _partition(query_lens, all_key_lens):
        whole = len(rows) == len(query_lens)
        query_len, key_lens = int(query_lens[rows[0]]), all_key_lens[rows]
        shared = query_len <= MAX_SHARED_QUERY_LEN
        key_len = round_up(int(key_lens.max()))
        offsets = np.arange(key_len)
        slots = key_slots if whole else key_slots[rows]
        if window is None:
            slots = slots[:, :key_len]
        else:
            columns = np.minimum(first_keys[rows, None] + offsets, context_lens[rows, None] - 1)
            slots = np.take_along_axis(slots, columns, axis=1)
        own = offsets < key_lens[:, None]
        padded = not own.all()
        if padded:
            slots = np.where(own, slots, key_slots[rows, context_lens[rows] - 1, None])

        mask = None
        if query_len > 1 or window is not None:
            mask = _mask(_visible(key_lens, query_len, offsets, window), queries_per_key if shared else 1, device)
        elif padded:
            mask = _mask(own[:, None], 1, device)
        tokens = None if whole else (first_tokens[rows, None] + np.arange(query_len)).reshape(-1)
        groups.append(
            AttentionGroup(
                num_rows=len(rows),
                query_len=query_len,
                key_len=key_len,
                tokens=None if tokens is None else torch.from_numpy(tokens).to(device),
                slots=torch.from_numpy(slots.reshape(-1)).to(device),
                mask=mask,
            )
        )
    return tuple(groups)


def round_up(length: int) -> int:
    """To a multiple of KEY_MULTIPLE."""
    return -(-length // KEY_MULTIPLE) * KEY_MULTIPLE


def _partition(query_lens: IntArray, key_lens: IntArray) -> Iterator[IntArray]:
    """The rows of each call, in rising order within a call."""
    if query_lens[0] <= MAX_SHARED_QUERY_LEN and (query_lens == query_lens[0]).all():
        yield from _buckets(np.arange(len(query_lens)), key_lens)
        return
    for query_len in np.unique(query_lens):
        rows = np.flatnonzero(query_lens == query_len)
        if query_len <= MAX_SHARED_QUERY_LEN:
            yield from _buckets(rows, key_lens)
        else:
            yield from rows[:, None]


def _buckets(rows: IntArray, key_lens: IntArray) -> Iterator[IntArray]:
    """Split rows by length, longest first, wherever a further call costs less than the padding it saves."""
    rows = rows[np.argsort(-key_lens[rows], kind="stable")]
    lengths = key_lens[rows]
    while len(rows):
        saved = (lengths[0] - lengths) * np.arange(len(rows), 0, -1)
        split = int((saved > CALL_COST_IN_KEYS).argmax()) or len(rows)
        yield np.sort(rows[:split])
        rows, lengths = rows[split:], lengths[split:]


def _visible(key_lens: IntArray, query_len: int, offsets: IntArray, window: int | None) -> NDArray[np.bool_]:
    """[rows, query_len, keys]: each query sees from `window` - 1 keys before its own to its own."""
    own = key_lens[:, None] - query_len + np.arange(query_len)
    behind = own[:, :, None] - offsets
    visible: NDArray[np.bool_] = behind >= 0
    return visible if window is None else visible & (behind < window)


def _mask(visible: NDArray[np.bool_], queries_per_key: int, device: torch.device) -> Tensor:
    """0 where visible, -inf elsewhere; [rows, query_len, keys] becomes the shape that `AttentionGroup.mask` tells."""
    mask = np.where(visible, np.float32(0), np.float32(-np.inf))
    num_rows, query_len, key_len = mask.shape
    if query_len > MAX_SHARED_QUERY_LEN:
        return torch.from_numpy(np.pad(mask[0], ((0, -query_len % QUERY_MULTIPLE), (0, 0)))).to(device)
    if query_len > 1:
        mask = np.repeat(mask, queries_per_key, axis=1)
        mask = np.pad(mask, ((0, 0), (0, max(MIN_QUERIES - mask.shape[1], 0)), (0, 0)), mode="edge")
    return torch.from_numpy(mask.reshape(num_rows, 1, -1, key_len)).to(device)
