"""Where top-k and top-p cut a row: the key of the last score that stays, found among a list of candidates.

Both are the same search: the smallest key at which a sum over all smaller keys and itself, of ones or of weights,
reaches a goal. Nothing is sorted, and the order of the list does not matter.
"""

import triton
import triton.language as tl

from penstock_kernels.sample.fused.arithmetic import key_of, scaled, score_of, share_of, weight_of
from penstock_kernels.sample.fused.pivots import NUM_PIVOTS, bracket_of
from penstock_kernels.sample.fused.rows import (
    CHUNK,
    NO_KEY,
    ROW_INPUTS,
    is_drawable,
    is_searched,
    load_chunk,
    load_chunk_values,
    room_of,
)

TILE = tl.constexpr(4096)
"""Candidates that are searched in registers. With more, the search first narrows down which of them matter."""

NUM_STEPS = tl.constexpr(16)
"""Into how many parts narrowing divides an interval of keys."""


@triton.jit(do_not_specialize=ROW_INPUTS)
def gather_kernel(
    scores, peaks, temperatures, top_ks, top_ps, counts_above, masses_above, num_candidates, candidates, vocab
):
    """Lists the keys between the pivots that enclose the cuts, in any order. Grid: (chunks, rows)."""
    chunk, row = tl.program_id(0), tl.program_id(1)
    temperature = tl.load(temperatures + row)
    top_k, top_p = tl.load(top_ks + row), tl.load(top_ps + row)
    peak = tl.max(load_chunk_values(peaks, row, tl.num_programs(0), -float("inf")))
    if is_searched(temperature, top_k, top_p) & is_drawable(peak):
        low, high, _, _ = _bracket(counts_above, masses_above, row, top_k, top_p, vocab)
        score, is_there = load_chunk(scores, row, chunk, vocab)
        key = key_of(scaled(score, peak, temperature))
        is_inside = is_there & (key > low) & (key <= high)
        num_inside = tl.sum(is_inside.to(tl.int32))
        if num_inside > 0:
            start = tl.atomic_add(num_candidates + row, num_inside, sem="relaxed")
            _append(candidates + row.to(tl.int64) * room_of(vocab) + start, key, is_inside)


@triton.jit(do_not_specialize=ROW_INPUTS)
def cut_kernel(
    peaks,
    temperatures,
    top_ks,
    top_ps,
    counts_above,
    masses_above,
    num_candidates,
    candidates,
    narrowed,
    cuts,
    vocab,
):
    """The key of the last score that stays. Grid: (rows,)."""
    row = tl.program_id(0)
    temperature = tl.load(temperatures + row)
    top_k, top_p = tl.load(top_ks + row), tl.load(top_ps + row)
    peak = tl.max(load_chunk_values(peaks, row, tl.cdiv(vocab, CHUNK), -float("inf")))
    if is_searched(temperature, top_k, top_p) & is_drawable(peak):
        low, high, base_count, base_mass = _bracket(counts_above, masses_above, row, top_k, top_p, vocab)
        total = tl.load(masses_above + row * NUM_PIVOTS + NUM_PIVOTS - 1)
        count = tl.load(num_candidates + row)
        candidates += row.to(tl.int64) * room_of(vocab)
        narrowed += row * TILE
        if top_k > 0:
            goal = tl.minimum(top_k, vocab).to(tl.int64)
            high = _search(candidates, count, narrowed, low, high, base_count.to(tl.int64), goal, False)
            total = base_mass + _sum_up_to(candidates, count, high)
        if top_p < 1:
            goal = share_of(top_p, total)
            high = _search(candidates, count, narrowed, low, high, base_mass, goal, True)
        tl.store(cuts + row, high)


@triton.jit
def _bracket(counts_above, masses_above, row, top_k, top_p, vocab):
    pivots = row * NUM_PIVOTS + tl.arange(0, NUM_PIVOTS)
    return bracket_of(tl.load(counts_above + pivots), tl.load(masses_above + pivots), tl.minimum(top_k, vocab), top_p)


@triton.jit
def _append(target, key, is_kept):
    """Writes the kept keys without gaps."""
    place = tl.cumsum(is_kept.to(tl.int32)) - 1
    tl.store(target + place, key, mask=is_kept)


