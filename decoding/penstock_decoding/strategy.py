"""`Strategy`: one request's search. It says what to draw for its live rows and which of the draws to continue with.

A strategy sees numpy arrays and never a device tensor, a block or a text. The engine knows one rule about what it
returns: a live row with no branch is freed; its first branch is appended in place; each further branch forks first.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from penstock_decoding.draws import Draw
from penstock_decoding.finish import Finish


@dataclass(frozen=True, slots=True)
class Live:
    """The live rows, in the engine's order. `num_generated`: tokens each answer has so far, the same for all."""

    num_rows: int
    num_generated: int


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was drawn, each [live rows, candidates].

    `tokens`: int64; `logprobs`: float32, processed, NaN where the draw did not ask for them, -inf for a token that is
    excluded or that does not exist; `perturbed`: float64, only for `Perturbed`.
    """

    tokens: NDArray[np.int64]
    logprobs: NDArray[np.float32]
    perturbed: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """Tokens that now belong to an answer for good, answer by answer and each in order; arrays of equal length.

    `node`: the branch each came from, of this step or of an earlier one. `finish`: as in `Branches`, for an answer's
    last token. `score`: what the answer was ranked by, and `inclusion_probability`: that of being among the answers of
    a search without replacement; both float64, NaN but on the last token of an answer that has one.
    """

    choice: NDArray[np.int64]
    token: NDArray[np.int64]
    node: NDArray[np.int64]
    finish: NDArray[np.int64]
    score: NDArray[np.float64]
    inclusion_probability: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Branches:
    """How the search goes on, as arrays of equal length.

    `parent`: the live row continued; `token`: what is appended; `choice`: the answer that this token now belongs to for
    good, or -1 while that is open; `finish`: a `Finish`, OPEN if the branch lives on. The open branches, in this order,
    are the live rows of the next step. Without any, the request is over.

    A search that settles answers later gives each branch a number in `node`, tells in `settled` what has become final,
    and in `forgotten` which nodes it will not name any more; their numbers may come again from the next step on.
    """

    parent: NDArray[np.int64]
    token: NDArray[np.int64]
    choice: NDArray[np.int64]
    finish: NDArray[np.int64]
    node: NDArray[np.int64] | None = None
    settled: Settled | None = None
    forgotten: NDArray[np.int64] | None = None


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

    def draw(self, live: Live, stop: StopRule) -> Draw:
        """What to draw for each of the live rows."""
        ...

    def advance(self, live: Live, drawn: Drawn, stop: StopRule) -> Branches:
        """Choose among what was drawn.

        Raises:
            NoAnswer: the search came to its end without one.
        """
        ...

    def drop(self, choice: int) -> list[int]:
        """The caller no longer wants this answer: returns the live rows that end by it; unknown choices are ignored."""
        ...


@runtime_checkable
class GoesOn(Protocol):
    """A strategy whose rows may go on by themselves, each with the one token that it draws until its answer ends.

    While they do, what a row draws next depends on no token, and so the next draw can be made before `advance` has seen
    this one. A draw by which no answer ends need not be shown to `advance` at all. Each class has to say so for itself:
    nothing is inherited.
    """

    @property
    def going_on(self) -> tuple[int, ...] | None:
        """For each live row the answer that its tokens belong to; None while it is not so."""
        ...
