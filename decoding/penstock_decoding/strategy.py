"""`Strategy`: one request's search. It says what to draw for its live rows and which of the draws to continue with.

A strategy sees numpy arrays and never a device tensor, a block or a text. The engine knows one rule about what it
returns: a live row with no branch is freed; its first branch is appended in place; each further branch forks first.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from penstock_decoding.finish import Finish


@dataclass(frozen=True, slots=True)
class Best:
    """For each live row its `count` best candidates, best first, with processed log-probabilities if `count` > 1."""

    count: int = 1


@dataclass(frozen=True, slots=True)
class Sampled:
    """For each live row one independent draw per sample index named. All rows name equally many.

    A draw is a pure function of (seed, sample index, position) and of the row's scores.
    """

    samples: tuple[tuple[int, ...], ...]


Draw = Best | Sampled


@dataclass(frozen=True, slots=True)
class Live:
    """The live rows, in the engine's order. `num_generated`: tokens each answer has so far, the same for all."""

    num_rows: int
    num_generated: int


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was drawn: `tokens` [live rows, candidates] int64; `logprobs` likewise, float32, processed ones, NaN where
    the draw did not ask for them."""

    tokens: NDArray[np.int64]
    logprobs: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Branches:
    """How the search goes on, as arrays of equal length, ordered by parent.

    `parent`: the live row continued; `token`: what is appended; `choice`: the answer that this token now belongs to for
    good, or -1 while that is open; `finish`: a `Finish`, OPEN if the branch lives on.
    """

    parent: NDArray[np.int64]
    token: NDArray[np.int64]
    choice: NDArray[np.int64]
    finish: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class StopRule:
    """Which tokens end an answer once it has `min_tokens` others, and after how many it ends anyway."""

    token_ids: NDArray[np.int64]
    min_tokens: int
    max_tokens: int

    def finishes(self, tokens: NDArray[np.int64], num_generated: int) -> NDArray[np.int64]:
        """For each token the `Finish` it brings as the answer's `num_generated`-th token."""
        finish = np.full(tokens.shape, Finish.LENGTH if num_generated >= self.max_tokens else Finish.OPEN, np.int64)
        if num_generated > self.min_tokens:
            finish[np.isin(tokens, self.token_ids)] = Finish.STOP
        return finish


class Strategy(Protocol):
    """One request's search. Made from its validated `Params`; lives as long as the request."""

    Params: type[Any]

    def __init__(self, params: Any) -> None: ...

    @property
    def max_live(self) -> int:
        """Rows the scheduler must be able to hold for this request."""
        ...

    def draw(self, num_rows: int) -> Draw:
        """What to draw for each of the live rows."""
        ...

    def advance(self, live: Live, drawn: Drawn, stop: StopRule) -> Branches:
        """Choose among what was drawn."""
        ...

    def drop(self, choice: int) -> list[int]:
        """The caller no longer wants this answer: returns the live rows that end by it; unknown choices are ignored."""
        ...
