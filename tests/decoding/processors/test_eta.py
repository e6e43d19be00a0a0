"""Eta sampling."""

import math

import pytest
import torch
from decoding_rows import NEVER, apply_params, distinct_scores, kept, make_row
from transformers.generation.logits_process import EtaLogitsWarper
from truncation_oracles import assert_kept_alike, assert_truncated, eta_slack, float64

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.processors.eta import Eta, EtaParams


@pytest.mark.parametrize("cutoff", [1e-12, 3e-4, 4e-3, 0.1, 0.9])
@pytest.mark.parametrize("spread", [0.3, 2.0, 8.0])
def test_equals_transformers(cutoff: float, spread: float) -> None:
    """Kept is what the definition in float64 keeps, and what transformers keeps."""
    scores = distinct_scores(8, 400, seed=1, spread=spread)
    after = apply_params("eta", [EtaParams(cutoff)] * 8, scores)
    theirs = EtaLogitsWarper(cutoff)(None, scores)
    for i in range(8):
        slack = eta_slack(float64(scores[i]), cutoff)
        assert_truncated(after[i], scores[i], slack)
        assert_kept_alike(after[i], theirs[i], slack)


def test_by_hand() -> None:
    """A flat row of 16 tokens has exp(-H) = 1/16: with epsilon 0.16, eta = 0.025 keeps all, where epsilon keeps none.
    A sure row has exp(-H) near 1: eta = epsilon."""
    flat = torch.zeros(16)
    flat[0] = 1e-3
    sure = torch.tensor([0.93, 0.05] + [0.02 / 14] * 14).log()
    after = apply_params("eta", [EtaParams(0.16), EtaParams(0.03)], torch.stack([flat, sure]))
    assert kept(after).sum(-1).tolist() == [16, 2]


def test_each_row_its_own_after_exclusions() -> None:
    """Every row has its own epsilon, and the entropy is that of the tokens still allowed."""
    scores = distinct_scores(3, 500, seed=2)
    scores[:, ::3] = NEVER
    cutoffs = [1e-4, 3e-3, 0.5]
    after = apply_params("eta", [EtaParams(c) for c in cutoffs], scores)
    for i, cutoff in enumerate(cutoffs):
        assert_truncated(after[i], scores[i], eta_slack(float64(scores[i]), cutoff))


def test_edge_rows() -> None:
    """Tied best tokens all stay; one token stays; a row without any, and one of NaN, stay as they are."""
    rows = [[9.0, 9.0, 0.0, NEVER], [NEVER, 3.0, NEVER, NEVER], [NEVER] * 4, [math.nan, 1.0, 2.0, 3.0]]
    after = apply_params("eta", [EtaParams(0.9)] * 4, torch.tensor(rows))
    expected = torch.tensor([[9.0, 9.0, NEVER, NEVER], *rows[1:]])
    torch.testing.assert_close(after, expected, rtol=0, atol=0, equal_nan=True)


def test_no_cutoff_costs_nothing() -> None:
    """An epsilon of 0 plans no work."""
    assert Eta().plan([Ask(make_row(0), EtaParams(0.0))]) is None


@pytest.mark.parametrize("cutoff", [-0.1, 1.0, 2.0])
def test_range(cutoff: float) -> None:
    """An epsilon outside [0, 1) is refused."""
    with pytest.raises(ParameterError) as caught:
        EtaParams(cutoff)
    assert caught.value.param == "cutoff"
