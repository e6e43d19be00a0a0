"""`Trie` against plain sets of beginnings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_decoding.token_lists import TokenLists
from penstock_decoding.trie import OFF, ROOT, Trie

Tokens = tuple[int, ...]
# Ids at both ends of what a vocabulary may hold.
tokens = st.sampled_from([0, 1, 2, 3, 2**31 - 1])
sequences = st.lists(st.lists(tokens, min_size=1, max_size=5).map(tuple), min_size=1, max_size=30)


@settings(max_examples=200, deadline=None)
@given(sequences=sequences, data=st.data())
def test_equals_sets_of_beginnings(sequences: list[Tokens], data: st.DataObject) -> None:
    """Every beginning is one node, leads on to what some sequence goes on with, and to nothing else."""
    trie = Trie(TokenLists.of(sequences))
    beginnings = sorted({sequence[:size] for sequence in sequences for size in range(len(sequence) + 1)})
    assert trie.num_nodes == len(beginnings)
    nodes: dict[Tokens, int] = {(): ROOT}
    for beginning in beginnings[1:]:
        (node,) = trie.descend(np.array([nodes[beginning[:-1]]]), np.array([beginning[-1]])).tolist()
        assert node != OFF and trie.parent(node) == nodes[beginning[:-1]]
        nodes[beginning] = node
    assert sorted(nodes.values()) == list(range(len(beginnings)))
    asked = data.draw(st.lists(st.sampled_from(beginnings), max_size=9))
    found, counts = trie.children(np.asarray([nodes[beginning] for beginning in asked], np.int64))
    parts = np.split(found, np.cumsum(counts)[:-1]) if asked else []
    for beginning, part in zip(asked, parts, strict=True):
        size = len(beginning)
        assert part.tolist() == sorted({s[size] for s in sequences if len(s) > size and s[:size] == beginning})
        assert bool(trie.is_end[nodes[beginning]]) == (beginning in sequences)


@settings(max_examples=100, deadline=None)
@given(sequences=sequences, walks=st.lists(st.lists(tokens, max_size=6).map(tuple), max_size=9))
def test_many_at_once(sequences: list[Tokens], walks: list[Tokens]) -> None:
    """Walks of any tokens, all a step at a time: each is on the trie exactly as long as it begins a sequence."""
    trie = Trie(TokenLists.of(sequences))
    for size in range(1, 7):
        going = [walk for walk in walks if len(walk) >= size]
        nodes = np.full(len(going), ROOT)
        for depth in range(size):
            nodes = trie.descend(nodes, np.asarray([walk[depth] for walk in going], np.int64))
        assert [node != OFF for node in nodes.tolist()] == [
            any(sequence[:size] == walk[:size] for sequence in sequences) for walk in going
        ]


def test_token_lists_are_sets() -> None:
    """Whatever the order, equal sets are equal; what is no token id is refused, however large."""
    lists = TokenLists.of([(3, 1), (1,), [3, 1], (1, 5), ()])
    assert lists == TokenLists.of([(), (1, 5), (1,), (3, 1)])
    assert list(lists) == [(), (1,), (1, 5), (3, 1)]
    assert (len(lists), len(TokenLists.of([])), list(TokenLists())) == (4, 0, [])
    assert TokenLists.of([(2**31 - 1, 7), (5,)]).last_tokens().tolist() == [5, 7]
    for wrong in (-1, 2**31, 2**64, -(2**70)):
        with pytest.raises(ValueError, match="not a token id"):
            TokenLists.of([(1,), (2, wrong)])
