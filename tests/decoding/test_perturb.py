"""`perturbed_tokens` against Gumbel noise drawn by brute force, one number for every token of the vocabulary."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from decoding_rows import NEVER, distinct_scores, make_row
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from penstock_decoding.draws import NO_TOKEN, PerturbedTokens
from penstock_decoding.perturb import Arrivals, perturbed_tokens

FALSE_ALARM = 1e-6  # of one statistical test, were its numbers drawn anew; they are fixed, so no test flickers
NUM_SEEDS = 20_000
SCORES = (1.0, 0.0, -0.7, 0.4, -2.0)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def draw(
    scores: Tensor,
    count: int,
    *,
    logprob: float = 0.0,
    peak: float = math.nan,
    floor: float = -math.inf,
    seeds: Sequence[int] = (1,),
    rank: int = 0,
    num_generated: int = 0,
) -> list[Arrivals]:
    """The draws of one row of scores with each of these seeds."""
    asked = PerturbedTokens(count, logprob, peak, floor, rank)
    rows = [(make_row(i, seed=seed, output=(1,) * num_generated), asked) for i, seed in enumerate(seeds)]
    return perturbed_tokens(scores.expand(len(rows), -1).clone(), rows)


def many(scores: Sequence[float], count: int, **asked: float) -> tuple[Ints, Floats]:
    """Tokens and perturbed values [seeds, count]."""
    drawn = draw(torch.tensor([scores]), count, seeds=range(NUM_SEEDS), **asked)  # type: ignore[arg-type]
    return np.stack([tokens for tokens, _, _ in drawn]), np.stack([values for _, _, values in drawn])


def logprobs_of(scores: Sequence[float]) -> Floats:
    """Log-softmax in float64."""
    table = np.asarray(scores, np.float64)
    return np.asarray(table - np.log(np.exp(table).sum()))


def by_brute_force(scores: Sequence[float], count: int, logprob: float, peak: float) -> tuple[Ints, Floats]:
    """The same from noise for every token, brought to the given maximum by the paper's formula (section 4.1)."""
    values = logprob + logprobs_of(scores) + np.random.default_rng(0).gumbel(size=(NUM_SEEDS, len(scores)))
    if not math.isnan(peak):
        rest = np.exp(-values) - np.exp(-values.max(-1, keepdims=True))
        values = -np.log(np.exp(-peak) + rest)
    tokens = np.argsort(-values, axis=-1)[:, :count]
    return tokens, np.take_along_axis(values, tokens, -1)


def cells(tokens: Ints, values: Floats, edges: Sequence[Floats]) -> Ints:
    """One number for which tokens came in which order, and in which of some intervals each one's value lies."""
    cell = np.zeros(len(tokens), np.int64)
    for column in range(tokens.shape[1]):
        interval = np.searchsorted(edges[column], values[:, column])
        cell = (cell * len(SCORES) + tokens[:, column]) * 4 + interval
    return cell


def same_law_pvalue(a: Ints, b: Ints) -> float:
    """Chi-square of two samples of cells; those with few in both are taken together."""
    numbers, place = np.unique(np.concatenate((a, b)), return_inverse=True)
    table = np.stack([np.bincount(part, minlength=len(numbers)) for part in np.split(place, 2)])
    is_rare = table.sum(0) < 20
    together = np.column_stack((table[:, ~is_rare], table[:, is_rare].sum(1)))
    return float(stats.chi2_contingency(together[:, together.sum(0) > 0]).pvalue)


