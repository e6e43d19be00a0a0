"""The head: hidden states to float32 logits.

It is not `linear` because its weight is not packed: a tied head is the embedding, which must stay readable by rows,
and a second copy of it would be a fifth to a third of a small model.
"""

from typing import Protocol

from torch import Tensor


class Logits(Protocol):
    """Computes x W^T.

    Args:
        x: [rows, size], contiguous. Not modified.
        weight: [vocab, size], contiguous, dtype of x.

    Returns:
        A new contiguous float32 tensor [rows, vocab].

    Accuracy: products are accumulated in float32; the sum may be rounded to the dtype of x before it is widened.
    """

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor: ...