@triton.jit
def _load(keys, start, count):
    """Keys from `start` on, `NO_KEY` past the end."""
    place = start + tl.arange(0, TILE)
    return tl.load(keys + place, mask=place < count, other=NO_KEY)


@triton.jit
def _amount_of(key, WEIGHED: tl.constexpr):
    """What each key adds to the sum: its weight, or 1. `NO_KEY` is NaN, and no sum includes it."""
    if WEIGHED:
        return weight_of(score_of(tl.minimum(key, 0x7F800000)))
    else:
        return tl.full([TILE], 1, tl.int64)


@triton.jit
def _sum_up_to(keys, count, highest):
    """The weights of the candidates up to a key."""
    total = tl.full([], 0, tl.int64)
    for start in range(0, count, TILE):
        key = _load(keys, start, count)
        total += tl.sum(tl.where(key <= highest, _amount_of(key, True), 0))
    return total


@triton.jit
def _search(keys, count, narrowed, low, high, base, goal, WEIGHED: tl.constexpr):
    """The smallest key above `low` and up to `high` at which the sum reaches the goal.

    base: the sum up to `low`, less than the goal; up to `high` it is the goal at least.
    """
    if count > TILE:
        num_inside = count
        while (num_inside > TILE) & (high - low > 1):
            low, high, base, num_inside = _narrow(keys, count, low, high, base, goal, WEIGHED)
        if high - low > 1:
            # An earlier search may still be reading what it has written here, and this one's own writes have to have
            # arrived before it reads them: other threads made them.
            tl.debug_barrier()
            count = _list_inside(keys, count, narrowed, low, high)
            keys = narrowed
            tl.debug_barrier()
    if high - low > 1:
        key = _load(keys, 0, count)
        amount = tl.where(key > low, _amount_of(key, WEIGHED), 0)
        while high - low > 1:
            middle = low + (high - low) // 2
            if base + tl.sum(tl.where(key <= middle, amount, 0)) >= goal:
                high = middle
            else:
                low = middle
    return high


@triton.jit
def _narrow(keys, count, low, high, base, goal, WEIGHED: tl.constexpr):
    """One of `NUM_STEPS` equal parts of the interval, the sum up to its low end, and how many keys are inside."""
    steps = tl.arange(0, NUM_STEPS)
    width = (high - low + NUM_STEPS - 1) // NUM_STEPS
    counts = tl.zeros([NUM_STEPS], tl.int32)
    sums = tl.zeros([NUM_STEPS], tl.int64)
    for start in range(0, count, TILE):
        key = _load(keys, start, count)
        key = tl.where((key > low) & (key <= high), key, NO_KEY)
        amount = _amount_of(key, WEIGHED)
        for i in range(NUM_STEPS):
            is_up_to = key <= _end_of_step(low, high, width, i)
            counts += tl.where(steps == i, tl.sum(is_up_to.to(tl.int32)), 0)
            sums += tl.where(steps == i, tl.sum(tl.where(is_up_to, amount, 0)), 0)
    step = tl.sum((base + sums < goal).to(tl.int32))
    is_before = steps == step - 1
    num_inside = tl.sum(tl.where(steps == step, counts, 0)) - tl.sum(tl.where(is_before, counts, 0))
    base += tl.sum(tl.where(is_before, sums, 0))
    return _end_of_step(low, high, width, step - 1), _end_of_step(low, high, width, step), base, num_inside


@triton.jit
def _end_of_step(low, high, width, i):
    """low + (i + 1) * width, at most `high`; nothing on the way is above 2^31: the largest key is 2^31 - 2^23."""
    return low + tl.minimum((i + 1) * width, high - low)


@triton.jit
def _list_inside(keys, count, narrowed, low, high):
    """Lists the candidates of the interval; how many they are."""
    num_listed = tl.full([], 0, tl.int32)
    for start in range(0, count, TILE):
        key = _load(keys, start, count)
        is_inside = (key > low) & (key <= high)
        _append(narrowed + num_listed, key, is_inside)
        num_listed += tl.sum(is_inside.to(tl.int32))
    return num_listed
