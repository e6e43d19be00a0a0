"""`ChainTrace`: what every step of a chain does to the distributions of the rows that want to know.

Computed on the host in float64, one row at a time: a trace does not depend on what shares the batch, and rows that do
not ask pay nothing.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from penstock_decoding.chain import Stage
from penstock_decoding.sample_row import StepTrace


class ChainTrace:
    """The traces of some rows of one batch of scores."""

    def __init__(self, scores: Tensor, rows: Iterable[int]) -> None:
        self._now = {row: _distribution(scores[row]) for row in rows}
        self._steps: dict[int, list[StepTrace]] = {row: [] for row in self._now}

    def follow(self, stage: Stage, scores: Tensor) -> None:
        """Take note of what this stage, which has just run, did."""
        if not self._now:
            return
        for row in [ask.row.index for ask in stage.asks if ask.row.index in self._now]:
            before, after = self._now[row], _distribution(scores[row])
            is_left = np.isfinite(after)
            # A step can bring no token back, so that what is left was there before.
            step = StepTrace(
                stage.processor,
                kept_mass=min(float(np.exp(before[is_left]).sum()), 1.0),
                kept_count=int(is_left.sum()),
                entropy_before=_entropy(before),
                entropy_after=_entropy(after),
            )
            self._steps[row].append(step)
            self._now[row] = after

    def of(self, row: int) -> tuple[StepTrace, ...] | None:
        """The steps of a row in order; None: it did not ask."""
        return tuple(self._steps[row]) if row in self._steps else None


def _distribution(scores: Tensor) -> NDArray[np.float64]:
    """Log-probabilities of one row; -inf for a token that is excluded, and for all if nothing is left."""
    values = scores.cpu().numpy().astype(np.float64)
    is_left = np.isfinite(values)
    if not is_left.any():
        return np.full(len(values), -np.inf)
    values = np.where(is_left, values, -np.inf)
    values -= values.max()
    logprobs: NDArray[np.float64] = values - np.log(np.exp(values).sum())
    return logprobs


def _entropy(logprobs: NDArray[np.float64]) -> float:
    """Shannon entropy in nats."""
    finite = logprobs[np.isfinite(logprobs)]
    return float(-(np.exp(finite) * finite).sum()) + 0.0  # no negative zero
