"""What a strategy can ask to be drawn for its live rows, and what that is for one row.

A draw is a pure function of the row's processed scores, of what is asked, and, where it is random, of (seed, sample
index or rank, position).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NO_TOKEN = -1
"""Stands where fewer tokens are named than there is room for; its log-probability is -inf."""


@dataclass(frozen=True, slots=True)
class BestTokens:
    """A row's `count` best tokens, best first, then those `named`; processed log-probabilities if there are several.

    `search`: the draw of which this is one row's, if only the `count` best of all its rows together are needed, and
    `logprob` the row's own log-probability there.
    """

    count: int = 1
    named: NDArray[np.int64] | None = None
    search: "Best | None" = None
    logprob: float = 0.0

    @property
    def with_logprobs(self) -> bool:
        return self.count > 1 or self.named is not None


@dataclass(frozen=True, slots=True)
class SampledTokens:
    """One independent token per sample index."""

    samples: tuple[int, ...]
    with_logprobs: bool = False


@dataclass(frozen=True, slots=True)
class PerturbedTokens:
    """A row's `count` tokens without replacement, in the order of their Gumbel-perturbed log-probabilities.

    `logprob` is the row's own log-probability, `peak` its own perturbed one, which the largest of its tokens' equals;
    NaN: drawn freely. Tokens below `floor` are not wanted. `rank` tells the rows of one search apart.
    """

    count: int
    logprob: float
    peak: float
    floor: float
    rank: int

    with_logprobs = True


RowDraw = BestTokens | SampledTokens | PerturbedTokens


@dataclass(frozen=True, slots=True)
class Best:
    """For each live row its `count` best tokens, best first; with processed log-probabilities if several are drawn.

    `named`: [live rows, k] further tokens, drawn after the best ones whatever their place; `NO_TOKEN` fills up.
    `logprobs`: [live rows] the rows' own log-probabilities, for a search that goes on with the `count` best of all rows
    together, by the sum of a row's and the token's. Tokens that cannot be among these need not be drawn: `NO_TOKEN` and
    -inf stand for them.
    """

    count: int = 1
    named: NDArray[np.int64] | None = None
    logprobs: NDArray[np.float64] | None = None

    def for_row(self, row: int) -> BestTokens:
        """What this is for one live row."""
        named = None if self.named is None else self.named[row]
        if self.logprobs is None:
            return BestTokens(self.count, named)
        return BestTokens(self.count, named, self, float(self.logprobs[row]))


@dataclass(frozen=True, slots=True)
class Sampled:
    """For each live row one independent draw per sample index named. All rows name equally many."""

    samples: tuple[tuple[int, ...], ...]
    with_logprobs: bool = False

    def for_row(self, row: int) -> SampledTokens:
        """What this is for one live row."""
        return SampledTokens(self.samples[row], self.with_logprobs)


@dataclass(frozen=True, slots=True)
class Perturbed:
    """For each live row `count` tokens without replacement, by Gumbel-perturbed log-probabilities, largest first.

    `logprobs` [live rows] float64: the rows' own log-probabilities; `peaks` [live rows] float64: their own perturbed
    ones, on which their tokens' are conditioned; NaN where there is none yet, at the root. Tokens whose perturbed
    log-probability is below `floor` need not be drawn: `NO_TOKEN` and -inf stand for them.
    """

    count: int
    logprobs: NDArray[np.float64]
    peaks: NDArray[np.float64]
    floor: float = -np.inf

    def for_row(self, row: int) -> PerturbedTokens:
        """What this is for one live row."""
        return PerturbedTokens(self.count, float(self.logprobs[row]), float(self.peaks[row]), self.floor, row)


Draw = Best | Sampled | Perturbed
