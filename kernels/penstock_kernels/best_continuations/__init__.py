"""The best continuations of searches: of all rows of one search together, by the row's log-probability and the token's.

A beam of width W asks for the best 2 W, so that W are left when half of them end (Sutskever et al. 2014; the doubling
as in transformers).
"""

from typing import Protocol

from torch import Tensor

NO_TOKEN = -1
"""Instead of a token, where fewer than asked for are possible."""


class BestContinuations(Protocol):
    """Finds them.

    Args:
        scores: [rows, vocab] float32, contiguous; -inf for excluded tokens. Not modified.
        logprobs: [rows] float64, what each row's own tokens add up to.
        starts: [searches + 1] int64: search i has the rows starts[i] to starts[i + 1], at least one; starts[-1] is
            rows.
        count: how many for each search, at most vocab.

    Returns:
        rows: [searches, count] int64, which row each continues; tokens: [searches, count] int64;
        token_logprobs: [searches, count] float32, log-softmax of the token in its row.
        Best sum (row + token, in float64) first; of equal sums the earlier row's, of one row the larger score's, of
        equal scores the lower id's. Where fewer are possible, the rest have `NO_TOKEN`, -inf and any row.

    Accuracy: as of `TokenLogprobs`; what is found depends on the rows of the search alone.
    """

    def __call__(
        self, scores: Tensor, logprobs: Tensor, starts: Tensor, count: int
    ) -> tuple[Tensor, Tensor, Tensor]: ...
