"""Top-n-sigma."""

import math

import pytest
import torch
from decoding_rows import NEVER, apply_chains, apply_params, distinct_scores, kept, make_row
from truncation_oracles import assert_truncated, float64, top_n_sigma_slack

from penstock_decoding.errors import ParameterError
from penstock_decoding.params import Step
from penstock_decoding.processor import Ask
from penstock_decoding.processors.temperature import TemperatureParams
from penstock_decoding.processors.top_n_sigma import TopNSigma, TopNSigmaParams


@pytest.mark.parametrize("deviations", [0.01, 0.5, 1.0, 2.5, 100.0])
@pytest.mark.parametrize("spread", [0.3, 2.0, 8.0])
def test_definition(deviations: float, spread: float) -> None:
    """Kept is what the definition in float64 keeps, whatever constant is added to the scores."""
    scores = (
        distinct_scores(8, 700, seed=1, spread=spread) + torch.tensor([0.0, 1.0, -1.0, 30.0, -30, 99, -99, 5])[:, None]
    )
    after = apply_params("top_n_sigma", [TopNSigmaParams(deviations)] * 8, scores)
    for i in range(8):
        assert_truncated(after[i], scores[i], top_n_sigma_slack(float64(scores[i]), deviations), rounding=1e-4)


def test_by_hand() -> None:
    """0, 0, 0, 4 have a mean of 1 and a deviation of sqrt(3): of n = 2 the border is 0.54, of n = 2.5 it is -0.33."""
    scores = torch.tensor([[0.0, 0.0, NEVER, 0.0, 4.0]] * 2)
    after = apply_params("top_n_sigma", [TopNSigmaParams(2.0), TopNSigmaParams(2.5)], scores)
    assert kept(after).tolist() == [[False, False, False, False, True], [True, True, False, True, True]]


@pytest.mark.parametrize("temperature", [0.3, 0.7, 2.0])
def test_temperature_does_not_matter(temperature: float) -> None:
    """The tokens kept are the same before and after any temperature."""
    scores = distinct_scores(1, 700, seed=2)
    steps = [Step("temperature", TemperatureParams(temperature)), Step("top_n_sigma", TopNSigmaParams(1.7))]
    after = apply_chains([(make_row(0), steps)], scores)
    assert torch.equal(kept(after), kept(apply_params("top_n_sigma", [TopNSigmaParams(1.7)], scores)))


def test_edge_rows() -> None:
    """An even row is kept whole; one token stays; a row without any, and one of NaN, stay as they are; scores at the
    end of float32's range, as some models mask with, overflow the deviation and cut nothing."""
    lowest = -3.4e38
    rows = [
        [2.0, 2.0, 2.0],
        [NEVER, 3.0, NEVER],
        [NEVER] * 3,
        [math.nan, 1.0, 2.0],
        [lowest, 1.0, 2.0],
        [lowest, lowest, lowest],
    ]
    after = apply_params("top_n_sigma", [TopNSigmaParams(0.5)] * len(rows), torch.tensor(rows))
    torch.testing.assert_close(after, torch.tensor(rows), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("deviations", [0.0, -1.0])
def test_no_limit_costs_nothing(deviations: float) -> None:
    """0 and llama.cpp's -1 plan no work."""
    assert TopNSigma().plan([Ask(make_row(0), TopNSigmaParams(deviations))]) is None


@pytest.mark.parametrize("deviations", [-0.5, -2.0, 100.1])
def test_range(deviations: float) -> None:
    """An n out of range is refused."""
    with pytest.raises(ParameterError) as caught:
        TopNSigmaParams(deviations)
    assert caught.value.param == "deviations"
