"""Excludes the tokens that a mask of bits does not allow: what a grammar needs each step, in V / 8 bytes a row."""

from typing import Protocol

from torch import Tensor


class ApplyBitmask(Protocol):
    """Gives -inf to what is not allowed.

    Args:
        scores: [rows, vocab] float32, contiguous; changed in place. Allowed tokens and other rows keep their bits.
        mask: [masks, words] int32, contiguous: bit v % 32 of word v // 32 allows token v. Tokens past its end are
            excluded.
        rows: [masks] int64, whose row each mask is; none twice. A negative one is passed over.
    """

    def __call__(self, scores: Tensor, mask: Tensor, rows: Tensor) -> None: ...
