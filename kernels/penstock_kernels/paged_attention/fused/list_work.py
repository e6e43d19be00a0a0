"""The kernels that list a step's work on the device: which rows share blocks, then one item after another."""

import triton
import triton.language as tl


# One compilation for all: nothing here is read in vectors.
@triton.jit(
    do_not_specialize=[
        "shared_ptr", "query_lens_ptr", "context_lens_ptr", "table_rows_ptr", "tables_ptr", "table_stride",
        "block_shift", "tile_tokens",
    ]
)  # fmt: skip
def compare_tables(
    shared_ptr,
    query_lens_ptr,
    context_lens_ptr,
    table_rows_ptr,
    tables_ptr,
    table_stride,
    block_shift,
    tile_tokens,
    SPLIT: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """shared[i]: the leading splits whose blocks sequence i has in common with sequence i - 1. One program each.

    Only sequences with one query share, and only within a tile: tiles begin at multiples of `tile_tokens`.
    """
    i = tl.program_id(0)
    shared = 0
    if i % tile_tokens != 0:  # noqa: SIM102 (before sequence 0 there is nothing to load)
        if (tl.load(query_lens_ptr + i) == 1) & (tl.load(query_lens_ptr + i - 1) == 1):
            context_len = tl.minimum(tl.load(context_lens_ptr + i), tl.load(context_lens_ptr + i - 1))
            whole_splits = context_len // SPLIT
            num_columns = (whole_splits * SPLIT + (1 << block_shift) - 1) >> block_shift
            own_ptr = tables_ptr + tl.load(table_rows_ptr + i).to(tl.int64) * table_stride
            other_ptr = tables_ptr + tl.load(table_rows_ptr + i - 1).to(tl.int64) * table_stride
            # Until the first difference, in steps of COLUMNS: most rows share nothing and are done with the first.
            num_equal = 0
            begin = 0
            while begin < num_columns:
                column = begin + tl.arange(0, COLUMNS)
                own = tl.load(own_ptr + column, mask=column < num_columns, other=-1)
                other = tl.load(other_ptr + column, mask=column < num_columns, other=-1)
                num_equal = tl.min(tl.where(own != other, column, num_columns))
                begin = tl.where(num_equal < num_columns, num_columns, begin + COLUMNS)
            shared = tl.minimum((num_equal << block_shift) // SPLIT, whole_splits)
    tl.store(shared_ptr + i, shared)


@triton.jit
def _splits(context_len, query_len, window, SPLIT: tl.constexpr):
    """The splits that the new tokens of a sequence see, [first, end). Padding has one, without keys."""
    first = tl.maximum(context_len - query_len + 1 - window, 0) // SPLIT
    end = tl.maximum((context_len + SPLIT - 1) // SPLIT, 1)
    return first, end


@triton.jit
def _work(
    i,
    is_real,
    shared_ptr,
    query_lens_ptr,
    context_lens_ptr,
    window,
    tile_tokens,
    WHOLE: tl.constexpr,
    SPLIT: tl.constexpr,
):
    """Of sequences i: new tokens, splits [start, end) of their own items, items, workspace slots, shared splits."""
    query_len = tl.load(query_lens_ptr + i, mask=is_real, other=0)
    context_len = tl.load(context_lens_ptr + i, mask=is_real, other=0)
    first, end = _splits(context_len, query_len, window, SPLIT)
    # Rows whose windows begin in different splits keep apart: an item is then seen by all its rows or by none.
    has_previous = is_real & (i > 0)
    previous_query_len = tl.load(query_lens_ptr + i - 1, mask=has_previous, other=0)
    previous_context_len = tl.load(context_lens_ptr + i - 1, mask=has_previous, other=0)
    previous_first, _ = _splits(previous_context_len, previous_query_len, window, SPLIT)
    shared = tl.load(shared_ptr + i, mask=is_real, other=0)
    shared = tl.where(first == previous_first, shared, 0)
    start = tl.maximum(first, shared)
    num_tiles = (query_len + tile_tokens - 1) // tile_tokens
    if WHOLE:
        num_items = num_tiles
        num_slots = num_tiles * 0
    else:
        num_items = num_tiles * (end - start)
        num_slots = tl.where(end - first > 1, query_len * (end - first), 0)
    return query_len, start, end, num_items, num_slots, shared


@triton.jit(
    do_not_specialize=[
        "items_ptr", "count_ptr", "slots_ptr", "arrivals_ptr", "shared_ptr", "starts_ptr", "query_lens_ptr",
        "context_lens_ptr", "num_sequences", "capacity", "num_heads", "tile_heads", "tile_tokens",
        "window",
    ]
)  # fmt: skip
def list_work(
    items_ptr,
    count_ptr,
    slots_ptr,
    arrivals_ptr,
    shared_ptr,
    starts_ptr,
    query_lens_ptr,
    context_lens_ptr,
    num_sequences,
    capacity,
    num_heads,
    tile_heads,
    tile_tokens,
    window,
    WHOLE: tl.constexpr,
    SPLIT: tl.constexpr,
    CHUNK: tl.constexpr,
    NEIGHBOURS: tl.constexpr,
):
    """Write the items of a sequence, one program each. No program waits for another: each adds up those before it.

    NEIGHBOURS: a power of two, at least the sequences of a tile. CHUNK: what is handled at a time.
    """
    mine = tl.program_id(0)
    before = 0
    slots_before = 0
    total = 0
    for begin in range(0, num_sequences, CHUNK):
        i = begin + tl.arange(0, CHUNK)
        _, _, _, num_items, num_slots, _ = _work(
            i, i < num_sequences, shared_ptr, query_lens_ptr, context_lens_ptr, window, tile_tokens, WHOLE, SPLIT
        )
        num_items = tl.where(i < num_sequences, num_items, 0)
        total += tl.sum(num_items)
        before += tl.sum(tl.where(i < mine, num_items, 0))
        slots_before += tl.sum(tl.where(i < mine, num_slots, 0))
    if mine == 0:
        tl.store(count_ptr, tl.minimum(total, capacity))
        tl.store(count_ptr + 1, tile_heads)

    query_len, start, end, num_items, _, _ = _work(
        mine, mine < num_sequences, shared_ptr, query_lens_ptr, context_lens_ptr, window, tile_tokens, WHOLE, SPLIT
    )
    first, _ = _splits(tl.load(context_lens_ptr + mine), query_len, window, SPLIT)
    tl.store(slots_ptr + mine * 2, slots_before - first)
    tl.store(slots_ptr + mine * 2 + 1, end - first)

    if WHOLE:
        for begin in range(0, num_items, CHUNK):
            k = begin + tl.arange(0, CHUNK)
            item_ptr = items_ptr + (before + k).to(tl.int64) * 4
            is_real = k < num_items
            # The last tile sees the most keys. The longest work first leaves no straggler.
            tl.store(item_ptr + 0, mine, mask=is_real)
            tl.store(item_ptr + 1, 1, mask=is_real)
            tl.store(item_ptr + 2, (num_items - 1 - k) * tile_tokens, mask=is_real)
            tl.store(item_ptr + 3, 0, mask=is_real)
    else:
        # How many rows after this one share its split: all before the first that does not.
        after = tl.arange(0, NEIGHBOURS)
        neighbour = mine + 1 + after
        is_near = (mine % tile_tokens + 1 + after < tile_tokens) & (neighbour < num_sequences)
        _, _, _, _, _, shared = _work(
            neighbour, is_near, shared_ptr, query_lens_ptr, context_lens_ptr, window, tile_tokens, WHOLE, SPLIT
        )
        shared = tl.where(is_near, shared, 0)
        for begin in range(0, num_items, CHUNK):
            k = begin + tl.arange(0, CHUNK)
            split = start + k % (end - start)
            ends_run = shared[None, :] <= split[:, None]
            run = 1 + tl.min(tl.where(ends_run, after[None, :], NEIGHBOURS), axis=1)
            item_ptr = items_ptr + (before + k).to(tl.int64) * 4
            is_real = (k < num_items) & (before + k < capacity)
            tl.store(item_ptr + 0, mine, mask=is_real)
            tl.store(item_ptr + 1, run, mask=is_real)
            tl.store(item_ptr + 2, k // (end - start) * tile_tokens, mask=is_real)
            tl.store(item_ptr + 3, split, mask=is_real)
        # Attending leaves them at 0. A step that did not fit would not.
        arrivals_ptr += tl.load(starts_ptr + mine).to(tl.int64) * num_heads
        for begin in range(0, query_len * num_heads, CHUNK):
            k = begin + tl.arange(0, CHUNK)
            tl.store(arrivals_ptr + k, 0, mask=k < query_len * num_heads)
