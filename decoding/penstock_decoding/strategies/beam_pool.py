"""`BeamPool`: the best complete hypotheses of one group of beams, and whether its search is over."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from penstock_decoding.finish import Finish
from penstock_decoding.strategies.search_tree import SearchTree
from penstock_decoding.strategies.settling import Hypothesis

EarlyStopping = Literal["never"] | bool


class BeamPool:
    """The `width` best complete hypotheses, ranked by log-probability / length ** `length_penalty`, in transformers'
    meaning of both and of `early_stopping`. Those that can no longer be returned give up their nodes."""

    def __init__(self, width: int, num_returned: int, length_penalty: float, early_stopping: EarlyStopping) -> None:
        self._width = width
        self._num_returned = num_returned
        self._length_penalty = length_penalty
        self._early_stopping = early_stopping
        self._scores = np.zeros(0)
        self._nodes = np.zeros(0, np.int64)
        self._finish = np.zeros(0, np.int64)
        self.is_done = False

    def add(
        self,
        nodes: NDArray[np.int64],
        logprobs: NDArray[np.float64],
        finish: NDArray[np.int64],
        length: int,
        tree: SearchTree,
    ) -> None:
        """Take in hypotheses of `length` tokens, best first, with one hold on each node."""
        scores = np.concatenate((self._scores, logprobs / length**self._length_penalty))
        order = np.argsort(-scores, kind="stable")[: self._width]
        every_node = np.concatenate((self._nodes, nodes))
        kept = order[: self._num_returned]
        tree.release(every_node[np.setdiff1d(np.flatnonzero(every_node >= 0), kept)])
        every_node[np.setdiff1d(np.arange(len(every_node)), kept)] = -1
        self._scores, self._nodes = scores[order], every_node[order]
        self._finish = np.concatenate((self._finish, finish))[order]

    def judge(self, best_running: float | None, length: int, max_length: int) -> None:
        """Decide whether the search is over, once the live hypotheses have `length` tokens; None: none is live."""
        if best_running is None:
            self.is_done = True
        elif len(self._scores) == self._width:
            longest = max_length if self._early_stopping == "never" and self._length_penalty > 0 else length
            can_improve = best_running / longest**self._length_penalty > self._scores[-1]
            self.is_done = self._early_stopping is True or not can_improve

    def hypotheses(self) -> list[Hypothesis]:
        """Those that can be returned, best first."""
        return [
            Hypothesis(int(node), Finish(int(finish)), float(score))
            for node, finish, score in zip(self._nodes, self._finish, self._scores, strict=True)
            if node >= 0
        ]
