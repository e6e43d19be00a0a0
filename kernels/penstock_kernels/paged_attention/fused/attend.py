"""The kernel that attends: programs walk a list of items (see `work.py`), each with online softmax over paged keys.

A program holds a tile of BLOCK_M query rows. A row is a (token, query head); all query heads of a key head stand in the
tile together, so that keys are read once for all of them:

    row r    token r // heads of the tile, head r % heads of the tile

and goes over keys BLOCK_N at a time (Milakov and Gimelshein 2018; FlashAttention-2, Dao 2023). The weight of a key is
2^x:

    x     = q k^T * scale * log2(e)
    peak' = max(peak, max over keys of x)
    sums  = sums * 2^(peak - peak') + 2^(x - peak') V
    total = total * 2^(peak - peak') + sum over keys of 2^(x - peak')

This state (sums, total, peak) begins anew with each split, and the splits are merged in ascending order: by one program
if that has all splits of its tile, else by the program that finishes a row's last split. Both do the same operations on
the same numbers, so both give the same bits:
  - a split's state comes from the same code with the same layout of rows over threads, whatever BLOCK_M is;
  - a tile of keys that a row does not see leaves its state as it was, exactly (2^0 = 1, 2^-inf = 0);
  - fused multiply-adds are written out, and the compiler is told to make none of its own (enable_fp_fusion=False).
"""

import triton
import triton.language as tl


@triton.jit
def _scales(total_peak, peak):
    """The peak of the splits so far with one more, and what to scale the sums so far and those of the new one with."""
    new_peak = tl.maximum(total_peak, peak)
    # No key seen so far: -inf - -inf would be NaN.
    base = tl.where(new_peak == float("-inf"), 0.0, new_peak)
    return new_peak, tl.exp2(total_peak - base), tl.exp2(peak - base)


@triton.jit
def _merge(total_sums, total, total_peak, sums, part, peak):
    """Add the state of one more split to that of the splits before."""
    new_peak, old_scale, new_scale = _scales(total_peak, peak)
    total_sums = tl.fma(total_sums, old_scale[:, None], sums * new_scale[:, None])
    total = tl.fma(total, old_scale, part * new_scale)
    return total_sums, total, new_peak


@triton.jit
def _result(sums, total):
    """The weighted mean; 0 for padding, which sees no key."""
    return sums / tl.where(total == 0.0, 1.0, total)


@triton.jit
def _rows(r, item_ptr, count_ptr, query_lens_ptr, kv_head, first_head, group, tile_tokens):
    """What rows r of an item are. Rows past its last token or head repeat the last one and are not real.

    Returns:
        sequence, query (of the sequence), query head, whether it is real.
    """
    # Volatile, so that what follows from these is not kept in registers between one call and the next.
    tile_heads = tl.load(count_ptr + 1, volatile=True)
    reciprocal = (65535 + tile_heads) // tile_heads
    first_sequence = tl.load(item_ptr, volatile=True)
    num_sequences = tl.load(item_ptr + 1, volatile=True)
    first_query = tl.load(item_ptr + 2, volatile=True)
    is_run = num_sequences > 1
    last = tl.load(query_lens_ptr + first_sequence) - first_query - 1
    last = tl.minimum(tl.where(is_run, num_sequences - 1, last), tile_tokens - 1)
    # r // tile_heads: exact while r and the heads are at most 128, and two instructions instead of twenty.
    offset = (r * reciprocal) >> 16
    head = first_head + r - offset * tile_heads
    is_real = (offset <= last) & (head < group)
    offset = tl.minimum(offset, last)
    sequence = first_sequence + tl.where(is_run, offset, 0)
    query = first_query + tl.where(is_run, 0, offset)
    return sequence, query, kv_head * group + tl.minimum(head, group - 1), is_real


