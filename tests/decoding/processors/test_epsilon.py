"""Epsilon sampling."""

import pytest
import torch
from decoding_rows import NEVER, apply_params, distinct_scores, kept, make_row
from transformers.generation.logits_process import EpsilonLogitsWarper
from truncation_oracles import assert_kept_alike, assert_truncated, epsilon_slack, float64

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.processors.epsilon import Epsilon, EpsilonParams


@pytest.mark.parametrize("cutoff", [1e-12, 3e-4, 9e-3, 0.1, 0.9])
@pytest.mark.parametrize("spread", [0.3, 2.0, 8.0])
def test_equals_transformers(cutoff: float, spread: float) -> None:
    """Kept is what the definition in float64 keeps, and what transformers keeps."""
    scores = distinct_scores(8, 400, seed=1, spread=spread)
    after = apply_params("epsilon", [EpsilonParams(cutoff)] * 8, scores)
    theirs = EpsilonLogitsWarper(cutoff)(None, scores)
    for i in range(8):
        slack = epsilon_slack(float64(scores[i]), cutoff)
        assert_truncated(after[i], scores[i], slack)
        assert_kept_alike(after[i], theirs[i], slack)


def test_by_hand() -> None:
    """Of 0.5, 0.3, 0.15, 0.05 an epsilon of 0.2 keeps two, and one of 0.6 the likeliest."""
    scores = torch.tensor([[0.5, 0.3, 0.15, 0.05]] * 3).log()
    after = apply_params("epsilon", [EpsilonParams(c) for c in (0.2, 0.6, 0.1)], scores)
    assert kept(after).tolist() == [[True, True, False, False], [True, False, False, False], [True, True, True, False]]


def test_each_row_its_own_after_exclusions() -> None:
    """Every row has its own cutoff, and probabilities are those among the tokens still allowed."""
    scores = distinct_scores(3, 500, seed=2)
    scores[:, ::3] = NEVER
    cutoffs = [1e-3, 1e-2, 0.5]
    after = apply_params("epsilon", [EpsilonParams(c) for c in cutoffs], scores)
    for i, cutoff in enumerate(cutoffs):
        assert_truncated(after[i], scores[i], epsilon_slack(float64(scores[i]), cutoff))


def test_edge_rows() -> None:
    """Tied best tokens all stay; one token stays; a row without any, and one of NaN, stay as they are."""
    nan = float("nan")
    rows = [[1.0, 1.0, 0.0, NEVER], [NEVER, 3.0, NEVER, NEVER], [NEVER] * 4, [nan, 1.0, 2.0, 3.0]]
    after = apply_params("epsilon", [EpsilonParams(0.9)] * 4, torch.tensor(rows))
    expected = torch.tensor([[1.0, 1.0, NEVER, NEVER], *rows[1:]])
    torch.testing.assert_close(after, expected, rtol=0, atol=0, equal_nan=True)


def test_no_cutoff_costs_nothing() -> None:
    """An epsilon of 0 plans no work."""
    assert Epsilon().plan([Ask(make_row(0), EpsilonParams(0.0))]) is None


@pytest.mark.parametrize("cutoff", [-0.1, 1.0, 2.0])
def test_range(cutoff: float) -> None:
    """An epsilon outside [0, 1) is refused."""
    with pytest.raises(ParameterError) as caught:
        EpsilonParams(cutoff)
    assert caught.value.param == "cutoff"