@pytest.mark.parametrize(
    ("logprob", "peak"),
    [(0.0, math.nan), (-3.0, math.nan), (0.0, 0.0), (-3.0, -1.0), (-3.0, -7.5), (-3.0, 6.0)],
    ids=["root", "free", "given", "likely", "low", "high"],
)
def test_joint_law_of_tokens_and_values(logprob: float, peak: float) -> None:
    """Which tokens come, in which order and with which values is, jointly, as with noise for every token."""
    seen = many(SCORES, 3, logprob=logprob, peak=peak)
    wanted = by_brute_force(SCORES, 3, logprob, peak)
    # The first of them is the same number everywhere, if it is given.
    edges = [np.quantile(column, (0.25, 0.5, 0.75)) for column in wanted[1].T]
    if not math.isnan(peak):
        assert (seen[1][:, 0] == peak).all()
        edges[0] = np.asarray([])
    assert same_law_pvalue(cells(*seen, edges), cells(*wanted, edges)) > FALSE_ALARM
    for column in range(1, 3):
        assert stats.ks_2samp(seen[1][:, column], wanted[1][:, column]).pvalue > FALSE_ALARM


def test_order_is_plackett_luce() -> None:
    """Each token in proportion to its probability among those that are left: the exact law of the 60 ordered triples,
    the same whatever value is given to the first."""
    shares = np.exp(logprobs_of(SCORES))
    for peak in (math.nan, -4.0):
        tokens, _ = many(SCORES, 3, peak=peak)
        a, b, c = tokens.T
        orders, seen = np.unique((a * 5 + b) * 5 + c, return_counts=True)
        first, second, third = orders // 25, orders // 5 % 5, orders % 5
        taken = shares[first] + shares[second]
        expected = shares[first] * shares[second] / (1 - shares[first]) * shares[third] / (1 - taken) * NUM_SEEDS
        assert len(orders) == 60
        assert stats.chisquare(seen, expected * (NUM_SEEDS / expected.sum())).pvalue > FALSE_ALARM


def test_noise_of_every_token() -> None:
    """Drawn to the last token of three blocks, each token comes once, and what it has been given is Gumbel noise that
    does not depend on the token, nor on the noise of another."""
    scores = distinct_scores(1, 300, seed=1)
    drawn = draw(scores, 300, seeds=range(300), logprob=-5.0)
    tokens, values = np.stack([t for t, _, _ in drawn]), np.stack([v for _, _, v in drawn])
    assert (np.sort(tokens) == np.arange(300)).all()
    assert (np.diff(values) < 0).all()
    logprobs = -5.0 + logprobs_of(scores[0].double().tolist())
    noise = np.empty_like(values)
    np.put_along_axis(noise, tokens, values - logprobs[tokens], -1)
    assert stats.kstest(noise.reshape(-1), stats.gumbel_r.cdf).pvalue > FALSE_ALARM
    likely, unlikely = np.argsort(-logprobs)[:150], np.argsort(-logprobs)[150:]
    assert stats.kstest(noise[:, likely].reshape(-1), stats.gumbel_r.cdf).pvalue > FALSE_ALARM
    assert independence_pvalue(noise[:, likely].reshape(-1), noise[:, unlikely].reshape(-1)) > FALSE_ALARM


def independence_pvalue(a: Floats, b: Floats) -> float:
    """Chi-square of two paired samples, by their quarters."""
    quarters = [np.searchsorted(np.quantile(values, (0.25, 0.5, 0.75)), values) for values in (a, b)]
    return float(stats.chi2_contingency(np.bincount(quarters[0] * 4 + quarters[1]).reshape(4, 4)).pvalue)


def test_very_unlikely_tokens() -> None:
    """A token whose probability no float32, and no float64, can hold still comes, with noise like any other's: once
    such tokens were lost, and with them answers that the search should have found at a low temperature."""
    scores = (0.0, -60.0, -200.0, -1200.0, NEVER)
    tokens, values = many(scores, 5)
    assert (tokens[:, 4] == NO_TOKEN).all() and (values[:, 4] == NEVER).all()
    assert (tokens[:, :4] == np.arange(4)).all()
    for column in range(4):
        assert stats.kstest(values[:, column] - scores[column], stats.gumbel_r.cdf).pvalue > FALSE_ALARM