@triton.jit
def _keys_seen(sequence, query, query_lens_ptr, context_lens_ptr, window):
    """The keys [begin, end) that queries see, themselves the last."""
    end = tl.load(context_lens_ptr + sequence) - tl.load(query_lens_ptr + sequence) + query + 1
    return tl.maximum(end - window, 0), end


@triton.jit
def _row_splits(begin, end, SPLIT: tl.constexpr):
    """The splits [first, end) with keys that a row sees; one for padding, which sees no key."""
    return begin // SPLIT, tl.maximum((end + SPLIT - 1) // SPLIT, 1)


@triton.jit
def _load_keys(
    ptr, scales_ptr, slot, kv_head, num_kv_heads, is_key, HEAD_SIZE: tl.constexpr, HEAD_PAD: tl.constexpr,
    QUANTISED: tl.constexpr, MASKED: tl.constexpr
):  # fmt: skip
    """[BLOCK_N, HEAD_PAD] keys or values, as stored, and their scales. What is masked is 0, never what memory holds."""
    feature = tl.arange(0, HEAD_PAD)
    # 64 bits: a cache has more than 2^31 elements.
    row = slot * (2 * num_kv_heads) + kv_head
    at = ptr + row[:, None] * HEAD_SIZE + feature[None, :]
    if MASKED and HEAD_SIZE != HEAD_PAD:
        x = tl.load(at, mask=is_key[:, None] & (feature < HEAD_SIZE)[None, :], other=0.0)
    elif MASKED:
        x = tl.load(at, mask=is_key[:, None], other=0.0)
    elif HEAD_SIZE != HEAD_PAD:
        x = tl.load(at, mask=(feature < HEAD_SIZE)[None, :], other=0.0)
    else:
        x = tl.load(at)
    scale = 1.0
    if QUANTISED:
        scale = tl.load(scales_ptr + row, mask=is_key, other=0.0) if MASKED else tl.load(scales_ptr + row)
    return x, scale


