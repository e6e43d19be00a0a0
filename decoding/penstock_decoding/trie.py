"""`Trie`: many token sequences with their shared beginnings held once, as flat arrays.

Nodes are numbered level by level and, in a level, by (parent, token). So a node's children stand side by side, and all
(parent, token) pairs together are one ascending array: one binary search takes any number of nodes a token further.
"""

import numpy as np
from numpy.typing import NDArray

from penstock_decoding.token_lists import TokenLists

ROOT = 0
OFF = -1
"""Where a token leads that no sequence has there."""

# A pair (parent, token) as one integer; token ids are below it.
_SPAN = 2**32


class Trie:
    """Never changes. Node 0 is the empty beginning."""

    def __init__(self, sequences: TokenLists) -> None:
        """`sequences`: at least one, none of them empty."""
        sizes, tokens = sequences.each_size().astype(np.int64), sequences.each_token().astype(np.int64)
        starts = np.cumsum(sizes) - sizes
        levels, ends = [np.asarray([-1])], []  # the root is nobody's child
        going, nodes, num_nodes = np.arange(len(sizes)), np.zeros(len(sizes), np.int64), 1
        for depth in range(int(sizes.max())):
            # The sequences are in order, and so are these: equal beginnings stand side by side.
            keys = nodes * _SPAN + tokens[starts[going] + depth]
            is_new = np.diff(keys, prepend=-1) != 0
            nodes = num_nodes - 1 + np.cumsum(is_new)
            is_over = sizes[going] == depth + 1
            levels.append(keys[is_new])
            ends.append(nodes[is_over])
            num_nodes += len(levels[-1])
            going, nodes = going[~is_over], nodes[~is_over]
        self._keys = np.concatenate(levels)
        parents = self._keys // _SPAN
        self._first = np.searchsorted(parents, np.arange(num_nodes + 1))
        self.is_end = np.zeros(num_nodes, np.bool_)
        self.is_end[np.concatenate(ends)] = True

    @property
    def num_nodes(self) -> int:
        """The root included."""
        return len(self._keys)

    def descend(self, nodes: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """For each node the child that its token leads to; OFF where there is none."""
        keys = nodes * _SPAN + tokens
        places = np.searchsorted(self._keys, keys)
        found = self._keys[places.clip(max=len(self._keys) - 1)] == keys
        return np.where(found & (nodes != OFF), places, OFF)

    def children(self, nodes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The tokens of all children of each node, one node after the other, and how many each has."""
        starts = self._first[nodes]
        counts = self._first[nodes + 1] - starts
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        return self._keys[np.repeat(starts, counts) + within] % _SPAN, counts

    def parent(self, node: int) -> int:
        """The node that a node is the child of; of the root, -1."""
        return int(self._keys[node] // _SPAN)
