"""The exclusion of what a mask of bits does not allow, in Triton: one program for some thousand tokens of a row.

No score is loaded: -inf is stored where a bit is not set. So a mask costs its own V / 8 bytes and 4 for each token that
it excludes.
"""

from collections.abc import Iterator

import triton
import triton.language as tl
from torch import Tensor

from penstock_kernels.configuration import Configuration

# 4096 tokens, 16 for each thread, stored 16 bytes at a time where they are all excluded.
WORDS = 128
NUM_WARPS = 8


@triton.jit(do_not_specialize=["num_words"])
def _exclude(
    scores,  # [all rows, vocab]
    masks,  # [masks, num_words]
    rows,  # [masks]
    vocab,
    num_words,
    WORDS: tl.constexpr,
):
    which = tl.program_id(0).to(tl.int64)
    row = tl.load(rows + which)
    if row >= 0:
        word = tl.program_id(1) * WORDS + tl.arange(0, WORDS)
        bit = tl.arange(0, 32)
        token = word[:, None] * 32 + bit[None, :]
        bits = tl.load(masks + which * num_words + word, mask=word < num_words, other=0)
        is_excluded = ((bits[:, None] >> bit[None, :]) & 1) == 0
        never = tl.full([WORDS, 32], float("-inf"), tl.float32)
        tl.store(scores + row * vocab + token, never, mask=is_excluded & (token < vocab))


def apply_bitmask(scores: Tensor, mask: Tensor, rows: Tensor) -> None:
    """See `ApplyBitmask`."""
    num_masks, num_words = mask.shape
    vocab_size = scores.shape[1]
    if not num_masks:
        return
    _exclude[(num_masks, triton.cdiv(vocab_size, WORDS * 32))](
        scores, mask, rows, vocab_size, num_words, WORDS=WORDS, num_warps=NUM_WARPS
    )


def configurations(capability: int) -> Iterator[Configuration]:
    """All that the launcher can choose, on any GPU alike."""
    pointers = {"scores": "*fp32", "masks": "*i32", "rows": "*i64"}
    for name, aligned in (("exclude", frozenset(("vocab",))), ("exclude from an odd vocabulary", frozenset[str]())):
        yield Configuration(
            op="bitmask",
            name=name,
            kernel=_exclude,
            types={**pointers, "vocab": "i32", "num_words": "i32"},
            constants={"WORDS": WORDS},
            num_warps=NUM_WARPS,
            num_stages=3,
            aligned=aligned | pointers.keys(),
        )
