"""Top-p."""

import pytest
import torch
from decoding_rows import NEVER, apply_params, distinct_scores, kept, make_row, same_bits
from torch import Tensor
from transformers.generation.logits_process import TopPLogitsWarper

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.processors.top_p import FIRST_LOOK, ROWS_AT_ONCE, TopP, TopPParams

ROUNDING = 2e-6  # of a cumulative sum in float32


def likelier_mass(scores: Tensor) -> Tensor:
    """The mass of all tokens likelier than each, in float64."""
    ordered, ids = scores.double().softmax(-1).sort(-1, descending=True)
    return torch.zeros_like(ordered).scatter(-1, ids, ordered.cumsum(-1) - ordered)


def assert_nucleus(after: Tensor, scores: Tensor, mass: float) -> None:
    """Kept is every allowed token whose likelier ones have a mass below p, with its score; the others are excluded."""
    likelier = likelier_mass(scores)
    must_stay, may_stay = (kept(scores) & (likelier < mass + margin) for margin in (-ROUNDING, ROUNDING))
    assert not (must_stay & ~kept(after)).any()
    assert not (kept(after) & ~may_stay).any()
    assert torch.equal(after[kept(after)], scores[kept(after)])


@pytest.mark.parametrize("mass", [1e-6, 0.1, 0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize(("vocab_size", "spread"), [(100, 2.0), (500, 2.0), (FIRST_LOOK, 1.0)])
def test_equals_transformers(mass: float, vocab_size: int, spread: float) -> None:
    """Scores are those of transformers and of the definition in float64, but for a token within rounding of p."""
    scores = distinct_scores(3, vocab_size, seed=1, spread=spread)
    after = apply_params("top_p", [TopPParams(mass)] * 3, scores)
    is_clear = (likelier_mass(scores) - mass).abs() > ROUNDING
    assert is_clear.sum() >= is_clear.numel() - 3
    assert torch.equal(after[is_clear], TopPLogitsWarper(mass)(None, scores)[is_clear])
    assert_nucleus(after, scores, mass)


@pytest.mark.parametrize("mass", [0.5, 0.9, 0.99])
def test_nucleus_wider_than_the_first_look(mass: float) -> None:
    """A flat row, whose nucleus holds more tokens than are selected at first, gets all of them."""
    scores = distinct_scores(2, 2000, seed=2, spread=0.5)
    after = apply_params("top_p", [TopPParams(mass)] * 2, scores)
    assert kept(after).sum(-1).min() > FIRST_LOOK
    assert_nucleus(after, scores, mass)


def test_wide_and_narrow_rows_together() -> None:
    """A wide nucleus beside a narrow one changes neither."""
    scores = torch.cat([distinct_scores(1, 2000, seed=3, spread=s) for s in (4.0, 0.3, 2.0, 0.5)])
    masses = [0.9, 0.97, 0.3, 0.8]
    after = apply_params("top_p", [TopPParams(mass) for mass in masses], scores)
    for i, mass in enumerate(masses):
        assert_nucleus(after[i], scores[i], mass)
        assert same_bits(after[i], apply_params("top_p", [TopPParams(mass)], scores[i : i + 1])[0])


@pytest.mark.parametrize("grain", [0.0, 0.25, 4.0])
def test_many_wide_rows(grain: float) -> None:
    """More of them than are worked on at once, each with its own p and spread, some with most tokens excluded; with
    ties, as bf16 logits have, all that tie with the last one stay. Alone each gives the same bits."""
    num_rows = 2 * ROWS_AT_ONCE + 3
    scores = torch.cat([distinct_scores(1, 3000, seed=i, spread=0.1 + i / 20) for i in range(num_rows)])
    if grain:
        scores = (scores / grain).round() * grain
    scores[::4, 400:] = NEVER
    masses = [0.3 + 0.68 * i / num_rows for i in range(num_rows)]
    after = apply_params("top_p", [TopPParams(mass) for mass in masses], scores)
    assert (kept(after).sum(-1) > FIRST_LOOK).sum() > ROWS_AT_ONCE
    for i, mass in enumerate(masses):
        own = scores[i : i + 1]
        assert same_bits(after[i : i + 1], apply_params("top_p", [TopPParams(mass)], own))
        last = own[kept(after[i : i + 1])].amin()
        likelier = own.double().softmax(-1)[own > last].sum()
        with_ties = own.double().softmax(-1)[own >= last].sum()
        assert likelier < mass + ROUNDING
        assert with_ties > mass - ROUNDING
        assert torch.equal(kept(after[i : i + 1]), own >= last)


def test_wide_rows_of_a_large_vocabulary() -> None:
    """So large that torch shares one row's work among threads where it can: alone the bits are the same."""
    generator = torch.Generator().manual_seed(6)
    scores = torch.randn(3, 90_000, generator=generator) * 2
    masses = [0.9, 0.5, 0.99]
    after = apply_params("top_p", [TopPParams(mass) for mass in masses], scores)
    for i, mass in enumerate(masses):
        assert_nucleus(after[i], scores[i], mass)
        assert same_bits(after[i : i + 1], apply_params("top_p", [TopPParams(mass)], scores[i : i + 1]))


def test_after_exclusions() -> None:
    """The mass is that of the tokens still allowed, and excluded ones are never brought back."""
    scores = distinct_scores(1, 1000, seed=4)
    scores[:, 1::2] = NEVER
    after = apply_params("top_p", [TopPParams(0.8)], scores)
    assert_nucleus(after, scores, 0.8)


def test_mass_that_rounding_never_reaches() -> None:
    """A p nearer to 1 than float32 sums can come keeps every token that is allowed."""
    scores = distinct_scores(2, 3000, seed=5, spread=0.1)
    scores[1, :2900] = NEVER
    after = apply_params("top_p", [TopPParams(1 - 1e-9)] * 2, scores)
    assert torch.equal(after, scores)


def test_likeliest_always_stays() -> None:
    """However small p is, the likeliest token stays, and so does one tied with it."""
    scores = torch.tensor([[0.0, 2.0, 1.0], [2.0, 2.0, 1.0]])
    after = apply_params("top_p", [TopPParams(1e-300)] * 2, scores)
    assert after.tolist() == [[NEVER, 2.0, NEVER], [2.0, 2.0, NEVER]]


def test_no_limit_costs_nothing() -> None:
    """p = 1 plans no work."""
    assert TopP().plan([Ask(make_row(0), TopPParams(1.0))]) is None


@pytest.mark.parametrize("mass", [0.0, -0.1, 1.1])
def test_range(mass: float) -> None:
    """A p outside (0, 1] is refused."""
    with pytest.raises(ParameterError) as caught:
        TopPParams(mass)
    assert caught.value.param == "mass"
