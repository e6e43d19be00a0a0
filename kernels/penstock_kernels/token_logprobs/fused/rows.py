"""What every pass reads of a row: its scores, chunk by chunk."""

import triton
import triton.language as tl

CHUNK = tl.constexpr(4096)
"""Scores of a program. Fixed, so that a row's sums do not depend on the batch."""

MAX_CHUNKS = tl.constexpr(256)
"""2^20 tokens."""


@triton.jit
def load_chunk(scores, row, chunk, vocab):
    """The scores of a chunk, -inf past the end of the row, their ids, and which of them are there."""
    ids = chunk * CHUNK + tl.arange(0, CHUNK)
    is_there = ids < vocab
    score = tl.load(scores + row.to(tl.int64) * vocab + ids, mask=is_there, other=-float("inf"))
    return score, ids, is_there