def test_equally_unlikely_tokens() -> None:
    """Far below the likeliest token, and after it, the others come in proportion to each other."""
    tokens, _ = many((0.0, -300.0, -301.0, -300.0), 2)
    assert (tokens[:, 0] == 0).all()
    shares = np.exp(logprobs_of((-300.0, -301.0, -300.0)))
    seen = np.bincount(tokens[:, 1], minlength=4)[1:]
    assert stats.chisquare(seen, shares * NUM_SEEDS).pvalue > FALSE_ALARM


@pytest.mark.parametrize("other", [{"rank": 1}, {"num_generated": 1}, {"rank": 1, "num_generated": 1}], ids=repr)
def test_rows_are_independent(other: dict[str, int]) -> None:
    """Rows of one search share a seed: another rank, or another position, has noise of its own."""
    scores = torch.tensor([SCORES])
    a = draw(scores, 2, seeds=range(NUM_SEEDS))
    b = draw(scores, 2, seeds=range(NUM_SEEDS), **other)
    first = np.asarray([[tokens[0] for tokens, _, _ in drawn] for drawn in (a, b)])
    table = np.bincount(first[0] * 5 + first[1], minlength=25).reshape(5, 5)
    assert stats.chi2_contingency(table).pvalue > FALSE_ALARM
    for i in range(2):
        for j in range(2):
            pair = [np.asarray([drawn[2][at] for drawn in draws]) for draws, at in ((a, i), (b, j))]
            assert independence_pvalue(*pair) > FALSE_ALARM


