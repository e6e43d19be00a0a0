"""`best_tokens` and `best_token`: the best of each row, whatever ties."""

import math

import numpy as np
import pytest
import torch
from decoding_rows import NEVER, distinct_scores
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_decoding.best import BLOCK, best_token, best_tokens

SCORES = st.floats(width=32, allow_nan=False) | st.sampled_from([0.0, -0.0, 1.0, -1.0, NEVER, math.inf])


@given(
    table=st.integers(1, 40).flatmap(
        lambda width: st.lists(st.lists(SCORES, min_size=width, max_size=width), min_size=1, max_size=4)
    ),
    data=st.data(),
)
@settings(max_examples=150, deadline=None)
def test_sorted_by_score_and_then_by_id(table: list[list[float]], data: st.DataObject) -> None:
    """Any scores, signs of zero and infinities included, are ranked by score and, where they tie, by lower id."""
    count = data.draw(st.integers(0, len(table[0])))
    expected = [sorted(range(len(row)), key=lambda token: (-row[token], token))[:count] for row in table]
    assert best_tokens(torch.tensor(table), count).tolist() == expected


@pytest.mark.parametrize("count", [0, 1, 7, 5000])
def test_equals_topk_without_ties(count: int) -> None:
    """Where nothing ties, the best are those of topk."""
    scores = distinct_scores(3, 5000, seed=1)
    assert torch.equal(best_tokens(scores, count), scores.topk(count).indices)


def test_prefix() -> None:
    """A smaller count gives the beginning of a larger one, even if all tokens tie."""
    assert best_tokens(torch.zeros(2, 999), 999)[:, :5].tolist() == best_tokens(torch.zeros(2, 999), 5).tolist()


def test_nan_is_no_error() -> None:
    """A row with NaN, which is refused elsewhere, still gives ids inside the vocabulary."""
    tokens = best_tokens(torch.tensor([[math.nan, 1.0, -math.nan, 2.0]]), 4)
    assert sorted(tokens[0].tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("width", [1, BLOCK - 1, BLOCK, 3 * BLOCK, 3 * BLOCK + 1])
def test_the_best_one_is_numpys_argmax(width: int) -> None:
    """Few distinct values, so that most rows have ties within and between blocks: always the lowest id."""
    scores = np.random.default_rng(width).integers(-2, 3, size=(50, width)).astype(np.float32)
    scores[:5] = -np.inf
    assert best_token(torch.from_numpy(scores)).tolist() == scores.argmax(-1).tolist()


@pytest.mark.parametrize("count", [1, 10, 299])
def test_ties_in_many_rows(count: int) -> None:
    """More rows than are looked at together, of a few values each, some without a finite one: numpy's stable order."""
    scores = np.random.default_rng(count).integers(-3, 3, size=(150, 300)).astype(np.float32)
    scores[::7, 5:] = -np.inf
    scores[::11] = -np.inf
    expected = np.argsort(-scores, axis=-1, kind="stable")[:, :count]
    assert best_tokens(torch.from_numpy(scores), count).tolist() == expected.tolist()
