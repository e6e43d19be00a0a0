"""`token_logprobs` for NVIDIA GPUs: one pass over the scores by many programs a row, then one program a row.

A score and its id make one whole number, larger for larger scores and, of equal ones, for lower ids. No two are equal,
and the best of a row are the largest of these, found one after the other: in each chunk, then among the chunks' heads.
That reads the scores once, but takes a reduction for each, so many are found otherwise (wide.py).

Floor: 128 rows of 131072 scores are read in 16 us on an H200. Estimated, not measured: 20 us for none of the best,
75 us for 8, in proportion for more.
"""

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from penstock_kernels.configuration import Configuration
from penstock_kernels.token_logprobs.fused import wide
from penstock_kernels.token_logprobs.fused.rows import CHUNK, MAX_CHUNKS, load_chunk

MAX_NARROW = 64
"""Of more the reductions, one for each and chunk, would take longer than selecting and sorting."""

NUM_WARPS = 8


def token_logprobs(scores: Tensor, tokens: Tensor, num_top: int) -> tuple[Tensor, Tensor, Tensor]:
    """See `TokenLogprobs`."""
    num_rows, vocab = scores.shape
    num_chunks = -(-vocab // CHUNK.value)
    assert num_chunks <= MAX_CHUNKS.value, f"a vocabulary of {vocab} is more than 2^20"
    device = scores.device
    chosen = torch.empty(num_rows, dtype=torch.float32, device=device)
    if num_top > MAX_NARROW:
        top_ids = wide.best_ids(scores, num_top)
    else:
        top_ids = torch.empty((num_rows, num_top), dtype=torch.int64, device=device)
    top_logprobs = torch.empty((num_rows, num_top), dtype=torch.float32, device=device)
    if num_rows == 0:
        return chosen, top_ids, top_logprobs
    num_listed = num_top if num_top <= MAX_NARROW else 0
    peaks = torch.empty((num_rows, num_chunks), dtype=torch.float32, device=device)
    sums = torch.empty_like(peaks)
    lists = torch.empty((num_rows, num_chunks, num_listed), dtype=torch.int64, device=device)
    chunk_kernel[(num_chunks, num_rows)](scores, peaks, sums, lists, vocab, num_listed, num_warps=NUM_WARPS)
    row_kernel[(num_rows,)](
        scores,
        peaks,
        sums,
        lists,
        tokens,
        chosen,
        top_ids,
        top_logprobs,
        vocab,
        num_listed,
        num_top,
        num_warps=NUM_WARPS,
    )
    return chosen, top_ids, top_logprobs


@triton.jit(do_not_specialize=["num_listed"])
def chunk_kernel(scores, peaks, sums, lists, vocab, num_listed):
    """A chunk's largest score, its sum of exp(score - largest), and its best, best first. Grid: (chunks, rows)."""
    chunk, row = tl.program_id(0), tl.program_id(1)
    place = row * tl.num_programs(0) + chunk
    score, ids, is_there = load_chunk(scores, row, chunk, vocab)
    peak = tl.max(score)
    # exp(-inf - -inf) is NaN, and a chunk of -inf alone adds nothing.
    exps = tl.where(score > -float("inf"), tl.exp(score - tl.maximum(peak, LOWEST)), 0.0)
    tl.store(peaks + place, peak)
    tl.store(sums + place, tl.sum(exps))
    lists += place.to(tl.int64) * num_listed
    packed = tl.where(is_there, _pack(score, ids), NOTHING)
    for i in range(num_listed):
        best = tl.max(packed)
        tl.store(lists + i, best)
        packed = tl.where(packed == best, NOTHING, packed)


@triton.jit(do_not_specialize=["tokens", "num_listed", "num_top"])
def row_kernel(scores, peaks, sums, lists, tokens, chosen, top_ids, top_logprobs, vocab, num_listed, num_top):
    """The sum over the row's chunks, the chosen token, and the best of the chunks' best. Grid: (rows,).

    Where nothing is listed, `top_ids` is filled already.
    """
    row = tl.program_id(0)
    num_chunks = tl.cdiv(vocab, CHUNK)
    chunks = tl.arange(0, MAX_CHUNKS)
    is_there = chunks < num_chunks
    chunk_peaks = tl.load(peaks + row * num_chunks + chunks, mask=is_there, other=-float("inf"))
    chunk_sums = tl.load(sums + row * num_chunks + chunks, mask=is_there, other=0.0)
    peak = tl.maximum(tl.max(chunk_peaks), LOWEST)
    total = tl.sum(chunk_sums * tl.exp(chunk_peaks - peak))
    log_sum = tl.log(tl.where(total > 0, total, 1.0))
    scores += row.to(tl.int64) * vocab
    token = tl.load(tokens + row)
    score = tl.load(scores + token, mask=token >= 0, other=-float("inf"))
    tl.store(chosen + row, (score - peak) - log_sum)
    top_ids += row.to(tl.int64) * num_top
    top_logprobs += row.to(tl.int64) * num_top
    if num_listed > 0:
        # The lists are merged by their heads: the best of them is the row's next, and its list moves on.
        own_lists = lists + (row.to(tl.int64) * num_chunks + chunks) * num_listed
        taken = tl.zeros([MAX_CHUNKS], tl.int32)
        heads = tl.load(own_lists, mask=is_there, other=NOTHING)
        for i in range(num_top):
            best = tl.max(heads)
            tl.store(top_ids + i, _id_of(best))
            tl.store(top_logprobs + i, (_score_of(best) - peak) - log_sum)
            is_best = heads == best
            taken += is_best.to(tl.int32)
            following = tl.load(own_lists + taken, mask=is_best & (taken < num_listed), other=NOTHING)
            heads = tl.where(is_best, following, heads)
    else:
        for start in range(0, num_top, MAX_CHUNKS):
            places = start + chunks
            ids = tl.load(top_ids + places, mask=places < num_top, other=0)
            best_scores = tl.load(scores + ids, mask=places < num_top, other=0.0)
            tl.store(top_logprobs + places, (best_scores - peak) - log_sum, mask=places < num_top)


LOWEST = tl.constexpr(-3.4028234663852886e38)
"""Of all finite float32, instead of a peak of -inf: -inf - -inf is NaN, and -inf - this is -inf."""

NOTHING = tl.constexpr(-(2**63))
"""Below every score with its id."""


@triton.jit
def _pack(score, ids):
    """A score and its id as one int64: in the order of the scores, then from high to low ids."""
    score = tl.where(score == 0, 0.0, score)  # -0.0 is no less than 0.0, though its bits are
    key = _turn_negative(score.to(tl.int32, bitcast=True))
    return (key.to(tl.int64) << 32) | (0x7FFFFFFF - ids).to(tl.int64)


@triton.jit
def _id_of(packed):
    return 0x7FFFFFFF - (packed & 0xFFFFFFFF)


@triton.jit
def _score_of(packed):
    return _turn_negative((packed >> 32).to(tl.int32)).to(tl.float32, bitcast=True)


@triton.jit
def _turn_negative(bits):
    """From the bits of a float32 to an int32 in its order, and back: negative ones turn all bits but the sign."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


_TYPES = {
    "scores": "*fp32",
    "peaks": "*fp32",
    "sums": "*fp32",
    "lists": "*i64",
    "tokens": "*i64",
    "chosen": "*fp32",
    "top_ids": "*i64",
    "top_logprobs": "*fp32",
    "vocab": "i32",
    "num_listed": "i32",
    "num_top": "i32",
}


def configurations(capability: int) -> Iterator[Configuration]:
    """Each kernel for vocabularies that are a multiple of 16 and for others."""
    for is_multiple in (True, False):
        which = "vocab % 16 == 0" if is_multiple else "any vocab"
        unaligned = {"tokens", "num_listed", "num_top"} | (set() if is_multiple else {"vocab"})
        for kernel in (chunk_kernel, row_kernel):
            types = {name: _TYPES[name] for name in kernel.arg_names}
            yield Configuration(
                op="token_logprobs",
                name=f"{kernel.__name__.removesuffix('_kernel')}, {which}",
                kernel=kernel,
                types=types,
                constants={},
                num_warps=NUM_WARPS,
                num_stages=3,
                aligned=frozenset(types) - unaligned,
            )
    yield from wide.configurations()
