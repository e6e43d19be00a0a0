"""`Settling`: what of a search's answers is final, told once: the beginning that nothing can change any more, as it
grows, and at the end all the rest.

While a search is open only answer 0, the best, is told: it is certain to go through every node that all hypotheses in
play share. How many others there will be, the search may not know before its end.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penstock_decoding.errors import NoAnswer
from penstock_decoding.finish import Finish
from penstock_decoding.strategies.search_tree import ROOT, SearchTree
from penstock_decoding.strategy import Settled


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A complete answer: the node of its last token, why it ended, and what it is ranked by."""

    node: int
    finish: Finish
    score: float
    inclusion_probability: float = float("nan")


class Settling:
    """Answers 0 to n-1 of one search."""

    def __init__(self, n: int) -> None:
        self._wanted = set(range(n))
        self._told = ROOT  # the last node of answer 0 that was told

    @property
    def told(self) -> int:
        """The last node that is settled: every answer goes through it."""
        return self._told

    def drop(self, choice: int) -> bool:
        """An answer is no longer wanted. Returns whether none is."""
        self._wanted.discard(choice)
        return not self._wanted

    def growth(self, tree: SearchTree) -> Settled | None:
        """What has become common to all hypotheses in play since the last call."""
        nodes = []
        while (child := tree.only_way(self._told)) is not None:
            self._told = child
            nodes.append(child)
        if not nodes or 0 not in self._wanted:
            return None
        return _settled([(0, np.asarray(nodes, np.int64), None)], tree)

    def rest(self, tree: SearchTree, hypotheses: Sequence[Hypothesis]) -> Settled:
        """All answers to their ends; `hypotheses` best first. With fewer than n, the other answers never come.

        Raises:
            NoAnswer: there is none.
        """
        if not hypotheses:
            raise NoAnswer("the search ended without an answer: nothing that it had to hold to was left to say")
        parts = [
            (choice, tree.path(end.node, self._told if choice == 0 else ROOT), end)
            for choice, end in enumerate(hypotheses)
            if choice in self._wanted
        ]
        return _settled(parts, tree)


def _settled(parts: Sequence[tuple[int, NDArray[np.int64], Hypothesis | None]], tree: SearchTree) -> Settled:
    sizes = [len(nodes) for _, nodes, _ in parts]
    nodes = np.concatenate([nodes for _, nodes, _ in parts]) if parts else np.zeros(0, np.int64)
    finish = np.full(len(nodes), Finish.OPEN, np.int64)
    score, inclusion = np.full(len(nodes), np.nan), np.full(len(nodes), np.nan)
    for last, (_, _, end) in zip(np.cumsum(sizes) - 1, parts, strict=True):
        if end is not None:
            finish[last], score[last], inclusion[last] = end.finish, end.score, end.inclusion_probability
    choice = np.repeat(np.asarray([choice for choice, _, _ in parts], np.int64), sizes)
    return Settled(choice, tree.tokens(nodes), nodes, finish, score, inclusion)
