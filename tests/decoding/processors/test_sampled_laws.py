"""Sampling through each truncation and each adaptive temperature: frequencies against the exact distribution."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from decoding_rows import NEVER, distinct_scores, sample_row
from scipy import stats
from scipy.optimize import brentq
from truncation_oracles import (
    Row,
    entropy,
    epsilon_slack,
    eta_slack,
    float64,
    law,
    mirostat_1_rank,
    mirostat_2_slack,
    top_h_slack,
    top_n_sigma_slack,
    typical_slack,
)

from penstock_decoding.draws import SampledTokens
from penstock_decoding.params import Step
from penstock_decoding.processors.adaptive_temperature import AdaptiveTemperatureParams
from penstock_decoding.processors.dynamic_temperature import DynamicTemperatureParams
from penstock_decoding.processors.epsilon import EpsilonParams
from penstock_decoding.processors.eta import EtaParams
from penstock_decoding.processors.mirostat import MirostatParams
from penstock_decoding.processors.temperature import TemperatureParams
from penstock_decoding.processors.top_h import TopHParams
from penstock_decoding.processors.top_n_sigma import TopNSigmaParams
from penstock_decoding.processors.typical import TypicalParams
from penstock_decoding.sampler import Sampler

VOCAB_SIZE = 60
NUM_DRAWS = 20_000
FALSE_ALARM = 1e-6  # of one statistical test, were its numbers drawn anew; they are fixed, so no test flickers
TEMPERATURE = 1.3

# Processor, its parameters, and what it makes of a row of scores by definition.
CASES: list[tuple[str, Any, Callable[[Row], Row]]] = [
    (
        "dynamic_temperature",
        DynamicTemperatureParams(1.0, 0.6, 2.0),
        lambda s: s / (0.4 + 1.2 * (entropy(s) / np.log(VOCAB_SIZE)) ** 2),
    ),
    (
        "adaptive_temperature",
        AdaptiveTemperatureParams(4.5),
        lambda s: s / brentq(lambda t: entropy(s / t) - 4.5 * np.log(2), 0.1, 2.0),
    ),
    ("top_n_sigma", TopNSigmaParams(1.5), lambda s: only(s, top_n_sigma_slack(s, 1.5))),
    ("top_h", TopHParams(0.6), lambda s: only(s, top_h_slack(s, 0.6, "transformers"))),
    ("top_h", TopHParams(0.7, "paper"), lambda s: only(s, top_h_slack(s, 0.7, "paper"))),
    ("typical", TypicalParams(0.7), lambda s: only(s, typical_slack(s, 0.7))),
    ("epsilon", EpsilonParams(0.01), lambda s: only(s, epsilon_slack(s, 0.01))),
    ("eta", EtaParams(0.1), lambda s: only(s, eta_slack(s, 0.1))),
    ("mirostat", MirostatParams(1, 2.5), lambda s: only(s, s - np.sort(s)[-int(mirostat_1_rank(s, 5.0))] + 1e-3)),
    ("mirostat", MirostatParams(2, 2.5), lambda s: only(s, mirostat_2_slack(s, 5.0))),
]


def only(scores: Row, slack: Row) -> Row:
    """The scores of the tokens that stay."""
    return np.where(slack > 0, scores, NEVER)


@pytest.mark.parametrize(
    ("name", "params", "definition"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_frequencies(name: str, params: Any, definition: Callable[[Row], Row]) -> None:
    """20 000 draws after a temperature of 1.3 are distributed as the definition says (chi-square, rare tokens counted
    together); a token that is excluded never comes."""
    scores = distinct_scores(1, VOCAB_SIZE, seed=4)
    expected = law(definition(float64(scores[0]) / TEMPERATURE)) * NUM_DRAWS
    chain = (Step("temperature", TemperatureParams(TEMPERATURE)), Step(name, params))
    row = sample_row(0, chain=chain, draw=SampledTokens(tuple(range(NUM_DRAWS))), seed=7)
    (draws,) = Sampler().sample(scores, [row])
    seen = np.bincount(draws.tokens, minlength=VOCAB_SIZE)
    assert not seen[expected == 0].any()
    assert (expected > 5).sum() > 5
    rare = expected < 5
    groups = [np.append(counts[~rare], counts[rare].sum()) for counts in (seen, expected)]
    has_rare = groups[1][-1] > 0
    observed, wanted = (group if has_rare else group[:-1] for group in groups)
    assert stats.chisquare(observed, wanted).pvalue > FALSE_ALARM
