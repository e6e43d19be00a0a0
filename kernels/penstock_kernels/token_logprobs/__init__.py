"""Log-probabilities of one token of each row, and the row's likeliest tokens with theirs."""

from typing import Protocol

from torch import Tensor


class TokenLogprobs(Protocol):
    """Computes the log-softmax where it is wanted.

    Args:
        scores: [rows, vocab] float32, contiguous; -inf for excluded tokens. Not modified.
        tokens: [rows] int64; a negative one stands for none.
        num_top: how many of the likeliest, at most vocab; 0 for none.

    Returns:
        chosen: [rows] float32, of the tokens; -inf where there is none.
        top_ids: [rows, num_top] int64, largest score first, of equal ones those with the lowest ids first.
        top_logprobs: [rows, num_top] float32.

    Accuracy: sums of exp in float32 or better; the ids are exact. A row's values depend on that row alone, bit for bit.
    A row of -inf alone gives -inf. What a row with NaN or +inf gives means nothing.
    """

    def __call__(self, scores: Tensor, tokens: Tensor, num_top: int) -> tuple[Tensor, Tensor, Tensor]: ...
