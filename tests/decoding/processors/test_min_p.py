"""Min-p."""

import pytest
import torch
from decoding_rows import NEVER, apply_params, distinct_scores, kept, make_row
from transformers.generation.logits_process import MinPLogitsWarper

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.processors.min_p import MinP, MinPParams


@pytest.mark.parametrize("share", [1e-6, 0.01, 0.05, 0.3, 0.9])
def test_equals_transformers(share: float) -> None:
    """Scores are those of transformers, without its softmax."""
    scores = distinct_scores(3, 500, seed=1)
    assert torch.equal(apply_params("min_p", [MinPParams(share)] * 3, scores), MinPLogitsWarper(share)(None, scores))


def test_one_share_a_row() -> None:
    """Each row is cut at its own share of its own likeliest token."""
    scores = torch.tensor([[1.0, 0.5, 0.2, 0.1], [8.0, 4.0, 1.6, 0.8]]).log()
    after = apply_params("min_p", [MinPParams(0.45), MinPParams(0.15)], scores)
    assert kept(after).tolist() == [[True, True, False, False], [True, True, True, False]]


def test_share_of_one_keeps_the_likeliest() -> None:
    """At share 1 only the likeliest token and those tied with it stay."""
    after = apply_params("min_p", [MinPParams(1.0)], torch.tensor([[3.0, 1.0, 3.0, NEVER]]))
    assert after.tolist() == [[3.0, NEVER, 3.0, NEVER]]


@pytest.mark.parametrize("share", [5e-324, 1e-300])
def test_tiny_share_keeps_all_but_the_impossible(share: float) -> None:
    """A share too small for float32 has a logarithm all the same: it excludes nothing real."""
    scores = distinct_scores(1, 500, seed=2, spread=20.0)
    assert torch.equal(apply_params("min_p", [MinPParams(share)], scores), scores)


def test_no_limit_costs_nothing() -> None:
    """Share 0 plans no work."""
    assert MinP().plan([Ask(make_row(0), MinPParams(0.0))]) is None


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_range(share: float) -> None:
    """A share outside [0, 1] is refused."""
    with pytest.raises(ParameterError) as caught:
        MinPParams(share)
    assert caught.value.param == "share"
