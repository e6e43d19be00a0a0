"""Gathers the hidden states whose logits are wanted: mostly each sequence's last token."""

from typing import Protocol

from torch import Tensor


class GatherLast(Protocol):
    """Picks rows.

    Args:
        x: [tokens, size], contiguous, any float dtype. Not modified.
        rows: [R] int64, each below tokens, in any order, also repeated; may be empty.

    Returns:
        A new contiguous tensor [R, size]: x[rows].
    """

    def __call__(self, x: Tensor, rows: Tensor) -> Tensor: ...
