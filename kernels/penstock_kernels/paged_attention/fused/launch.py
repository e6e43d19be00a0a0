"""The launchers: what `PagedAttention`, `PlanAttention` and `PlanDecoding` are in the fused tables."""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from penstock_kernels.layer_cache import LayerCache
from penstock_kernels.paged_attention import (
    AttentionPlan,
    AttentionRule,
    AttentionShape,
    DecodingPlan,
    DecodingRows,
)
from penstock_kernels.paged_attention.batch import AttentionBatch, IntArray
from penstock_kernels.paged_attention.fused.attend import attend
from penstock_kernels.paged_attention.fused.list_work import compare_tables, list_work
from penstock_kernels.paged_attention.fused.tiles import (
    CACHE_DTYPES,
    COMBINE_ROWS,
    FEW_ROWS,
    FLOAT8_CAPABILITY,
    LARGEST_HEAD_SIZE,
    combine_splits,
    head_pad,
    num_rows,
    tile,
)
from penstock_kernels.paged_attention.work import (
    NO_WINDOW,
    SPLIT,
    Sequences,
    Walk,
    WorkList,
    WorkPlan,
    Workspace,
    num_slots,
    num_splits,
)

# A step whose tiles with many queries are fewer than this splits their keys among programs too, where the results fit.
# A100, H100 and H200 have 108 and 132 SMs.
ENOUGH_PROGRAMS = 128
# Of the workspace of such a step.
MAX_SPLIT_BYTES = 1 << 26
# Of a workspace, so that 32 bits address it: 8 GiB.
MAX_ELEMENTS = (1 << 31) - 1
# Of a decoding plan: for 32 heads of 128, 256 rows at 32k keys.
MAX_DECODING_BYTES = 1 << 28
# Programs that walk a list, per SM: two tiles with three stages of keys and values in flight share its shared memory.
PROGRAMS_PER_SM = 2

CHUNK = 64
COLUMNS = 256