@triton.jit
def _walk(
    state,  # sums [BLOCK_M, HEAD_PAD], total, peak [BLOCK_M] of the split, and the same of the splits before it
    q,
    walk_begin,
    walk_end,  # the keys of this walk; walk_begin is a multiple of BLOCK_N
    tile_begin,
    tile_end,  # the keys that some row of the tile sees
    begin,
    end,  # [BLOCK_M] the keys that each row sees
    table_ptr,
    values_ptr,
    scales_ptr,
    slope,
    factor,
    scale,
    soft_cap,
    has_alibi,
    block_shift,
    kv_head,
    num_kv_heads,
    HEAD_SIZE: tl.constexpr,
    HEAD_PAD: tl.constexpr,
    BLOCK_N: tl.constexpr,
    SPLIT: tl.constexpr,
    WHOLE: tl.constexpr,
    EXTRAS: tl.constexpr,
    QUANTISED: tl.constexpr,
    MASKED: tl.constexpr,
):
    """Attend to keys. MASKED: not all rows may see all of them; otherwise nothing is compared and nothing is masked."""
    sums, total, peak, before_sums, before_total, before_peak = state
    for first_key in tl.range(walk_begin, walk_end, BLOCK_N):
        key = first_key + tl.arange(0, BLOCK_N)
        is_key = (key >= tile_begin) & (key < tile_end)
        if MASKED:
            block = tl.load(table_ptr + (key >> block_shift), mask=is_key, other=0)
        else:
            block = tl.load(table_ptr + (key >> block_shift))
        slot = (block.to(tl.int64) << block_shift) + (key & ((1 << block_shift) - 1))
        keys, key_scale = _load_keys(
            values_ptr, scales_ptr, slot, kv_head, num_kv_heads, is_key, HEAD_SIZE, HEAD_PAD, QUANTISED, MASKED
        )
        scores = tl.dot(q, tl.trans(keys.to(q.dtype)), input_precision="ieee")
        if QUANTISED:
            scores = scores * key_scale[None, :]
        if EXTRAS:
            scores = scores * scale
            if soft_cap > 0.0:
                # tanh(x) = 1 - 2 / (e^2x + 1), which is right at both infinities.
                grown = tl.exp2(scores * (2.0 * 1.4426950408889634 / soft_cap))
                scores = soft_cap - soft_cap * 2.0 / (grown + 1.0)
            if has_alibi != 0:
                distance = (key[None, :] - (end[:, None] - 1)).to(tl.float32)
                scores = tl.fma(slope[:, None], distance, scores)
        if MASKED:
            is_seen = (key[None, :] >= begin[:, None]) & (key[None, :] < end[:, None])
            scores = tl.where(is_seen, scores, float("-inf"))

        new_peak = tl.maximum(peak, tl.max(scores, axis=1) * factor)
        base = new_peak
        if MASKED:
            base = tl.where(new_peak == float("-inf"), 0.0, new_peak)
        weights = tl.exp2(tl.fma(scores, factor, -base[:, None]))
        rescale = tl.exp2(peak - base)
        total = tl.fma(total, rescale, tl.sum(weights, axis=1))
        peak = new_peak

        values, value_scale = _load_keys(
            values_ptr + num_kv_heads * HEAD_SIZE, scales_ptr + num_kv_heads, slot, kv_head, num_kv_heads, is_key,
            HEAD_SIZE, HEAD_PAD, QUANTISED, MASKED,
        )  # fmt: skip
        if QUANTISED:
            weights = weights * value_scale[None, :]
        sums = tl.dot(weights.to(q.dtype), values.to(q.dtype), sums * rescale[:, None], input_precision="ieee")
        if WHOLE:  # noqa: SIM102 (the inner one is run, the outer one compiled)
            if (first_key + BLOCK_N) % SPLIT == 0:
                before_sums, before_total, before_peak = _merge(
                    before_sums, before_total, before_peak, sums, total, peak
                )
                sums = tl.zeros_like(sums)
                total = tl.zeros_like(total)
                peak = tl.full(peak.shape, float("-inf"), tl.float32)
    return sums, total, peak, before_sums, before_total, before_peak


