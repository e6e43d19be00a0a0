"""`IndependentAnswers`: n answers that begin as one row and never look at each other again."""

import numpy as np

from penstock_decoding.finish import Finish
from penstock_decoding.strategy import Branches, Drawn, Live, StopRule


class IndependentAnswers:
    """Which live row carries which of n independent answers.

    Before the first token one row stands for all of them: the prompt is computed once. The first advance forks it.
    """

    def __init__(self, n: int) -> None:
        self._open = list(range(n))
        self._is_forked = False

    @property
    def going_on(self) -> tuple[int, ...] | None:
        """See `GoesOn`."""
        return tuple(self._open) if self._is_forked else None

    def by_row(self) -> tuple[tuple[int, ...], ...]:
        """For each live row the answers it carries."""
        return tuple((choice,) for choice in self._open) if self._is_forked else (tuple(self._open),)

    def advance(self, live: Live, drawn: Drawn, stop: StopRule) -> Branches:
        """One token for every open answer; `drawn.tokens` holds them in the order of `by_row`."""
        token = drawn.tokens.reshape(-1)
        choice = np.asarray(self._open, np.int64)
        parent = np.arange(len(choice)) if self._is_forked else np.zeros(len(choice), np.int64)
        finish = stop.finishes(token, live.num_generated + 1)
        self._open = [int(c) for c in choice[finish == Finish.OPEN]]
        self._is_forked = True
        return Branches(parent=parent, token=token, choice=choice, finish=finish)

    def drop(self, choice: int) -> list[int]:
        """Close an answer; returns the live rows that end with it."""
        if choice not in self._open:
            return []
        row = self._open.index(choice)
        self._open.remove(choice)
        if self._is_forked:
            return [row]
        return [] if self._open else [0]
