"""Logit bias."""

import pytest
import torch
from decoding_rows import NEVER, apply_params, distinct_scores, make_row

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.processors.logit_bias import LogitBias, LogitBiasParams


def test_exact() -> None:
    """Each bias is added once, in float32, to its own token of its own row; all other scores keep their bits."""
    scores = distinct_scores(3, 100, seed=1)
    biases = [{3: 0.1, 99: -100.0}, {}, {3: 7.0, 0: 100.0}]
    expected = scores.clone()
    for row, bias in enumerate(biases):
        for token, value in bias.items():
            expected[row, token] += torch.tensor(value)
    assert torch.equal(apply_params("logit_bias", [LogitBiasParams(bias) for bias in biases], scores), expected)


def test_excluded_token_is_not_brought_back() -> None:
    """A bias of 100 on an excluded token leaves it excluded: min_tokens cannot be biased away."""
    after = apply_params("logit_bias", [LogitBiasParams({1: 100.0})], torch.tensor([[0.0, NEVER]]))
    assert after.tolist() == [[0.0, NEVER]]


def test_no_bias_costs_nothing() -> None:
    """Rows with an empty bias plan no work."""
    assert LogitBias().plan([Ask(make_row(0), LogitBiasParams({}))]) is None


@pytest.mark.parametrize("value", [100.1, -100.1, float("nan")])
def test_range(value: float) -> None:
    """A bias outside [-100, 100] is refused, naming its token."""
    with pytest.raises(ParameterError, match="token 5") as caught:
        LogitBiasParams({4: 1.0, 5: value})
    assert caught.value.param == "bias"