@triton.jit(
    do_not_specialize=[
        "scales_ptr", "tables_ptr", "starts_ptr", "query_lens_ptr", "context_lens_ptr", "table_rows_ptr", "count_ptr",
        "slots_ptr", "alibi_ptr", "table_stride", "num_heads", "num_kv_heads", "tile_heads", "tile_tokens",
        "block_shift", "window", "has_alibi", "num_slots",
    ]
)  # fmt: skip
def attend(
    q_ptr,  # [tokens, num_heads, HEAD_SIZE]
    out_ptr,  # the same, contiguous
    values_ptr,  # [slots, 2, num_kv_heads, HEAD_SIZE]
    scales_ptr,  # [slots, 2, num_kv_heads]
    tables_ptr,
    starts_ptr,  # these as in `Sequences`
    query_lens_ptr,
    context_lens_ptr,
    table_rows_ptr,
    items_ptr,  # these as in `WorkList`
    count_ptr,
    slots_ptr,
    sums_ptr,  # these as in `Workspace`
    weights_ptr,
    arrivals_ptr,
    alibi_ptr,  # [num_heads]
    q_token_stride,
    q_head_stride,
    table_stride,
    num_heads,
    num_kv_heads,
    tile_heads,  # query heads in a tile: those of a key head, or a part of them if they are more than BLOCK_M
    tile_tokens,  # BLOCK_M // tile_heads
    block_shift,  # log2 of the block size
    window,
    scale,
    soft_cap,  # 0: none
    has_alibi,
    num_slots,  # of the workspace
    HEAD_SIZE: tl.constexpr,
    HEAD_PAD: tl.constexpr,  # the next power of two
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    SPLIT: tl.constexpr,
    WHOLE: tl.constexpr,  # an item has all splits of its tile
    EXTRAS: tl.constexpr,  # there is a window, a soft cap, or there are slopes
    QUANTISED: tl.constexpr,
    COMBINE_M: tl.constexpr,  # rows combined at a time
    COMBINE_SPLITS: tl.constexpr,  # splits whose loads are in flight together
):
    group = num_heads // num_kv_heads
    head_parts = (group + tile_heads - 1) // tile_heads
    feature = tl.arange(0, HEAD_PAD)
    is_feature = feature < HEAD_SIZE
    num_items = tl.load(count_ptr) * (num_kv_heads * head_parts)
    # log2(e) turns e^x into 2^x.
    factor = scale * 0.0 + 1.4426950408889634 if EXTRAS else scale * 1.4426950408889634

    for index in range(tl.program_id(0), num_items, tl.num_programs(0)):
        # Key heads of a split follow one another: they run at the same time, and their keys are neighbours in memory.
        item = index // (num_kv_heads * head_parts)
        kv_head = index // head_parts % num_kv_heads
        first_head = index % head_parts * tile_heads
        item_ptr = items_ptr + item.to(tl.int64) * 4
        split = tl.load(item_ptr + 3)
        table_row = tl.load(table_rows_ptr + tl.load(item_ptr))
        table_ptr = tables_ptr + table_row.to(tl.int64) * table_stride

        sequence, query, head, is_real = _rows(
            tl.arange(0, BLOCK_M), item_ptr, count_ptr, query_lens_ptr, kv_head, first_head, group, tile_tokens
        )
        token = tl.load(starts_ptr + sequence) + query
        begin, end = _keys_seen(sequence, query, query_lens_ptr, context_lens_ptr, window)
        q = tl.load(
            q_ptr + token.to(tl.int64)[:, None] * q_token_stride + head[:, None] * q_head_stride + feature[None, :],
            mask=is_real[:, None] & is_feature[None, :],
            other=0.0,
        )
        slope = tl.zeros([BLOCK_M], tl.float32)
        if EXTRAS:
            slope = tl.load(alibi_ptr + head, mask=(head >= 0) & (has_alibi != 0), other=0.0)

        # Keys that some row sees, of this item; those of them that all rows see need no mask. Each part of the walk
        # begins at a multiple of BLOCK_N:
        #
        #     |.....masked.....|..........all rows see these..........|.....masked.....|
        #   walk            clear_begin                           clear_end         walk_end
        #
        tile_begin = tl.min(begin)
        tile_end = tl.max(end)
        if not WHOLE:
            tile_begin = tl.maximum(tile_begin, split * SPLIT)
            tile_end = tl.minimum(tile_end, (split + 1) * SPLIT)
        walk_begin = tile_begin // BLOCK_N * BLOCK_N
        walk_end = tl.maximum(tile_end, walk_begin)
        clear_begin = walk_begin
        if EXTRAS:
            clear_begin = tl.maximum((tl.max(begin) + BLOCK_N - 1) // BLOCK_N * BLOCK_N, walk_begin)
            clear_begin = tl.minimum(clear_begin, (walk_end + BLOCK_N - 1) // BLOCK_N * BLOCK_N)
        clear_end = tl.minimum(tl.min(end), walk_end) // BLOCK_N * BLOCK_N
        clear_end = tl.maximum(clear_end, clear_begin)

        sums = tl.zeros([BLOCK_M, HEAD_PAD], tl.float32)
        total = tl.zeros([BLOCK_M], tl.float32)
        peak = tl.full([BLOCK_M], float("-inf"), tl.float32)
        state = (sums, total, peak, sums, total, peak)
        # Without a window all rows see the first key.
        for part in tl.static_range(0 if EXTRAS else 1, 3):
            state = _walk(
                state,
                q,
                walk_begin if part == 0 else (clear_begin if part == 1 else clear_end),
                clear_begin if part == 0 else (clear_end if part == 1 else walk_end),
                tile_begin,
                tile_end,
                begin,
                end,
                table_ptr,
                values_ptr,
                scales_ptr,
                slope,
                factor,
                scale,
                soft_cap,
                has_alibi,
                block_shift,
                kv_head,
                num_kv_heads,
                HEAD_SIZE,
                HEAD_PAD,
                BLOCK_N,
                SPLIT,
                WHOLE,
                EXTRAS,
                QUANTISED,
                MASKED=part != 1,
            )
        sums, total, peak, before_sums, before_total, before_peak = state

        # Anew, instead of kept in registers all the way: they are needed for the sums.
        sequence, query, head, is_real = _rows(
            tl.arange(0, BLOCK_M), item_ptr, count_ptr, query_lens_ptr, kv_head, first_head, group, tile_tokens
        )
        if WHOLE:
            token = tl.load(starts_ptr + sequence) + query
            sums, total, _ = _merge(before_sums, before_total, before_peak, sums, total, peak)
            out_at = out_ptr + (token.to(tl.int64) * num_heads + head)[:, None] * HEAD_SIZE + feature[None, :]
            result = _result(sums, total[:, None]).to(out_ptr.dtype.element_ty)
            tl.store(out_at, result, mask=is_real[:, None] & is_feature[None, :])
        else:
            # A row that sees no other split is finished here.
            begin, end = _keys_seen(sequence, query, query_lens_ptr, context_lens_ptr, window)
            first_split, end_split = _row_splits(begin, end, SPLIT)
            is_alone = is_real & (split == first_split) & (end_split - first_split == 1)
            if tl.max(is_alone.to(tl.int32)) != 0:
                token = tl.load(starts_ptr + sequence) + query
                out_at = out_ptr + (token.to(tl.int64) * num_heads + head)[:, None] * HEAD_SIZE + feature[None, :]
                # Merged with nothing, which makes +0 of -0.
                alone = _result(sums + 0.0, total[:, None]).to(out_ptr.dtype.element_ty)
                tl.store(out_at, alone, mask=is_alone[:, None] & is_feature[None, :])

            # The rest go to the workspace. A row has a slot there for each split that its sequence sees: one that the
            # row itself does not see may be written to as well, for nobody reads it.
            num_splits = tl.load(slots_ptr + sequence * 2 + 1)
            slot = tl.load(slots_ptr + sequence * 2) + query * num_splits + split
            # A list that does not fit its workspace gives wrong results, but writes nowhere else.
            is_part = is_real & (num_splits > 1) & (slot < num_slots)
            if tl.max(is_part.to(tl.int32)) != 0:
                # 32 bits, see MAX_ELEMENTS: addresses of 16 rows a thread are what runs out of registers first.
                at = slot * num_heads + head
                tl.store(weights_ptr + at * 2, peak, mask=is_part)
                tl.store(weights_ptr + at * 2 + 1, total, mask=is_part)
                sums_at = sums_ptr + at[:, None] * HEAD_SIZE + feature[None, :]
                tl.store(sums_at, sums, mask=is_part[:, None] & is_feature[None, :])
                # All threads of this program have stored before one of them says so.
                tl.debug_barrier()
                num_rows = tl.max(tl.where(is_part, tl.arange(0, BLOCK_M) + 1, 0))
                for first_row in range(0, num_rows, COMBINE_M):
                    _combine(
                        first_row + tl.arange(0, COMBINE_M), item_ptr, count_ptr, split, kv_head, first_head, group,
                        out_ptr, starts_ptr, query_lens_ptr, context_lens_ptr, slots_ptr, sums_ptr, weights_ptr,
                        arrivals_ptr, num_heads, tile_tokens, window, num_slots, HEAD_SIZE, HEAD_PAD, SPLIT,
                        COMBINE_SPLITS,
                    )  # fmt: skip


@triton.jit
def _combine(
    r,
    item_ptr,
    count_ptr,
    split,
    kv_head,
    first_head,
    group,
    out_ptr,
    starts_ptr,
    query_lens_ptr,
    context_lens_ptr,
    slots_ptr,
    sums_ptr,
    weights_ptr,
    arrivals_ptr,
    num_heads,
    tile_tokens,
    window,
    num_slots,
    HEAD_SIZE: tl.constexpr,
    HEAD_PAD: tl.constexpr,
    SPLIT: tl.constexpr,
    COMBINE_SPLITS: tl.constexpr,
):
    """Count rows r of an item as done for its split, and finish those for which this was the last.

    Each row has a counter of its own. A program that finds it at the number of the row's splits less one is the last to
    arrive; its acquire makes visible what the others released. It sets the counter back for the next layer.
    """
    feature = tl.arange(0, HEAD_PAD)
    is_feature = feature < HEAD_SIZE
    sequence, query, head, is_real = _rows(
        r, item_ptr, count_ptr, query_lens_ptr, kv_head, first_head, group, tile_tokens
    )
    token = tl.load(starts_ptr + sequence) + query
    begin, end = _keys_seen(sequence, query, query_lens_ptr, context_lens_ptr, window)
    first_split, end_split = _row_splits(begin, end, SPLIT)
    is_part = is_real & (end_split - first_split > 1) & (split >= first_split) & (split < end_split)
    arrivals_at = arrivals_ptr + token.to(tl.int64) * num_heads + head
    arrived = tl.atomic_add(arrivals_at, 1, mask=is_part, sem="acq_rel")
    is_last = is_part & (arrived == end_split - first_split - 1)
    # No thread reads on before the one that counted its row has acquired.
    tl.debug_barrier()
    if tl.max(is_last.to(tl.int32)) != 0:
        tl.store(arrivals_at, 0, mask=is_last)
        # Rows have different splits: each merges its own, and the rest change nothing. Peak and total of a row are held
        # once for each feature, so that no thread has to ask another for them.
        total_sums = tl.zeros([r.shape[0], HEAD_PAD], tl.float32)
        total = tl.zeros([r.shape[0], HEAD_PAD], tl.float32)
        total_peak = tl.full([r.shape[0], HEAD_PAD], float("-inf"), tl.float32)
        lowest = tl.min(tl.where(is_last, first_split, 2147483647))
        highest = tl.max(tl.where(is_last, end_split, 0))
        first_slot = tl.load(slots_ptr + sequence * 2) + query * tl.load(slots_ptr + sequence * 2 + 1)
        for base in range(lowest, highest, COMBINE_SPLITS):
            for step in tl.static_range(COMBINE_SPLITS):
                at_split = base + step
                at_slot = first_slot + at_split
                is_mine = is_last & (at_split >= first_split) & (at_split < end_split) & (at_slot < num_slots)
                at = (at_slot * num_heads + head)[:, None] + tl.zeros_like(feature)[None, :]
                is_mine = is_mine[:, None] & is_feature[None, :]
                # From the L2 cache, where other SMs have put them.
                peak = tl.load(weights_ptr + at * 2, mask=is_mine, other=float("-inf"), cache_modifier=".cg")
                part = tl.load(weights_ptr + at * 2 + 1, mask=is_mine, other=0.0, cache_modifier=".cg")
                sums = tl.load(
                    sums_ptr + at * HEAD_SIZE + feature[None, :], mask=is_mine, other=0.0, cache_modifier=".cg"
                )
                total_peak, old_scale, new_scale = _scales(total_peak, peak)
                total_sums = tl.fma(total_sums, old_scale, sums * new_scale)
                total = tl.fma(total, old_scale, part * new_scale)
        tl.store(
            out_ptr + (token.to(tl.int64) * num_heads + head)[:, None] * HEAD_SIZE + feature[None, :],
            _result(total_sums, total).to(out_ptr.dtype.element_ty),
            mask=is_last[:, None] & is_feature[None, :],
        )
