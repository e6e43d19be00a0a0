"""What every pass reads of a row: its scores, chunk by chunk, its peak, and what it asks for."""

import triton
import triton.language as tl

CHUNK = tl.constexpr(4096)
"""Scores of a program: enough for its load to be worth its start, and few enough to stay in registers."""

MAX_CHUNKS = tl.constexpr(256)
"""2^20 tokens."""

NO_KEY = tl.constexpr(2**31 - 1)
"""Above every key: of what is not there, or of a cut that cuts nothing."""

ROW_INPUTS = ("temperatures", "top_ks", "top_ps", "min_ps", "seeds", "samples", "positions")
"""Read one number at a time, so their alignment is nothing to compile another kernel for."""


@triton.jit
def load_chunk(scores, row, chunk, vocab):
    """The scores of one chunk, -inf past the end of the row, and which of them are there."""
    ids = chunk * CHUNK + tl.arange(0, CHUNK)
    is_there = ids < vocab
    return tl.load(scores + row.to(tl.int64) * vocab + ids, mask=is_there, other=-float("inf")), is_there


@triton.jit
def load_chunk_values(values, row, num_chunks, other):
    """One number for each chunk of a row, [MAX_CHUNKS]; `other` past the last."""
    chunks = tl.arange(0, MAX_CHUNKS)
    return tl.load(values + row * num_chunks + chunks, mask=chunks < num_chunks, other=other)


@triton.jit
def is_drawable(peak):
    """Whether a row has a token: +inf stands for NaN too."""
    return (peak > -float("inf")) & (peak < float("inf"))


@triton.jit
def is_searched(temperature, top_k, top_p):
    """Whether a score has to be found at which the row is cut."""
    return (temperature > 0) & ((top_k > 0) | (top_p < 1))


@triton.jit
def room_of(vocab):
    """How long a row's list of candidates may get; a multiple of 16, so that every list starts at an aligned place."""
    return tl.cdiv(vocab, 16) * 16
