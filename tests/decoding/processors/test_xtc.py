"""XTC."""

import itertools
import math

import numpy as np
import pytest
import torch
from decoding_rows import NEVER, apply_asks, distinct_scores, kept, make_row, sample_row
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from penstock_decoding.draws import SampledTokens
from penstock_decoding.errors import ParameterError
from penstock_decoding.params import Step
from penstock_decoding.philox import Stream, uniforms
from penstock_decoding.processor import Ask
from penstock_decoding.processors.xtc import Xtc, XtcParams
from penstock_decoding.sampler import Sampler

FALSE_ALARM = 1e-6  # of one statistical test, were its numbers drawn anew; they are fixed, so no test flickers


def strike(scores: Tensor, threshold: float, stops: tuple[int, ...] = ()) -> Tensor:
    """One row of scores after a step in which XTC strikes."""
    ask = Ask(make_row(0, stop_token_ids=stops), XtcParams(1.0, threshold))
    return apply_asks(Xtc(), [ask], scores[None])[0]


def by_definition(probabilities: NDArray[np.float64], threshold: float) -> NDArray[np.bool_]:
    """Which tokens stay, as text-generation-webui decides it: in descending order, a token goes if the next one still
    reaches the threshold."""
    order = np.argsort(-probabilities, kind="stable")
    stay = np.ones(len(probabilities), np.bool_)
    for token, following in itertools.pairwise(order):
        stay[token] = probabilities[following] < threshold
    return stay


def test_the_least_likely_top_choice_stays() -> None:
    """Of 0.5, 0.3, 0.15 and 0.05 three reach 0.1; the last of these stays, and so does what is below."""
    scores = torch.tensor([0.3, 0.5, 0.05, 0.15]).log()
    assert kept(strike(scores, 0.1)).tolist() == [False, False, True, True]
    assert kept(strike(scores, 0.2)).tolist() == [True, False, True, True]
    assert torch.equal(strike(scores, 0.1)[2:], scores[2:])


@pytest.mark.parametrize("threshold", [0.4, 0.5, 0.51, 1.0])
def test_one_top_choice_is_none(threshold: float) -> None:
    """Where fewer than two tokens reach the threshold, the scores keep their bits."""
    scores = torch.tensor([0.3, 0.6, 0.1]).log()
    assert torch.equal(strike(scores, threshold), scores)


@given(seed=st.integers(0, 2**32), vocab_size=st.integers(1, 400), threshold=st.floats(0.0005, 0.5))
@settings(max_examples=150, deadline=None)
def test_equals_the_definition(seed: int, vocab_size: int, threshold: float) -> None:
    """Any distribution keeps what the original's loop keeps."""
    scores = torch.from_numpy(np.random.default_rng(seed).normal(size=vocab_size) * 2).float()
    probabilities = scores.double().softmax(-1).numpy()
    if np.abs(probabilities / threshold - 1).min() < 1e-5:
        return  # float32 may put it on the other side
    expected = torch.from_numpy(by_definition(probabilities, threshold))
    after = strike(scores, threshold)
    assert torch.equal(kept(after), expected)
    assert torch.equal(after[expected], scores[expected])


def test_threshold_zero_leaves_the_least_likely() -> None:
    """Every token reaches 0, but those that are excluded stay so: the row is not emptied."""
    assert kept(strike(torch.tensor([1.0, NEVER, -3.0, 2.0]), 0.0)).tolist() == [False, False, True, False]


def test_ties_stay_together() -> None:
    """Tokens that tie with the least likely top choice stay with it: none of them has a better claim."""
    scores = torch.tensor([0.4, 0.2, 0.2, 0.2]).log()
    assert kept(strike(scores, 0.1)).tolist() == [False, True, True, True]
    assert torch.equal(strike(torch.zeros(5), 0.1), torch.zeros(5))


@pytest.mark.parametrize("scores", [[NEVER] * 3, [NEVER, 1.0, NEVER]], ids=["no token", "one token"])
def test_rows_without_a_choice(scores: list[float]) -> None:
    """A row in which nothing is left, or one token, stays as it is."""
    for threshold in (0.0, 0.1):
        assert strike(torch.tensor(scores), threshold, stops=(0, 1)).tolist() == scores


def test_a_stop_token_is_not_taken_away() -> None:
    """If a stop token is among what would go nothing goes; as the one that would stay, or below, it changes nothing."""
    scores = torch.tensor([0.3, 0.5, 0.05, 0.15]).log()
    for stop in (0, 1):
        assert torch.equal(strike(scores, 0.1, stops=(2, stop)), scores)
    for stop in (2, 3):
        assert kept(strike(scores, 0.1, stops=(stop,))).tolist() == [False, False, True, True]