def test_function_of_seed_rank_and_position() -> None:
    """The same seed, rank and position give the same, bit for bit, wherever the row is and with whom; any other of
    them gives other values."""
    scores = distinct_scores(40, 301, seed=2)
    asked = [
        PerturbedTokens(1 + i % 7, -float(i), [math.nan, 1.0 - i][i % 2], [-math.inf, -i - 3.0][i // 2 % 2], i % 3)
        for i in range(40)
    ]
    rows = [(make_row(i, seed=i // 4, output=(3,) * (i % 5)), draw) for i, draw in enumerate(asked)]
    mixed = perturbed_tokens(scores, rows)
    for i, (row, one) in enumerate(rows):
        (alone,) = perturbed_tokens(
            scores[i : i + 1].clone(), [(make_row(0, slot=99, seed=row.seed, output=row.output), one)]
        )
        assert [part.tobytes() for part in alone] == [part.tobytes() for part in mixed[i]]
    values = {
        float(draw(scores[:1], 1, seeds=[seed], rank=rank, num_generated=position)[0][2][0])
        for seed in (0, -1, 2**63 - 1)
        for rank in (0, 1, 1023)
        for position in (0, 1)
    }
    assert len(values) == 18


@pytest.fixture
def two_threads() -> Iterator[None]:
    """As many threads as it takes for torch to split a sum."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_alone_equals_mixed_with_threads() -> None:
    """Nor do the bits depend on how threads share the work, which they do otherwise for a lone long row."""
    scores = distinct_scores(5, 50257, seed=9)
    rows = [(make_row(i, seed=i), PerturbedTokens(20, 0.0, math.nan, -math.inf, i)) for i in range(5)]
    for i, mixed in enumerate(perturbed_tokens(scores, rows)):
        (alone,) = perturbed_tokens(scores[i : i + 1].clone(), [(make_row(0, seed=i), rows[i][1])])
        assert [part.tobytes() for part in alone] == [part.tobytes() for part in mixed]


def test_more_begin_with_fewer() -> None:
    """The first k of a larger draw are the draw of k, though its numbers are made in other portions."""
    scores = distinct_scores(1, 3000, seed=3)
    few, more = draw(scores, 7, seeds=[5, 6])[1], draw(scores, 2500, seeds=[6])[0]
    assert [part.tobytes() for part in few] == [part[:7].tobytes() for part in more]
    assert len(set(more[0].tolist())) == 2500


@pytest.mark.parametrize("peak", [math.nan, -1.0])
def test_floor(peak: float) -> None:
    """A floor changes nothing but that what lies below it is left out."""
    scores = distinct_scores(1, 50, seed=4)
    for floor in (-0.5, -1.0, -2.0, -3.0):
        for all_of, above in zip(
            draw(scores, 20, peak=peak, seeds=range(30)),
            draw(scores, 20, peak=peak, floor=floor, seeds=range(30)),
            strict=True,
        ):
            is_in = all_of[2] >= floor
            assert (above[0] == np.where(is_in, all_of[0], NO_TOKEN)).all()
            assert (above[1] == np.where(is_in, all_of[1], NEVER)).all()
            assert (above[2] == np.where(is_in, all_of[2], NEVER)).all()


def test_logprobs_are_the_rows_own() -> None:
    """Beside each token stands its log-probability in the row, to the last bit what a softmax of the row gives."""
    scores = distinct_scores(1, 300, seed=5)
    scores[0, ::3] = NEVER
    expected = scores.log_softmax(-1)[0].numpy()
    ((tokens, logprobs, values),) = draw(scores, 250)
    assert (tokens[:200] % 3 > 0).all() and (tokens[200:] == NO_TOKEN).all()
    assert logprobs[:200].tobytes() == expected[tokens[:200]].tobytes()
    assert (logprobs[200:] == NEVER).all() and (values[200:] == NEVER).all()


@pytest.mark.parametrize("peak", [math.nan, 2.0])
def test_a_row_without_tokens(peak: float) -> None:
    """Nothing is drawn where nothing is left, and its neighbour never notices."""
    scores = distinct_scores(2, 300, seed=6)
    scores[0] = NEVER
    asked = PerturbedTokens(3, -1.0, peak, -math.inf, 0)
    empty, full = perturbed_tokens(scores.clone(), [(make_row(i, seed=7), asked) for i in range(2)])
    assert empty[0].tolist() == [NO_TOKEN] * 3
    assert (empty[1] == NEVER).all() and (empty[2] == NEVER).all()
    (alone,) = perturbed_tokens(scores[1:].clone(), [(make_row(0, seed=7), asked)])
    assert [part.tobytes() for part in full] == [part.tobytes() for part in alone]


def test_one_token_left() -> None:
    """The only token comes with the given value itself, without what going there and back would round."""
    scores = torch.full((1, 400), NEVER)
    scores[0, 257] = 3.0
    ((tokens, logprobs, values),) = draw(scores, 3, logprob=-700.1, peak=-699.7)
    assert (tokens.tolist(), logprobs.tolist()) == ([257, NO_TOKEN, NO_TOKEN], [0.0, NEVER, NEVER])
    assert values.tolist() == [-699.7, NEVER, NEVER]


def test_deep_in_a_search() -> None:
    """Thousands of tokens deep a row's probability is no float64 any more: its tokens' values are as near the root."""
    scores = distinct_scores(1, 50, seed=7)
    near = draw(scores, 10, logprob=0.0, peak=1.5, seeds=range(20))
    deep = draw(scores, 10, logprob=-4096.0, peak=-4094.5, seeds=range(20))
    for a, b in zip(near, deep, strict=True):
        assert a[0].tolist() == b[0].tolist()
        assert np.allclose(a[2], b[2] + 4096.0, rtol=0, atol=1e-9)


def test_scores_are_left_alone() -> None:
    """Drawing takes tokens from a table of its own, not from the scores, with padding and without."""
    for vocab_size in (256, 300):
        scores = distinct_scores(1, vocab_size, seed=8)
        before = scores.clone()
        perturbed_tokens(scores, [(make_row(0), PerturbedTokens(9, 0.0, math.nan, -math.inf, 0))])
        assert torch.equal(scores, before)
