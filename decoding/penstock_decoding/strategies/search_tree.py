"""`SearchTree`: the tokens of all hypotheses of one search, each shared beginning held once.

A node is a token and its parent. Live rows and finished hypotheses hold their last node; a node that nobody holds and
that has no children is forgotten, and so are the ancestors that this leaves without any. Arrays throughout: a step of
512 rows runs no Python per row.

Invariant: a node is alive exactly while a held node descends from it or is it. `ROOT` is the prompt: never forgotten.
"""

import numpy as np
from numpy.typing import NDArray

from penstock_decoding.draws import NO_TOKEN

ROOT = 0

Nodes = NDArray[np.int64]


class SearchTree:
    """Nodes 0, 1, ...; the numbers of forgotten ones are given again."""

    def __init__(self) -> None:
        self._parent = np.full(1, -1, np.int64)
        self._token = np.full(1, NO_TOKEN, np.int64)
        self._num_children = np.zeros(1, np.int64)
        # Exclusive or of all children: with one child, it is that child.
        self._children = np.zeros(1, np.int64)
        # The root is held for ever, and by the prompt's row until the search has begun.
        self._num_holds = np.full(1, 2, np.int64)
        self._free = np.zeros(0, np.int64)
        self._forgotten: list[Nodes] = []

    @property
    def num_nodes(self) -> int:
        """Nodes alive, the root included."""
        return len(self._parent) - len(self._free) - sum(map(len, self._forgotten))

    def grow(self, parents: Nodes, tokens: NDArray[np.int64]) -> Nodes:
        """One new node for each parent and token, held once."""
        nodes = self._take(len(parents))
        self._parent[nodes], self._token[nodes] = parents, tokens
        self._num_children[nodes], self._children[nodes], self._num_holds[nodes] = 0, 0, 1
        np.add.at(self._num_children, parents, 1)
        np.bitwise_xor.at(self._children, parents, nodes)
        return nodes

    def hold(self, nodes: Nodes) -> None:
        """Keep these; a node that stands twice is held twice more."""
        np.add.at(self._num_holds, nodes, 1)

    def release(self, nodes: Nodes) -> None:
        """Give up one hold of each, and forget what is then reachable from nowhere."""
        np.subtract.at(self._num_holds, nodes, 1)
        nodes = np.unique(nodes)
        while len(nodes):
            dead = nodes[(self._num_holds[nodes] == 0) & (self._num_children[nodes] == 0)]
            parents = self._parent[dead]
            np.subtract.at(self._num_children, parents, 1)
            np.bitwise_xor.at(self._children, parents, dead)
            self._num_holds[dead] = -1  # so that none of them dies twice
            self._forgotten.append(dead)
            nodes = np.unique(parents)

    def forgotten(self) -> Nodes:
        """The nodes forgotten since the last call; from now on their numbers may be given again."""
        gone = np.concatenate(self._forgotten) if self._forgotten else np.zeros(0, np.int64)
        self._forgotten.clear()
        self._free = np.concatenate((self._free, gone))
        return gone

    def only_way(self, node: int) -> int | None:
        """The one child of a node at which nothing ends: every hypothesis under the node goes on there."""
        is_only = self._num_children[node] == 1 and self._num_holds[node] == (node == ROOT)
        return int(self._children[node]) if is_only else None

    def path(self, node: int, since: int = ROOT) -> Nodes:
        """The nodes from below `since`, an ancestor, to `node`."""
        nodes = []
        while node != since:
            nodes.append(node)
            node = int(self._parent[node])
        return np.asarray(nodes[::-1], np.int64)

    def tokens(self, nodes: Nodes) -> NDArray[np.int64]:
        """The nodes' tokens."""
        return self._token[nodes]

    def parents(self, nodes: Nodes) -> Nodes:
        """The nodes' parents; -1 for the root."""
        return self._parent[nodes]

    def _take(self, count: int) -> Nodes:
        missing = count - len(self._free)
        if missing > 0:
            size = len(self._parent)
            room = max(missing, size)
            for name in ("_parent", "_token", "_num_children", "_children", "_num_holds"):
                setattr(self, name, np.concatenate((getattr(self, name), np.zeros(room, np.int64))))
            self._free = np.concatenate((self._free, np.arange(size, size + room)))
        taken, self._free = self._free[:count], self._free[count:]
        return taken