def test_each_row_has_its_own_stop_tokens_and_threshold() -> None:
    """Rows that are struck together do not share what spares them."""
    scores = torch.tensor([0.3, 0.5, 0.05, 0.15]).log().expand(4, -1)
    rows = [((), 0.1), ((1,), 0.1), ((2,), 0.2), ((), 0.04)]
    asks = [Ask(make_row(i, stop_token_ids=stops), XtcParams(1.0, bar)) for i, (stops, bar) in enumerate(rows)]
    after = apply_asks(Xtc(), asks, scores)
    assert kept(after).tolist() == [
        [False, False, True, True],
        [True, True, True, True],
        [True, False, True, True],
        [False, False, True, False],
    ]


@pytest.mark.parametrize(
    ("probability", "is_ever", "is_always"), [(0.0, False, False), (0.5, True, False), (1.0, True, True)]
)
def test_probability(probability: float, is_ever: bool, is_always: bool) -> None:
    """0 never strikes and costs nothing, 1 always does."""
    params = XtcParams(probability)
    struck = [Xtc().plan([Ask(make_row(0, seed=seed), params)]) is not None for seed in range(100)]
    assert (any(struck), all(struck)) == (is_ever, is_always)


def test_strikes_replay() -> None:
    """Whether a step is struck hangs on seed, sample and absolute position alone: not on the row, the batch, or where
    the prompt ends."""
    params = XtcParams(0.5)
    for seed in range(20):
        for sample in range(3):
            number = uniforms(np.asarray([seed]), np.asarray([sample]), np.asarray([7]), Stream.PROCESSOR)[0]
            rows = [
                make_row(3, slot=9, prompt=(1, 2, 2, 3), output=(3, 4, 4), seed=seed, sample=sample),
                make_row(5, prompt=(1, 2, 2, 3, 3, 4, 4), output=(), seed=seed, sample=sample),
            ]
            for row in rows:
                plan = Xtc().plan([Ask(row, params)])
                assert (plan is not None) is bool(number < 0.5)


def test_strikes_are_as_likely_as_asked() -> None:
    """Over 20 000 steps of many samples, the share that is struck is the probability."""
    for probability in (0.1, 0.5, 0.93):
        asks = [
            Ask(
                make_row(i, prompt=(1,) * (1 + i % 100), output=(), sample=i // 100, seed=5, stop_token_ids=()),
                XtcParams(probability),
            )
            for i in range(20_000)
        ]
        plan = Xtc().plan(asks)
        assert plan is not None
        scores = torch.tensor([0.6, 0.4]).log().repeat(len(asks), 1)
        plan.apply(scores)
        num_struck = int((~kept(scores)).sum())
        assert stats.binomtest(num_struck, len(asks), probability).pvalue > FALSE_ALARM


def test_the_drawn_distribution_is_the_mixture() -> None:
    """Tokens drawn over many positions follow p * (distribution without the top choices) + (1 - p) * (the whole one):
    the number that decides about a strike says nothing about the draw."""
    probability, threshold, num_rows = 0.3, 0.15, 8000
    weights = np.asarray([0.4, 0.3, 0.2, 0.1])
    chain = [Step("xtc", XtcParams(probability, threshold))]
    scores = torch.from_numpy(np.log(weights)).float().repeat(num_rows, 1)
    rows = [
        sample_row(
            i,
            chain=chain,
            draw=SampledTokens((0,)),
            prompt=(1,) * (i % 200),
            output=(),
            seed=i // 200,
            stop_token_ids=(),
        )
        for i in range(num_rows)
    ]
    tokens = np.concatenate([drawn.tokens for drawn in Sampler().sample(scores, rows)])
    rest = weights * by_definition(weights, threshold)
    expected = probability * rest / rest.sum() + (1 - probability) * weights
    assert stats.chisquare(np.bincount(tokens, minlength=4), expected * num_rows).pvalue > FALSE_ALARM


def test_threads_do_not_matter() -> None:
    """A few wide rows give the same bits with one thread and with several, alone and together."""
    scores = distinct_scores(3, 50_000, seed=4, spread=3.0)
    params = XtcParams(1.0, 0.0005)
    together = apply_asks(Xtc(), [Ask(make_row(i, stop_token_ids=()), params) for i in range(3)], scores)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        for i in range(3):
            alone = apply_asks(Xtc(), [Ask(make_row(0, stop_token_ids=()), params)], scores[i : i + 1])
            assert torch.equal(alone[0], together[i])
    finally:
        torch.set_num_threads(before)
    assert 0 < int(kept(together).sum()) < together.numel()


@pytest.mark.parametrize("field", ["probability", "threshold"])
@pytest.mark.parametrize("value", [-0.1, 1.1, math.inf])
def test_range(field: str, value: float) -> None:
    """A number that is no probability is refused by name."""
    with pytest.raises(ParameterError) as caught:
        XtcParams(**{field: value})
    assert caught.value.param == field
