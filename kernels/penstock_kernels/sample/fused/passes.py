"""The passes over all the scores: peaks, survey, weigh; and the draw."""

import triton
import triton.language as tl

from penstock_kernels.sample.fused.arithmetic import key_of, least_weight, scaled, uniform_of, weight_of
from penstock_kernels.sample.fused.pivots import NUM_PIVOTS, pivot_of
from penstock_kernels.sample.fused.rows import (
    CHUNK,
    MAX_CHUNKS,
    NO_KEY,
    ROW_INPUTS,
    is_drawable,
    is_searched,
    load_chunk,
    load_chunk_values,
)


@triton.jit
def peaks_kernel(scores, peaks, counts_above, masses_above, num_candidates, vocab, CUTS: tl.constexpr):
    """The largest score of a chunk, +inf if there is a NaN. Grid: (chunks, rows)."""
    chunk, row = tl.program_id(0), tl.program_id(1)
    score, _ = load_chunk(scores, row, chunk, vocab)
    score = tl.where(score != score, float("inf"), score)
    tl.store(peaks + row * tl.num_programs(0) + chunk, tl.max(score))
    if CUTS and chunk == 0:
        # What the survey and the gathering add to. They are launched later, so no program of theirs comes first.
        pivots = row * NUM_PIVOTS + tl.arange(0, NUM_PIVOTS)
        tl.store(counts_above + pivots, tl.zeros([NUM_PIVOTS], tl.int32))
        tl.store(masses_above + pivots, tl.zeros([NUM_PIVOTS], tl.int64))
        tl.store(num_candidates + row, 0)


@triton.jit(do_not_specialize=ROW_INPUTS)
def survey_kernel(
    scores, peaks, temperatures, top_ks, top_ps, min_ps, masses, counts_above, masses_above, vocab, CUTS: tl.constexpr
):
    """The mass of a chunk, or, of rows that are to be cut, what is above each pivot. Grid: (chunks, rows)."""
    chunk, row = tl.program_id(0), tl.program_id(1)
    num_chunks = tl.num_programs(0)
    temperature = tl.load(temperatures + row)
    peak = tl.max(load_chunk_values(peaks, row, num_chunks, -float("inf")))
    if (temperature > 0) & is_drawable(peak):
        score, is_there = load_chunk(scores, row, chunk, vocab)
        x = scaled(score, peak, temperature)
        weight = weight_of(x)
        least = least_weight(tl.load(min_ps + row))
        if CUTS:
            if is_searched(temperature, tl.load(top_ks + row), tl.load(top_ps + row)):
                pivots = tl.arange(0, NUM_PIVOTS)
                # Above the last pivot, -inf, is everything.
                count = tl.where(pivots == NUM_PIVOTS - 1, tl.sum(is_there.to(tl.int32)), 0)
                mass = tl.where(pivots == NUM_PIVOTS - 1, tl.sum(weight), 0)
                for i in range(NUM_PIVOTS - 1):
                    is_above = x >= pivot_of(i)
                    count = tl.where(pivots == i, tl.sum(is_above.to(tl.int32)), count)
                    mass = tl.where(pivots == i, tl.sum(tl.where(is_above, weight, 0)), mass)
                # Whole numbers: the order in which programs arrive does not matter.
                tl.atomic_add(counts_above + row * NUM_PIVOTS + pivots, count, sem="relaxed")
                tl.atomic_add(masses_above + row * NUM_PIVOTS + pivots, mass, sem="relaxed")
            else:
                tl.store(masses + row * num_chunks + chunk, tl.sum(tl.where(weight >= least, weight, 0)))
        else:
            tl.store(masses + row * num_chunks + chunk, tl.sum(tl.where(weight >= least, weight, 0)))


@triton.jit(do_not_specialize=ROW_INPUTS)
def weigh_kernel(scores, peaks, cuts, temperatures, top_ks, top_ps, min_ps, masses, vocab):
    """The mass that a cut row keeps in a chunk. Grid: (chunks, rows)."""
    chunk, row = tl.program_id(0), tl.program_id(1)
    num_chunks = tl.num_programs(0)
    temperature = tl.load(temperatures + row)
    peak = tl.max(load_chunk_values(peaks, row, num_chunks, -float("inf")))
    if is_searched(temperature, tl.load(top_ks + row), tl.load(top_ps + row)) & is_drawable(peak):
        score, _ = load_chunk(scores, row, chunk, vocab)
        weight = _kept_weights(score, peak, temperature, tl.load(cuts + row), tl.load(min_ps + row))
        tl.store(masses + row * num_chunks + chunk, tl.sum(weight))


@triton.jit(do_not_specialize=ROW_INPUTS)
def draw_kernel(
    scores,
    peaks,
    masses,
    cuts,
    temperatures,
    top_ks,
    top_ps,
    min_ps,
    seeds,
    samples,
    positions,
    tokens,
    vocab,
    CUTS: tl.constexpr,
    NO_TOKEN: tl.constexpr,
    NOT_FINITE: tl.constexpr,
):
    """A row's token: first its chunk, from the chunks' masses or peaks, then its place there. Grid: (rows,)."""
    row = tl.program_id(0)
    num_chunks = tl.cdiv(vocab, CHUNK)
    chunks = tl.arange(0, MAX_CHUNKS)
    temperature = tl.load(temperatures + row)
    chunk_peaks = load_chunk_values(peaks, row, num_chunks, -float("inf"))
    peak = tl.max(chunk_peaks)
    if not is_drawable(peak):
        fault = tl.where(peak == -float("inf"), NO_TOKEN, NOT_FINITE)
        tl.store(tokens + row, fault.to(tl.int64))
    elif temperature == 0:
        chunk = tl.min(tl.where(chunk_peaks == peak, chunks, MAX_CHUNKS))
        score, _ = load_chunk(scores, row, chunk, vocab)
        place = tl.min(tl.where(score == peak, tl.arange(0, CHUNK), CHUNK))
        tl.store(tokens + row, (chunk * CHUNK + place).to(tl.int64))
    else:
        cut = tl.full([], NO_KEY, tl.int32)
        if CUTS and is_searched(temperature, tl.load(top_ks + row), tl.load(top_ps + row)):
            cut = tl.load(cuts + row)
        mass = load_chunk_values(masses, row, num_chunks, 0)
        total = tl.sum(mass)
        uniform = uniform_of(tl.load(seeds + row), tl.load(samples + row), tl.load(positions + row))
        target = tl.minimum((uniform * total.to(tl.float64)).to(tl.int64), total - 1)
        # The chunk and then the token is the first that brings the sum above the target. Past the last chunk with any
        # mass every sum is the total, which is above it.
        chunk = tl.sum((tl.cumsum(mass) <= target).to(tl.int32))
        target -= tl.sum(tl.where(chunks < chunk, mass, 0))
        score, _ = load_chunk(scores, row, chunk, vocab)
        weight = _kept_weights(score, peak, temperature, cut, tl.load(min_ps + row))
        place = tl.sum((tl.cumsum(weight) <= target).to(tl.int32))
        tl.store(tokens + row, (chunk * CHUNK + place).to(tl.int64))


@triton.jit
def _kept_weights(score, peak, temperature, cut, min_p):
    """The weights of what is left of a chunk, 0 for the rest. Past the end of the row the score is -inf: 0 too."""
    x = scaled(score, peak, temperature)
    weight = weight_of(x)
    return tl.where((key_of(x) <= cut) & (weight >= least_weight(min_p)), weight, 0)
