"""Locally typical sampling."""

import math

import pytest
import torch
from decoding_rows import NEVER, apply_params, distinct_scores, kept, make_row, same_bits
from transformers.generation.logits_process import TypicalLogitsWarper
from truncation_oracles import assert_kept_alike, assert_truncated, float64, typical_slack

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.processors.typical import LOOKS, Typical, TypicalParams


@pytest.mark.parametrize("mass", [1e-6, 0.2, 0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize(("vocab_size", "spread"), [(100, 2.0), (400, 4.0), (LOOKS[0], 1.0)])
def test_equals_transformers(mass: float, vocab_size: int, spread: float) -> None:
    """Kept is what the definition in float64 keeps, and what transformers keeps, but for a token within rounding."""
    scores = distinct_scores(6, vocab_size, seed=1, spread=spread)
    after = apply_params("typical", [TypicalParams(mass)] * 6, scores)
    theirs = TypicalLogitsWarper(mass)(None, scores)
    for i in range(6):
        slack = typical_slack(float64(scores[i]), mass)
        assert_truncated(after[i], scores[i], slack)
        assert_kept_alike(after[i], theirs[i], slack)


def test_by_hand() -> None:
    """Of 0.7, 0.2, 0.1 (entropy 0.80 nats) the order of typicality is 0.7 (0.45 away), 0.2 (0.81), 0.1 (1.50); of
    0.4, 0.15, 0.15, 0.15, 0.15 (1.50 nats) the four (0.39) come before the likeliest (0.59), and it goes."""
    rows = torch.tensor([[0.7, 0.2, 0.1, 0.0, 0.0], [0.4, 0.15, 0.15, 0.15, 0.15]]).log()
    after = apply_params("typical", [TypicalParams(0.8), TypicalParams(0.5)], rows)
    assert kept(after).tolist() == [[True, True, False, False, False], [False, True, True, True, True]]


@pytest.mark.parametrize("mass", [0.5, 0.9, 0.99])
def test_wider_than_the_first_look(mass: float) -> None:
    """A flat row gets all of its typical tokens, however many, and changes nothing for a narrow one beside it."""
    scores = torch.cat([distinct_scores(1, 9000, seed=3, spread=s) for s in (0.3, 8.0, 2.5, 6.0)])
    after = apply_params("typical", [TypicalParams(mass)] * 4, scores)
    num_kept = kept(after).sum(-1).tolist()
    assert num_kept[0] > LOOKS[1] > num_kept[2] > LOOKS[0] > num_kept[1]
    for i in range(4):
        # Far out a token's mass is less than rounding: there are many at the border.
        assert_truncated(after[i], scores[i], typical_slack(float64(scores[i]), mass), rounding=3e-6, most_unclear=30)
        assert same_bits(after[i], apply_params("typical", [TypicalParams(mass)], scores[i : i + 1])[0])


def test_each_row_its_own_after_exclusions() -> None:
    """Every row has its own p, and mass and entropy are those of the tokens still allowed."""
    scores = distinct_scores(3, 1000, seed=4)
    scores[:, 1::2] = NEVER
    masses = [0.3, 0.8, 0.999]
    after = apply_params("typical", [TypicalParams(mass) for mass in masses], scores)
    for i, mass in enumerate(masses):
        assert_truncated(after[i], scores[i], typical_slack(float64(scores[i]), mass))


def test_ties_stay_together() -> None:
    """Tokens as near to the entropy as the last one that stays, stay: an even row is kept whole."""
    scores = torch.zeros(1, 600)
    scores[0, 100:] = NEVER
    after = apply_params("typical", [TypicalParams(0.1)], scores)
    assert torch.equal(after, scores)


def test_mass_that_rounding_never_reaches() -> None:
    """A p nearer to 1 than float32 sums can come keeps every token that is allowed."""
    scores = distinct_scores(2, 3000, seed=5, spread=0.1)
    scores[1, :2900] = NEVER
    assert torch.equal(apply_params("typical", [TypicalParams(1 - 1e-9)] * 2, scores), scores)


def test_edge_rows() -> None:
    """One token stays; a row without any, and one of NaN, stay as they are."""
    rows = [[NEVER, 3.0, NEVER], [NEVER] * 3, [math.nan, 1.0, 2.0]]
    after = apply_params("typical", [TypicalParams(1e-300)] * 3, torch.tensor(rows))
    torch.testing.assert_close(after, torch.tensor(rows), rtol=0, atol=0, equal_nan=True)


def test_no_limit_costs_nothing() -> None:
    """p = 1 plans no work."""
    assert Typical().plan([Ask(make_row(0), TypicalParams(1.0))]) is None


@pytest.mark.parametrize("mass", [0.0, -0.1, 1.1])
def test_range(mass: float) -> None:
    """A p outside (0, 1] is refused."""
    with pytest.raises(ParameterError) as caught:
        TypicalParams(mass)
    assert caught.value.param == "mass"
