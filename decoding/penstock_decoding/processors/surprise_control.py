"""`SurpriseControl`: mirostat's memory of one sequence, and `Surprises`, what a step's tokens would tell.

mu, the most that a token may surprise, moves against the error of what was seen: mu - rate * (surprise - target). Which
token was drawn is known only when it stands in the answer, and after a fork each branch has its own: so a step leaves
behind the surprise of every token that it offered, and the next one looks its own up. mu is remembered for every length
of the answer, since the answer may be cut back to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Surprises:
    """The tokens that a step offered, in ascending order, and the surprise of each in bits."""

    tokens: NDArray[np.int64]
    bits: NDArray[np.float32]

    def of(self, token: int) -> float | None:
        """This token's surprise; None: it was not offered."""
        place = int(np.searchsorted(self.tokens, token))
        return float(self.bits[place]) if place < len(self.tokens) and self.tokens[place] == token else None


class SurpriseControl:
    """One sequence's mu, for every length that its answer had since `start`."""

    def __init__(self, start: int, target: float, rate: float) -> None:
        self._start = start
        self._target = target
        self._rate = rate
        self._mus = [2 * target]
        self._offered: tuple[int, Surprises] | None = None  # for the token at this place of the answer

    def catch_up(self, output: Sequence[int]) -> float:
        """mu for the next token, after taking in what was appended to the answer since the last call.

        A token that no step offered (another processor or the caller put it there) teaches nothing.
        """
        for place in range(self._start + len(self._mus) - 1, len(output)):
            surprise = None
            if self._offered is not None and self._offered[0] == place:
                surprise = self._offered[1].of(output[place])
            error = 0.0 if surprise is None else surprise - self._target
            self._mus.append(self._mus[-1] - self._rate * error)
        return self._mus[-1]

    def offer(self, place: int, surprises: Surprises) -> None:
        """One of these becomes the answer's token at `place`."""
        self._offered = place, surprises

    def rollback(self, num_kept: int) -> bool:
        """Forget what came after the answer's first `num_kept` tokens; False if that is all there was."""
        if num_kept < self._start:
            return False
        del self._mus[num_kept - self._start + 1 :]
        if self._offered is not None and self._offered[0] >= num_kept:
            self._offered = None
        return True

    def copy(self) -> "SurpriseControl":
        """An independent copy."""
        twin = SurpriseControl(self._start, self._target, self._rate)
        twin._mus, twin._offered = list(self._mus), self._offered
        return twin
