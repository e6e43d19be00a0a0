"""`SearchTree` against a tree of plain dicts, and what it says of the way that all hypotheses share."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_decoding.strategies.search_tree import ROOT, SearchTree


def nodes(*ids: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.asarray(ids, np.int64)


def grown(tree: SearchTree, *pairs: tuple[int, int]) -> list[int]:
    """New nodes for (parent, token) pairs."""
    new: list[int] = tree.grow(nodes(*(parent for parent, _ in pairs)), nodes(*(token for _, token in pairs))).tolist()
    return new


class PlainTree:
    """The same promises, kept by looking at everything each time."""

    def __init__(self) -> None:
        self.parent: dict[int, int] = {}
        self.token: dict[int, int] = {}
        self.holds: dict[int, int] = {}

    def alive(self) -> set[int]:
        found = set()
        for node, count in self.holds.items():
            while count and node != ROOT:
                found.add(node)
                node = self.parent[node]
        return found

    def sweep(self) -> set[int]:
        """Forget what no held node descends from."""
        gone = set(self.parent) - self.alive()
        for node in gone:
            del self.parent[node], self.token[node], self.holds[node]
        return gone

    def children(self, node: int) -> list[int]:
        return [child for child, parent in self.parent.items() if parent == node]

    def path(self, node: int) -> list[int]:
        way = []
        while node != ROOT:
            way.append(node)
            node = self.parent[node]
        return way[::-1]


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_life(data: st.DataObject) -> None:
    """Growing, holding and releasing in any order: alive is what is held or above it, told once when it is gone."""
    tree, plain = SearchTree(), PlainTree()
    tree.release(nodes(ROOT))  # the prompt's row goes on
    for _ in range(data.draw(st.integers(1, 25))):
        alive = sorted(plain.parent)
        held = [node for node in alive for _ in range(plain.holds[node])]
        action = data.draw(st.sampled_from(["grow", "grow", "hold", "release"]))
        if action == "grow":
            parents = data.draw(st.lists(st.sampled_from([ROOT, *alive]), min_size=0, max_size=5))
            tokens = [data.draw(st.integers(0, 9)) for _ in parents]
            for parent, token, node in zip(
                parents, tokens, grown(tree, *zip(parents, tokens, strict=True)), strict=True
            ):
                assert node not in plain.parent and node != ROOT
                plain.parent[node], plain.token[node], plain.holds[node] = parent, token, 1
        elif action == "hold" and alive:
            chosen = data.draw(st.lists(st.sampled_from(alive), max_size=4))
            tree.hold(nodes(*chosen))
            for node in chosen:
                plain.holds[node] += 1
        elif held:
            chosen = data.draw(st.lists(st.sampled_from(range(len(held))), unique=True, max_size=6))
            tree.release(nodes(*(held[i] for i in chosen)))
            for i in chosen:
                plain.holds[held[i]] -= 1
            assert sorted(tree.forgotten().tolist()) == sorted(plain.sweep())
        assert tree.num_nodes == 1 + len(plain.parent)
        for node in plain.parent:
            assert tree.path(node).tolist() == plain.path(node)
            assert tree.tokens(tree.path(node)).tolist() == [plain.token[above] for above in plain.path(node)]
            assert tree.parents(nodes(node)).tolist() == [plain.parent[node]]
        for node in [ROOT, *plain.parent]:
            children = plain.children(node)
            is_end = node != ROOT and plain.holds[node] > 0
            assert tree.only_way(node) == (children[0] if len(children) == 1 and not is_end else None)
    tree.forgotten()


def test_the_root_waits_for_the_prompt_row() -> None:
    """While the prompt's row is live, a hypothesis ends at the root: nothing is common to all yet."""
    tree = SearchTree()
    (child,) = grown(tree, (ROOT, 5))
    assert tree.only_way(ROOT) is None
    tree.release(nodes(ROOT))
    assert tree.only_way(ROOT) == child


def test_a_chain_dies_up_to_the_last_fork() -> None:
    """Releasing a leaf forgets its ancestors as far as they serve nobody else, all at once."""
    tree = SearchTree()
    tree.release(nodes(ROOT))
    (stem,) = grown(tree, (ROOT, 1))
    left, right = grown(tree, (stem, 2), (stem, 3))
    (leaf,) = grown(tree, (left, 4))
    tree.release(nodes(stem, left))
    assert tree.forgotten().tolist() == []
    tree.release(nodes(leaf))
    assert sorted(tree.forgotten().tolist()) == sorted([leaf, left])
    assert tree.only_way(stem) == right
    tree.release(nodes(right))
    assert sorted(tree.forgotten().tolist()) == sorted([right, stem])
    assert tree.num_nodes == 1


def test_two_holds_need_two_releases() -> None:
    """A hypothesis that is kept twice, as a live row and as an answer, stays until both are gone."""
    tree = SearchTree()
    (node,) = grown(tree, (ROOT, 1))
    tree.hold(nodes(node))
    tree.release(nodes(node))
    assert tree.forgotten().tolist() == []
    tree.release(nodes(node))
    assert tree.forgotten().tolist() == [node]


def test_numbers_are_given_again_only_after_they_were_told() -> None:
    """Whoever keeps something by node hears of its end before the number means another one."""
    tree = SearchTree()
    old = grown(tree, *((ROOT, token) for token in range(6)))
    tree.release(nodes(*old))
    assert not set(grown(tree, *((ROOT, token) for token in range(6)))) & set(old)
    assert sorted(tree.forgotten().tolist()) == sorted(old)
    assert tree.num_nodes == 7
    again = [node for _ in range(8) for node in grown(tree, (ROOT, 1))]
    assert set(again) & set(old)


def test_a_long_search_stays_small() -> None:
    """A thousand steps of 50 rows with one survivor each: the numbers stay below a few times what is alive."""
    tree = SearchTree()
    live = nodes(ROOT)
    largest = 0
    for _ in range(1000):
        grown_now = tree.grow(np.full(50, live[0]), np.arange(50))
        tree.release(np.concatenate((live, grown_now[1:])))
        tree.forgotten()
        live = grown_now[:1]
        largest = max(largest, int(grown_now.max()))
    assert tree.num_nodes == 1001
    assert largest < 4 * (1001 + 50)
