"""`Race`: the tokens of some rows that have not been drawn yet, each drawn in proportion to what is left.

Two levels as in `draw.py`: a sum for each block of tokens, and a cumulative sum inside the one block that is drawn
from; only that block is summed again once its token has gone. Weights are relative to the row's base, which falls when
little is left beside it: so no token is lost to underflow, however unlikely it is. A row's numbers depend on no other.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from penstock_decoding.draw import BLOCK

# With less than this left beside the base, weights could leave float32; above it, what has left it does not matter.
_FAINT = 2.0**-64

Rows = NDArray[np.int64]


class Race:
    """Rows of log-probabilities from which tokens are taken one by one."""

    def __init__(self, logprobs: Tensor) -> None:
        """`logprobs`: [rows, vocab] float32, -inf for excluded tokens; kept, and changed where there is no padding."""
        num_rows, vocab_size = logprobs.shape
        padding = -vocab_size % BLOCK
        if padding:
            logprobs = torch.nn.functional.pad(logprobs, (0, padding), value=-torch.inf)
        self._left = logprobs.view(num_rows, -1, BLOCK)
        self._base = np.zeros(num_rows)
        self._sums = self._left.exp().sum(-1).double().cpu().numpy()  # [rows, blocks]

    def log_rates(self, rows: Rows) -> NDArray[np.float64]:
        """The logarithm of the probability that each row has left; -inf if no token is."""
        total = self._sums[rows].cumsum(-1)[:, -1]
        for place in np.flatnonzero(total < _FAINT):
            total[place] = self._rebase(int(rows[place]))
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(total) + self._base[rows])

    def take(self, rows: Rows, numbers: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """From each row, which has a token left, the one at the number's place, and its log-probability.

        Args:
            rows: [draws], no row twice.
            numbers: [draws] in [0, 1).
        """
        each = np.arange(len(rows))
        reached = self._sums[rows].cumsum(-1)
        target = numbers * reached[:, -1]
        block = _first_above(reached, target)
        before = np.where(block > 0, reached[each, block - 1], 0.0)
        # A share of the block, because the two levels round differently: it cannot point past either's end.
        share = ((target - before) / (reached[each, block] - before)).clip(0.0, 1.0)
        at = torch.from_numpy(rows).to(self._left.device), torch.from_numpy(block).to(self._left.device)
        logprobs = self._left[at].cpu().numpy()  # [draws, BLOCK]
        weights = np.exp(logprobs.astype(np.float64) - self._base[rows, None])
        inside = weights.cumsum(-1)
        place = _first_above(inside, share * inside[:, -1])
        weights[each, place] = 0.0
        self._sums[rows, block] = weights.sum(-1)
        self._left[(*at, torch.from_numpy(place).to(self._left.device))] = -torch.inf
        return block * BLOCK + place, logprobs[each, place]

    def _rebase(self, row: int) -> float:
        """Weigh a row's tokens by the likeliest that is left; returns their sum, 0 if none is."""
        left = self._left[row].cpu().numpy().astype(np.float64)
        best = left.max()
        if best == -np.inf:
            return 0.0
        self._base[row] = best
        self._sums[row] = np.exp(left - best).sum(-1)
        return float(self._sums[row].cumsum()[-1])


def _first_above(cumulative: NDArray[np.float64], target: NDArray[np.float64]) -> Rows:
    """In each row the first place above the target; the last one with any weight if rounding hides it."""
    place = (cumulative <= target[:, None]).sum(-1)
    return np.asarray(np.minimum(place, (cumulative < cumulative[:, -1:]).sum(-1)))
