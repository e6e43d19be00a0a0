"""Exclusion by name: entries (row, token), and a plan that excludes them.

What a request excludes by name stays excluded: a row in which nothing is left then has no token, and its request alone
fails (a search only loses that branch). No token is let in again to save it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from penstock_decoding.tensors import index_tensor

if TYPE_CHECKING:
    from torch import Tensor

NEVER = float("-inf")


class Entries:
    """Pairs (row, token); one may stand several times."""

    def __init__(self, parts: Sequence[tuple[int, Sequence[int] | NDArray[np.int64]]]) -> None:
        """`parts`: per row its index and its tokens; not all of them may be empty."""
        self._rows = np.repeat([index for index, _ in parts], [len(tokens) for _, tokens in parts])
        self._tokens = np.concatenate([np.asarray(tokens, np.int64) for _, tokens in parts])

    def index(self, scores: "Tensor") -> "tuple[Tensor, Tensor]":
        """The pairs as an index of `scores`."""
        return index_tensor(scores, self._rows), index_tensor(scores, self._tokens)


class ExcludeTokens:
    """Excludes the tokens listed."""

    def __init__(self, entries: Entries) -> None:
        self._entries = entries

    def apply(self, scores: "Tensor") -> None:
        scores.index_put_(self._entries.index(scores), scores.new_tensor(NEVER))
