"""Temperature."""

import pytest
import torch
from decoding_rows import apply_params, distinct_scores
from transformers.generation.logits_process import TemperatureLogitsWarper

from penstock_decoding.errors import ParameterError
from penstock_decoding.processors.temperature import TemperatureParams


@pytest.mark.parametrize("temperature", [0.01, 0.3, 1.0, 1.7, 2.0])
def test_equals_transformers(temperature: float) -> None:
    """The distribution is that of transformers (scores may differ by a constant)."""
    scores = distinct_scores(3, 500, seed=1)
    ours = apply_params("temperature", [TemperatureParams(temperature)] * 3, scores)
    theirs = TemperatureLogitsWarper(temperature)(None, scores)
    torch.testing.assert_close(ours.log_softmax(-1), theirs.log_softmax(-1), rtol=1e-5, atol=1e-5)


def test_one_temperature_a_row() -> None:
    """Each row is divided by its own temperature."""
    scores = distinct_scores(3, 500, seed=2)
    temperatures = [0.5, 1.0, 2.0]
    ours = apply_params("temperature", [TemperatureParams(t) for t in temperatures], scores)
    theirs = (scores / torch.tensor(temperatures)[:, None]).log_softmax(-1)
    torch.testing.assert_close(ours.log_softmax(-1), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 2.0**-126, 1e-40, 1e-46, 5e-324])
def test_tiny_temperature_is_greedy(temperature: float) -> None:
    """A temperature that float32 would round to 0 once made 0 / 0; all mass belongs to the likeliest token."""
    scores = distinct_scores(2, 500, seed=3, spread=30.0)
    after = apply_params("temperature", [TemperatureParams(temperature)] * 2, scores)
    assert torch.equal(after.softmax(-1).argmax(-1), scores.argmax(-1))
    assert after.softmax(-1).amax(-1).tolist() == [1.0, 1.0]


def test_ties_survive_a_tiny_temperature() -> None:
    """Two equally likely best tokens share the mass, however sharp the distribution."""
    after = apply_params("temperature", [TemperatureParams(1e-300)], torch.tensor([[4.0, 1.0, 4.0]]))
    assert after.softmax(-1).tolist() == [[0.5, 0.0, 0.5]]


@pytest.mark.parametrize("temperature", [0.0, -0.1, 2.01])
def test_range(temperature: float) -> None:
    """A temperature outside (0, 2] is refused."""
    with pytest.raises(ParameterError) as caught:
        TemperatureParams(temperature)
    assert caught.value.param == "value"
