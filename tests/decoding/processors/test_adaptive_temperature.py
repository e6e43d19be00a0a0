"""Adaptive temperature."""

import math

import numpy as np
import pytest
import torch
from decoding_rows import NEVER, apply_params, distinct_scores, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch import Tensor
from truncation_oracles import entropy, float64, log_law

from penstock_decoding.errors import ParameterError
from penstock_decoding.processors.adaptive_temperature import AdaptiveTemperatureParams

BITS = math.log(2)


def temperature_by_brent(scores: Tensor, params: AdaptiveTemperatureParams) -> float:
    """The root found by scipy in float64, or the nearer end of the range."""
    row = float64(scores)

    def miss(temperature: float) -> float:
        return entropy(row / temperature) - params.target * BITS

    if miss(params.lowest) >= 0:
        return params.lowest
    if miss(params.highest) <= 0:
        return params.highest
    return float(brentq(miss, params.lowest, params.highest))


@pytest.mark.parametrize("target", [0.0, 0.1, 1.0, 3.0, 5.5, 8.0, 20.0])
@pytest.mark.parametrize(("lowest", "highest"), [(0.1, 2.0), (0.01, 10.0), (0.9, 1.1), (0.7, 0.7)])
def test_equals_brent(target: float, lowest: float, highest: float) -> None:
    """Each row's temperature is the one that scipy finds, or an end of the range where the target is out of reach."""
    scores = torch.cat([distinct_scores(2, 500, seed=1, spread=s) for s in (0.05, 0.5, 2.0, 6.0, 30.0)])
    scores[1::2, ::2] = NEVER
    params = AdaptiveTemperatureParams(target, lowest, highest)
    after = apply_params("adaptive_temperature", [params] * 10, scores)
    for i in range(10):
        temperature = temperature_by_brent(scores[i], params)
        found = entropy(float64(after[i])) / BITS
        assert found == pytest.approx(entropy(float64(scores[i]) / temperature) / BITS, abs=5e-4)
        if lowest < temperature < highest:
            assert found == pytest.approx(target, abs=5e-4)
        expected = log_law(float64(scores[i]) / temperature)
        likely = expected > -20
        np.testing.assert_allclose(log_law(float64(after[i]))[likely], expected[likely], rtol=5e-3, atol=5e-3)


@given(
    seed=st.integers(0, 10_000),
    vocab_size=st.integers(2, 400),
    spread=st.floats(0.01, 100.0),
    target=st.floats(0.0, 9.0),
    num_ties=st.integers(0, 5),
)
@settings(max_examples=150, deadline=None)
def test_any_row(seed: int, vocab_size: int, spread: float, target: float, num_ties: int) -> None:
    """Whatever the row, steps of tied tokens included, the entropy is that asked for or that of an end of the range."""
    scores = distinct_scores(1, vocab_size, seed=seed, spread=spread)
    scores[0, :num_ties] = scores.amax()
    params = AdaptiveTemperatureParams(target, 0.05, 5.0)
    after = apply_params("adaptive_temperature", [params], scores)[0]
    expected = entropy(float64(scores[0]) / temperature_by_brent(scores[0], params))
    assert entropy(float64(after)) == pytest.approx(expected, abs=1e-3)


def test_by_hand() -> None:
    """Two tokens a score of 2 apart have the entropy of a coin of 1/4, 0.8113 bits, at T = 2 / log 3."""
    after = apply_params("adaptive_temperature", [AdaptiveTemperatureParams(0.811278)], torch.tensor([[5.0, 7.0]]))
    assert after.softmax(-1)[0].tolist() == pytest.approx([0.25, 0.75], abs=1e-4)


def test_rows_do_not_wait_for_each_other() -> None:
    """Every row has its own target and stops by itself: beside any neighbours it has the bits that it has alone."""
    scores = torch.cat([distinct_scores(1, 700, seed=s, spread=0.1 * 3**s) for s in range(6)])
    params = [AdaptiveTemperatureParams(1.0 + i, 0.1, 2.0 + i) for i in range(6)]
    mixed = apply_params("adaptive_temperature", params, scores)
    for i in range(6):
        assert same_bits(mixed[i], apply_params("adaptive_temperature", params[i : i + 1], scores[i : i + 1])[0])


def test_edge_rows() -> None:
    """One token stays and so do ties; a row without any stays as it is; one of NaN stays invalid; scores at the end of
    float32's range are no NaN."""
    lowest = -3.4e38
    rows = torch.tensor(
        [[NEVER, 3.0, NEVER], [1.0, 1.0, NEVER], [NEVER] * 3, [math.nan, 1.0, 2.0], [lowest, 2.0, 1.0], [lowest] * 3]
    )
    after = apply_params("adaptive_temperature", [AdaptiveTemperatureParams(0.5)] * len(rows), rows)
    assert after[0].softmax(-1).tolist() == [0.0, 1.0, 0.0]
    assert after[1].softmax(-1).tolist() == [0.5, 0.5, 0.0]
    assert after[2].tolist() == [NEVER] * 3
    assert after[3].isnan().any()
    assert entropy(float64(after[4])) == pytest.approx(0.5 * BITS, abs=5e-4)
    assert after[5].softmax(-1).tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("target", (-0.1,)),
        ("target", (20.1,)),
        ("lowest", (1.0, 0.009)),
        ("highest", (1.0, 0.1, 10.1)),
        ("lowest", (1.0, 0.5, 0.4)),
        ("lowest", (1.0, 2.5)),
    ],
)
def test_range(field: str, arguments: tuple[float, ...]) -> None:
    """A parameter out of range is refused by name."""
    with pytest.raises(ParameterError) as caught:
        AdaptiveTemperatureParams(*arguments)
    assert caught.value.param == field
