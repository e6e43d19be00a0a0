"""`draw_tokens` against the inverse of the cumulative distribution in float64."""

import numpy as np
import pytest
import torch
from decoding_rows import NEVER, distinct_scores, kept
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from penstock_decoding.draw import BLOCK, draw_tokens
from penstock_decoding.philox import uniforms

FALSE_ALARM = 1e-6  # of one statistical test, were its numbers drawn anew; they are fixed, so no test flickers
ALMOST_ONE = 1 - 2.0**-53
# Weights are float32, and up to 128 of them are summed in float32 before anything is float64.
TOLERANCE = 2e-6


def draw(scores: Tensor, rows: list[int], numbers: list[float]) -> list[int]:
    """Draws with each row's own peak."""
    numbers64 = torch.tensor(numbers, dtype=torch.float64)
    tokens: list[int] = draw_tokens(scores, torch.tensor(rows), numbers64).tolist()
    return tokens


def cumulative(scores: Tensor) -> NDArray[np.float64]:
    """The cumulative distribution of one row."""
    weights = np.exp(scores.double().numpy() - float(scores.max()))
    return np.asarray(np.cumsum(weights) / weights.sum())


def assert_inverse(scores: Tensor, token: int, number: float) -> None:
    """`number` lies in the token's share of the row's cumulative distribution."""
    reached = cumulative(scores)
    assert scores[token] > NEVER
    assert (reached[token - 1] if token else 0.0) - TOLERANCE <= number <= reached[token] + TOLERANCE


@st.composite
def tables(draw_from: st.DrawFn) -> Tensor:
    """[1 to 4 rows, 1 to 700 tokens], flat to very peaked, with none to nearly all tokens excluded."""
    random = np.random.default_rng(draw_from(st.integers(0, 2**32)))
    shape = draw_from(st.integers(1, 4)), draw_from(st.integers(1, 700) | st.sampled_from([BLOCK, 2 * BLOCK, 1]))
    scores = random.normal(size=shape) * draw_from(st.sampled_from([0.0, 1.0, 10.0, 100.0]))
    allowed = random.random(shape) < draw_from(st.sampled_from([1.0, 0.5, 0.01]))
    allowed[np.arange(shape[0]), random.integers(0, shape[1], shape[0])] = True
    return torch.tensor(np.where(allowed, scores, NEVER), dtype=torch.float32)


NUMBERS = st.lists(
    st.floats(0, 1, exclude_max=True, width=64) | st.sampled_from([0.0, 0.5, ALMOST_ONE]), min_size=1, max_size=8
)


@given(scores=tables(), numbers=NUMBERS)
@settings(max_examples=150, deadline=None)
def test_inverse_of_the_cumulative_distribution(scores: Tensor, numbers: list[float]) -> None:
    """Whatever the row, a draw is the token at its number's place in the distribution, and never an excluded one."""
    rows = [i % len(scores) for i in range(len(numbers))]
    for row, number, token in zip(rows, numbers, draw(scores, rows, numbers), strict=True):
        assert_inverse(scores[row], token, number)


@given(scores=tables(), numbers=NUMBERS)
@settings(max_examples=75, deadline=None)
def test_alone_equals_mixed(scores: Tensor, numbers: list[float]) -> None:
    """A row drawn from alone gives the tokens that it gives in a batch."""
    rows = [i % len(scores) for i in range(len(numbers))]
    mixed = draw(scores, rows, numbers)
    alone = [draw(scores[row : row + 1].clone(), [0], [number])[0] for row, number in zip(rows, numbers, strict=True)]
    assert mixed == alone


@given(
    allowed=st.sets(st.integers(0, 700), min_size=1, max_size=40),
    place=st.floats(0, 1, exclude_max=True),
)
@settings(max_examples=100, deadline=None)
def test_equal_weights_are_exact(allowed: set[int], place: float) -> None:
    """Among n equally likely tokens, the number (k + 1/2) / n draws exactly the k-th, wherever the tokens lie."""
    ordered = sorted(allowed)
    scores = torch.full((1, 701), NEVER)
    scores[0, ordered] = 0.0
    k = int(place * len(ordered))
    assert draw(scores, [0, 0, 0], [0.0, (k + 0.5) / len(ordered), ALMOST_ONE]) == [
        ordered[0],
        ordered[k],
        ordered[-1],
    ]


@pytest.mark.parametrize("token", [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 3, 299])
def test_one_token_left(token: int) -> None:
    """The only token left is drawn with every number, whatever its place in a block."""
    scores = torch.full((1, 300), NEVER)
    scores[0, token] = -1000.0
    assert draw(scores, [0] * 4, [0.0, 0.3, 0.999, ALMOST_ONE]) == [token] * 4


def test_negligible_tail_never_points_past_the_end() -> None:
    """Weights too small to change the sum stand last: a number just below 1 still draws a token with some weight."""
    scores = torch.full((2, 1001), -60.0)
    scores[:, 3] = 0.0
    scores[1, 900:] = NEVER
    for row, token in enumerate(draw(scores, [0, 1], [ALMOST_ONE, ALMOST_ONE])):
        assert_inverse(scores[row], token, ALMOST_ONE)


def test_padding_is_never_drawn() -> None:
    """A vocabulary that is no multiple of the block has no token beyond its end, with any number."""
    scores = torch.zeros(1, BLOCK + 1)
    numbers = np.linspace(0, ALMOST_ONE, 1000).tolist()
    assert set(draw(scores, [0] * 1000, numbers)) == set(range(BLOCK + 1))


@pytest.mark.parametrize(("vocab_size", "spread"), [(2, 1.0), (37, 2.0), (300, 1.0), (1009, 3.0)])
def test_frequencies(vocab_size: int, spread: float) -> None:
    """50 000 draws are distributed as softmax says (chi-square, rare tokens counted together)."""
    count = 50_000
    scores = distinct_scores(1, vocab_size, seed=vocab_size, spread=spread)
    scores[0, ::7] = NEVER if vocab_size > 2 else scores[0, 0].item()
    numbers = uniforms(np.full(count, 17), np.zeros(count, np.int64), np.arange(count))
    tokens = draw_tokens(scores, torch.zeros(count, dtype=torch.long), torch.from_numpy(numbers))
    seen = np.bincount(tokens.numpy(), minlength=vocab_size)
    expected = scores[0].double().softmax(-1).numpy() * count
    assert not seen[~kept(scores[0]).numpy()].any()
    is_rare = expected < 10
    seen, expected = (np.append(x[~is_rare], x[is_rare].sum()) for x in (seen, expected))
    seen, expected = seen[expected > 0], expected[expected > 0]
    assert stats.chisquare(seen, expected).pvalue > FALSE_ALARM