def plan_attention(
    batch: AttentionBatch, shape: AttentionShape, device: torch.device, *, share_prefixes: bool = True
) -> WorkPlan:
    """See `PlanAttention`. `share_prefixes`: read common blocks of decoding rows once; the bits are the same without.

    Raises:
        ValueError: no kernel for this block size or head size.
    """
    _check(shape, batch.block_size)
    num_sequences = len(batch.query_lens)
    has_few = _has_few_queries(batch, shape)
    num_few = int(has_few.sum())
    order = np.argsort(~has_few, kind="stable")
    query_lens, context_lens = batch.query_lens[order], batch.context_lens[order]
    starts = (np.cumsum(batch.query_lens) - batch.query_lens)[order]

    # Everything in one copy. Each row begins at a multiple of 16 bytes, as do those of the sequences with many queries.
    num_columns = -(-int(context_lens.max()) // batch.block_size)
    begin_many = _round_up(num_few, 4)
    width = _round_up(begin_many + num_sequences - num_few, 4)
    packed = np.zeros(4 * width + num_sequences * num_columns, dtype=np.int32)
    rows = packed[: 4 * width].reshape(4, width)
    for row, values in zip(rows, (starts, query_lens, context_lens, order), strict=True):
        row[:num_few] = values[:num_few]
        row[begin_many : begin_many + num_sequences - num_few] = values[num_few:]
    packed[4 * width :].reshape(num_sequences, num_columns)[:] = batch.block_tables[:, :num_columns]
    on_device = torch.from_numpy(packed)
    if device.type == "cuda":
        on_device = on_device.pin_memory().to(device, non_blocking=True)
    tables = on_device[4 * width :].view(num_sequences, num_columns)

    few, many = slice(0, num_few), slice(num_few, num_sequences)
    slots = max(int(num_slots(query_lens[few], context_lens[few], window).sum()) for window in shape.windows)
    workspace = _workspace(slots, int(query_lens.sum()), shape, device)
    walks = []
    for part, begin, whole in ((few, 0, False), (many, begin_many, True)):
        if part.start == part.stop:
            continue
        end = begin + part.stop - part.start
        lengths = query_lens[part], context_lens[part]
        own_starts, own_query_lens, own_context_lens, own_rows = (
            on_device[row * width + begin : row * width + end] for row in range(4)
        )
        sequences = Sequences(
            starts=own_starts,
            query_lens=own_query_lens,
            context_lens=own_context_lens,
            table_rows=own_rows,
            block_tables=tables,
            block_size=batch.block_size,
            shared=torch.zeros(end - begin, dtype=torch.int32, device=device),
        )
        if share_prefixes and not whole and int(((lengths[0] == 1) & (lengths[1] >= SPLIT)).sum()) > 1:
            _compare(sequences, shape)
        capacities = {
            window: int(
                (_num_tiles(lengths[0], shape, whole=whole) * (1 if whole else num_splits(*lengths, window))).sum()
            )
            for window in shape.windows
        }
        walk = Walk(
            sequences,
            {window: _new_list(end - begin, capacity, device) for window, capacity in capacities.items()},
            _num_programs(max(capacities.values()) * _heads(shape, whole=whole)[1], device, whole=whole),
            whole,
        )
        _list(walk, shape, workspace)
        walks.append(walk)
    return WorkPlan(shape, tuple(walks), workspace)


def plan_decoding(
    rows: DecodingRows, shape: AttentionShape, max_context: int, *, share_prefixes: bool = True
) -> "WalkedDecodingPlan":
    """See `PlanDecoding`. The workspace is for all rows at `max_context`, or for MAX_DECODING_BYTES if that is less."""
    _check(shape, rows.block_size)
    device = rows.context_lens.device
    most_rows = len(rows.context_lens)
    bytes_per_slot = shape.num_heads * (shape.head_size + 2) * 4
    most = most_rows * max(-(-min(max_context, window or max_context) // SPLIT) + 1 for window in shape.windows)
    slots = min(most, MAX_DECODING_BYTES // bytes_per_slot)
    sequences = Sequences(
        starts=torch.arange(most_rows, dtype=torch.int32, device=device),
        query_lens=torch.ones(most_rows, dtype=torch.int32, device=device),
        context_lens=rows.context_lens,
        table_rows=rows.table_rows,
        block_tables=rows.block_tables,
        block_size=rows.block_size,
        shared=torch.zeros(most_rows, dtype=torch.int32, device=device),
    )
    # A row with a single split has an item and no slot.
    lists = {window: _new_list(most_rows, slots + most_rows, device) for window in shape.windows}
    num_programs = _num_programs((slots + most_rows) * _heads(shape, whole=False)[1], device, whole=False)
    walk = Walk(sequences, lists, num_programs, whole=False)
    plan = WorkPlan(shape, (walk,), _workspace(slots, most_rows, shape, device))
    return WalkedDecodingPlan(plan, share_prefixes)


class WalkedDecodingPlan(DecodingPlan):
    """A `WorkPlan` whose sequences are rows that others fill."""

    def __init__(self, work: WorkPlan, share_prefixes: bool) -> None:
        self.work = work
        self._share_prefixes = share_prefixes

    def refresh(self) -> None:
        """See `DecodingPlan.refresh`: one launch for each window, and one for shared prefixes."""
        (walk,) = self.work.walks
        if self._share_prefixes:
            _compare(walk.sequences, self.work.shape)
        _list(walk, self.work.shape, self.work.workspace)

    def first(self, num_rows: int) -> "WalkedDecodingPlan":
        """See `DecodingPlan.first`."""
        (walk,) = self.work.walks
        whole = walk.sequences
        sequences = Sequences(
            starts=whole.starts[:num_rows],
            query_lens=whole.query_lens[:num_rows],
            context_lens=whole.context_lens[:num_rows],
            table_rows=whole.table_rows[:num_rows],
            block_tables=whole.block_tables,
            block_size=whole.block_size,
            shared=whole.shared[:num_rows],
        )
        narrow = Walk(sequences, walk.lists, walk.num_programs, whole=False)
        return WalkedDecodingPlan(WorkPlan(self.work.shape, (narrow,), self.work.workspace), self._share_prefixes)

    def can_hold(self, context_lens: IntArray) -> bool:
        """See `DecodingPlan.can_hold`."""
        ones = np.ones_like(context_lens)
        needed = max(int(num_slots(ones, context_lens, window).sum()) for window in self.work.shape.windows)
        return needed <= len(self.work.workspace.sums)


def paged_attention(q: Tensor, cache: LayerCache, plan: AttentionPlan, rule: AttentionRule) -> Tensor:
    """See `PagedAttention`.

    Raises:
        ValueError: the cache holds what these kernels, or this GPU, cannot read.
    """
    work = plan.work if isinstance(plan, WalkedDecodingPlan) else plan
    assert isinstance(work, WorkPlan), "planned by another table of kernels"
    assert rule.scale > 0, "the largest score is found before it is scaled"
    if q.device.type == "cuda":
        _check_cache(q, cache)
    shape, workspace = work.shape, work.workspace
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    has_extras = rule.window is not None or rule.soft_cap is not None or rule.alibi is not None
    for walk in work.walks:
        sequences, work_list = walk.sequences, walk.lists[rule.window]
        chosen = tile(shape.head_size, q.dtype, whole=walk.whole)
        tile_heads, _ = _heads(shape, whole=walk.whole)
        attend[(walk.num_programs,)](
            q,
            out,
            cache.values,
            workspace.weights if cache.scales is None else cache.scales,
            sequences.block_tables,
            sequences.starts,
            sequences.query_lens,
            sequences.context_lens,
            sequences.table_rows,
            work_list.items,
            work_list.count,
            work_list.slots,
            workspace.sums,
            workspace.weights,
            workspace.arrivals,
            workspace.weights if rule.alibi is None else rule.alibi,
            q.stride(0),
            q.stride(1),
            sequences.block_tables.stride(0),
            shape.num_heads,
            shape.num_kv_heads,
            tile_heads,
            chosen.block_m // tile_heads,
            sequences.block_size.bit_length() - 1,
            rule.window or NO_WINDOW,
            rule.scale,
            rule.soft_cap or 0.0,
            int(rule.alibi is not None),
            len(workspace.sums),
            HEAD_SIZE=shape.head_size,
            HEAD_PAD=head_pad(shape.head_size),
            BLOCK_M=chosen.block_m,
            BLOCK_N=chosen.block_n,
            SPLIT=SPLIT,
            WHOLE=walk.whole,
            EXTRAS=has_extras,
            QUANTISED=cache.scales is not None,
            COMBINE_M=COMBINE_ROWS,
            COMBINE_SPLITS=combine_splits(shape.head_size, has_extras=has_extras),
            num_warps=chosen.num_warps,
            num_stages=chosen.num_stages,
            enable_fp_fusion=False,
        )
    return out


def _compare(sequences: Sequences, shape: AttentionShape) -> None:
    """Fill `shared`."""
    tile_heads, _ = _heads(shape, whole=False)
    compare_tables[(len(sequences.shared),)](
        sequences.shared,
        sequences.query_lens,
        sequences.context_lens,
        sequences.table_rows,
        sequences.block_tables,
        sequences.block_tables.stride(0),
        sequences.block_size.bit_length() - 1,
        FEW_ROWS // tile_heads,
        SPLIT=SPLIT,
        COLUMNS=COLUMNS,
        num_warps=2,
    )


def _list(walk: Walk, shape: AttentionShape, workspace: Workspace) -> None:
    """Fill the lists of a walk."""
    sequences = walk.sequences
    rows = num_rows(shape.head_size, whole=walk.whole)
    tile_heads, _ = _heads(shape, whole=walk.whole)
    for window, work_list in walk.lists.items():
        list_work[(len(sequences.starts),)](
            work_list.items,
            work_list.count,
            work_list.slots,
            workspace.arrivals,
            sequences.shared,
            sequences.starts,
            sequences.query_lens,
            sequences.context_lens,
            len(sequences.starts),
            len(work_list.items),
            shape.num_heads,
            tile_heads,
            rows // tile_heads,
            window or NO_WINDOW,
            WHOLE=walk.whole,
            SPLIT=SPLIT,
            CHUNK=CHUNK,
            NEIGHBOURS=FEW_ROWS,
            num_warps=4,
        )


def _has_few_queries(batch: AttentionBatch, shape: AttentionShape) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Which sequences to split among programs: those of one tile, and the rest too where that fills the GPU better."""
    tile_heads, num_heads = _heads(shape, whole=False)
    is_few = batch.query_lens <= FEW_ROWS // tile_heads
    query_lens, context_lens = batch.query_lens[~is_few], batch.context_lens[~is_few]
    num_programs = int(_num_tiles(query_lens, shape, whole=True).sum()) * num_heads
    bytes_per_slot = shape.num_heads * (shape.head_size + 2) * 4
    slots = max(int(num_slots(query_lens, context_lens, window).sum()) for window in shape.windows)
    if num_programs < ENOUGH_PROGRAMS and slots * bytes_per_slot <= MAX_SPLIT_BYTES:
        is_few[:] = True
    return is_few


def _num_tiles(query_lens: IntArray, shape: AttentionShape, *, whole: bool) -> IntArray:
    tile_heads, _ = _heads(shape, whole=whole)
    tiles: IntArray = -(-query_lens // (num_rows(shape.head_size, whole=whole) // tile_heads))
    return tiles


def _heads(shape: AttentionShape, *, whole: bool) -> tuple[int, int]:
    """Query heads in a tile, and how often an item is done: once for each key head and part of its query heads."""
    group = shape.num_heads // shape.num_kv_heads
    tile_heads = min(group, num_rows(shape.head_size, whole=whole))
    return tile_heads, shape.num_kv_heads * -(-group // tile_heads)


def _num_programs(num_items: int, device: torch.device, *, whole: bool) -> int:
    """As many as run at once for items that are alike. Whole tiles vary: a program for each, dealt out by the GPU."""
    return num_items if whole else min(num_items, _programs_at_once(device))


@cache
def _programs_at_once(device: torch.device) -> int:
    """Interpreted, programs run one after another."""
    if device.type != "cuda":
        return 2
    return PROGRAMS_PER_SM * int(torch.cuda.get_device_properties(device).multi_processor_count)


def _check_cache(q: Tensor, cache: LayerCache) -> None:
    if cache.values.dtype not in CACHE_DTYPES[q.dtype]:
        raise ValueError(f"fused attention in {q.dtype} on a GPU does not read a cache of {cache.values.dtype}")
    if cache.values.dtype == torch.float8_e4m3fn:
        _check_float8(q.device)


@cache
def _check_float8(device: torch.device) -> None:
    major, minor = torch.cuda.get_device_capability(device)
    if 10 * major + minor < FLOAT8_CAPABILITY:
        raise ValueError(f"a cache of float8_e4m3fn needs compute capability 8.9, and this GPU has {major}.{minor}")


def _check(shape: AttentionShape, block_size: int) -> None:
    if block_size & (block_size - 1):
        raise ValueError(f"fused attention needs a block size that is a power of two, not {block_size}")
    if shape.head_size > LARGEST_HEAD_SIZE:
        raise ValueError(f"fused attention has head sizes up to {LARGEST_HEAD_SIZE}, not {shape.head_size}")


def _workspace(slots: int, num_tokens: int, shape: AttentionShape, device: torch.device) -> Workspace:
    slots = max(slots, 1)
    if slots * shape.num_heads * shape.head_size > MAX_ELEMENTS:
        raise ValueError(f"{slots} splits of tokens at a time are too many to attend")
    return Workspace(
        sums=torch.empty(slots, shape.num_heads, shape.head_size, dtype=torch.float32, device=device),
        weights=torch.empty(slots, shape.num_heads, 2, dtype=torch.float32, device=device),
        arrivals=torch.empty(num_tokens, shape.num_heads, dtype=torch.int32, device=device),
    )


def _new_list(num_sequences: int, capacity: int, device: torch.device) -> WorkList:
    return WorkList(
        items=torch.empty(capacity, 4, dtype=torch.int32, device=device),
        count=torch.empty(2, dtype=torch.int32, device=device),
        slots=torch.empty(num_sequences, 2, dtype=torch.int32, device=device),
    )


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
