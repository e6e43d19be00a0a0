"""Dynamic temperature."""

import math

import numpy as np
import pytest
import torch
from decoding_rows import NEVER, apply_params, distinct_scores, make_row
from torch import Tensor
from truncation_oracles import entropy, float64, log_law

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.processors.dynamic_temperature import DynamicTemperature, DynamicTemperatureParams


def temperature_by_definition(scores: Tensor, params: DynamicTemperatureParams) -> float:
    """llama.cpp's formula in float64."""
    lowest, highest = max(params.value - params.spread, 0.0), params.value + params.spread
    num_allowed = int((scores > NEVER).sum())
    return float(lowest + (highest - lowest) * (entropy(float64(scores)) / math.log(num_allowed)) ** params.exponent)


@pytest.mark.parametrize("value", [0.1, 1.0, 2.0])
@pytest.mark.parametrize("spread", [0.05, 0.5, 5.0])
@pytest.mark.parametrize("exponent", [0.0, 0.3, 1.0, 10.0])
def test_definition(value: float, spread: float, exponent: float) -> None:
    """Each row's distribution is that of its own temperature, from its entropy among the tokens allowed."""
    scores = torch.cat([distinct_scores(2, 600, seed=1, spread=s) for s in (0.1, 1.0, 3.0, 8.0)])
    scores[1::2, ::2] = NEVER
    params = DynamicTemperatureParams(value, spread, exponent)
    after = apply_params("dynamic_temperature", [params] * 8, scores)
    for i in range(8):
        expected = log_law(float64(scores[i]) / temperature_by_definition(scores[i], params))
        is_seen = expected > -80
        np.testing.assert_allclose(after[i].log_softmax(-1).numpy()[is_seen], expected[is_seen], rtol=1e-4, atol=1e-4)


def test_by_hand() -> None:
    """Four tokens, two of them equally likely and the others out of reach: H = log 2, half of H_max = log 4, so T is in
    the middle of 0.5 to 1.5 and, with an exponent of 2, a quarter of the way up."""
    scores = torch.tensor([[0.0, 0.0, -60.0, -60.0]] * 3)
    params = [DynamicTemperatureParams(1.0, 0.5, exponent) for exponent in (1.0, 2.0, 0.0)]
    after = apply_params("dynamic_temperature", params, scores)
    np.testing.assert_allclose(after[:, 2], [-60.0, -80.0, -40.0], rtol=1e-6)


def test_each_row_its_own() -> None:
    """Rows with other ranges share one plan."""
    scores = distinct_scores(3, 300, seed=2)
    params = [DynamicTemperatureParams(1.0, 0.2 + i, 1.0 + i) for i in range(3)]
    after = apply_params("dynamic_temperature", params, scores)
    for i, asked in enumerate(params):
        expected = log_law(float64(scores[i]) / temperature_by_definition(scores[i], asked))
        np.testing.assert_allclose(after[i].log_softmax(-1), expected, rtol=1e-4, atol=1e-4)


def test_edge_rows() -> None:
    """A sure row at a lowest temperature of 0 is greedy and no NaN; one token stays; a row without any stays as it is,
    and one of NaN stays invalid."""
    rows = torch.tensor([[200.0, 0.0, 200.0], [NEVER, 3.0, NEVER], [NEVER] * 3, [math.nan, 1.0, 2.0]])
    rows = torch.cat([rows, torch.tensor([[2000.0, 0.0, -5.0]])])
    after = apply_params("dynamic_temperature", [DynamicTemperatureParams(1.0, 2.0)] * 5, rows)
    assert after[0].softmax(-1).tolist() == [0.5, 0.0, 0.5]
    assert after[1].softmax(-1).tolist() == [0.0, 1.0, 0.0]
    assert after[2].tolist() == [NEVER] * 3
    assert after[3].isnan().any()
    assert after[4].softmax(-1).tolist() == [1.0, 0.0, 0.0]


def test_a_constant_temperature_is_a_temperature() -> None:
    """With a spread of 0 it is the plain temperature, and one of 1 costs nothing."""
    scores = distinct_scores(1, 300, seed=3)
    after = apply_params("dynamic_temperature", [DynamicTemperatureParams(0.7)], scores)
    torch.testing.assert_close(after.log_softmax(-1), (scores / 0.7).log_softmax(-1), rtol=1e-5, atol=1e-5)
    assert DynamicTemperature().plan([Ask(make_row(0), DynamicTemperatureParams(exponent=3.0))]) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("value", 0.0),
        ("value", -1.0),
        ("value", 2.1),
        ("spread", -0.1),
        ("spread", 5.1),
        ("exponent", -1),
        ("exponent", 11),
    ],
)
def test_range(field: str, value: float) -> None:
    """A parameter out of range is refused by name."""
    with pytest.raises(ParameterError) as caught:
        DynamicTemperatureParams(**{field: value})
    assert caught.value.param == field
