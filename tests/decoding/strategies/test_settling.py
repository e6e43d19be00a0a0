"""`Settling`: what of a search's answers is told, when, and only once."""

import numpy as np
import pytest

from penstock_decoding.errors import NoAnswer
from penstock_decoding.finish import Finish
from penstock_decoding.strategies.search_tree import ROOT, SearchTree
from penstock_decoding.strategies.settling import Hypothesis, Settling
from penstock_decoding.strategy import Settled


def grow(tree: SearchTree, live: int, *tokens: int) -> list[int]:
    """The live node goes on with these tokens."""
    nodes: list[int] = tree.grow(np.full(len(tokens), live), np.asarray(tokens, np.int64)).tolist()
    tree.release(np.asarray([live]))
    return nodes


def listed(settled: Settled) -> list[tuple[int, int, int]]:
    """(choice, token, finish) of all that is told."""
    columns = (settled.choice, settled.token, settled.finish)
    return [(int(c), int(t), int(f)) for c, t, f in zip(*columns, strict=True)]


def test_the_shared_beginning_is_told_as_it_grows() -> None:
    """Nothing while two hypotheses differ; all that the survivors share when one is gone, each token once."""
    tree, settling = SearchTree(), Settling(1)
    left, right = grow(tree, ROOT, 7, 8)
    assert settling.growth(tree) is None
    (longer,) = grow(tree, left, 9)
    assert settling.growth(tree) is None
    tree.release(np.asarray([right]))
    told = settling.growth(tree)
    assert told is not None
    assert listed(told) == [(0, 7, 0), (0, 9, 0)]
    assert np.isnan(told.score).all()
    assert settling.told == longer
    assert settling.growth(tree) is None
    one, _ = grow(tree, longer, 1, 2)
    assert settling.growth(tree) is None
    assert listed(settling.rest(tree, [Hypothesis(one, Finish.STOP, -1.5)])) == [(0, 1, Finish.STOP)]


def test_a_complete_answer_holds_the_telling_back() -> None:
    """As long as a shorter answer may still be the best, the longer one's tokens are not certain."""
    tree, settling = SearchTree(), Settling(1)
    (stem,) = grow(tree, ROOT, 7)
    end, live = grow(tree, stem, 0, 8)
    told = settling.growth(tree)
    assert told is not None and listed(told) == [(0, 7, 0)]
    grow(tree, live, 9)
    assert settling.growth(tree) is None
    assert listed(settling.rest(tree, [Hypothesis(end, Finish.STOP, -1.0)])) == [(0, 0, Finish.STOP)]


def test_the_other_answers_come_whole_at_the_end() -> None:
    """Best first, each with its score, the first one without what was told of it."""
    tree, settling = SearchTree(), Settling(3)
    (stem,) = grow(tree, ROOT, 7)
    settling.growth(tree)
    one, two = grow(tree, stem, 1, 2)
    rest = settling.rest(tree, [Hypothesis(two, Finish.LENGTH, -1.0), Hypothesis(one, Finish.STOP, -2.0, 0.25)])
    assert listed(rest) == [(0, 2, Finish.LENGTH), (1, 7, 0), (1, 1, Finish.STOP)]
    assert rest.score.tolist()[::2] == [-1.0, -2.0]
    assert np.isnan(rest.score[1])
    assert rest.inclusion_probability.tolist()[2] == 0.25
    assert rest.node.tolist() == [two, stem, one]


def test_answers_nobody_wants_are_not_told() -> None:
    """A dropped answer is left out, early and at the end, and keeps its number; with the last one all ends."""
    tree, settling = SearchTree(), Settling(2)
    assert not settling.drop(0)
    assert not settling.drop(5)
    (stem,) = grow(tree, ROOT, 7)
    assert settling.growth(tree) is None
    one, two = grow(tree, stem, 1, 2)
    rest = settling.rest(tree, [Hypothesis(one, Finish.STOP, -1.0), Hypothesis(two, Finish.STOP, -2.0)])
    assert listed(rest) == [(1, 7, 0), (1, 2, Finish.STOP)]
    assert settling.drop(1)


def test_no_answer_at_all_is_an_error() -> None:
    """The engine fails the request by it; an empty reply would be taken for an empty answer."""
    with pytest.raises(NoAnswer):
        Settling(1).rest(SearchTree(), [])
