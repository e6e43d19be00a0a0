"""`chain_trace`: what each step of a chain did to a distribution, against numpy and by hand."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from decoding_rows import BUSY_PARAMS, apply_params, busy_step, distinct_scores, sample_row
from numpy.typing import NDArray
from scipy import special, stats

from penstock_decoding.params import Step
from penstock_decoding.processors.temperature import TemperatureParams
from penstock_decoding.processors.top_k import TopKParams
from penstock_decoding.processors.top_p import TopPParams
from penstock_decoding.sample_row import RowDraws, SampleRow, StepTrace
from penstock_decoding.sampler import Sampler

VOCAB_SIZE = 301
SHIPPED = ("logit_bias", "penalties", "temperature", "top_k", "top_p", "min_p")


def sample(scores: torch.Tensor, rows: list[SampleRow]) -> list[RowDraws]:
    return Sampler().sample(scores.clone(), rows)


def trace_of(scores: torch.Tensor, row: SampleRow) -> tuple[StepTrace, ...]:
    trace = sample(scores, [row])[0].trace
    assert trace is not None
    return trace


def expected(chain: list[Step], scores: NDArray[np.float32]) -> list[StepTrace]:
    """The same from scipy's softmax and entropy, each processor run by itself."""
    steps = []
    for step in chain:
        after = apply_params(step.name, [step.params], torch.from_numpy(scores)).numpy()
        p, q = special.softmax(scores.astype(np.float64)), special.softmax(after.astype(np.float64))
        kept = np.isfinite(after[0])
        mass, entropies = p[0][kept].sum(), (stats.entropy(p[0]), stats.entropy(q[0]))
        steps.append(StepTrace(step.name, float(mass), int(kept.sum()), *map(float, entropies)))
        scores = after
    return steps


def test_by_hand() -> None:
    """Probabilities 1/2, 1/4, 1/8, 1/8: top-k keeps 3/4, top-p of what is left 2/3; entropies of halves are known."""
    scores = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log()
    row = sample_row(0, chain=[Step("top_k", TopKParams(2)), Step("top_p", TopPParams(0.5))], chain_trace=True)
    top_k, top_p = trace_of(scores, row)
    assert (top_k.name, top_k.kept_count, top_p.name, top_p.kept_count) == ("top_k", 2, "top_p", 1)
    assert top_k.kept_mass == pytest.approx(0.75, abs=1e-6) and top_p.kept_mass == pytest.approx(2 / 3, abs=1e-6)
    assert top_k.entropy_before == pytest.approx(1.75 * math.log(2), abs=1e-6)
    third = -(2 / 3) * math.log(2 / 3) - (1 / 3) * math.log(1 / 3)
    assert top_k.entropy_after == top_p.entropy_before == pytest.approx(third, abs=1e-6)
    assert top_p.entropy_after == 0.0


@pytest.mark.parametrize("seed", range(4))
def test_against_scipy(seed: int) -> None:
    """Every shipped kind of step, in any order, to the accuracy of float32 scores."""
    order = np.random.default_rng(seed).permutation(SHIPPED)
    chain = [busy_step(str(name), seed) for name in order]
    scores = distinct_scores(1, VOCAB_SIZE, seed)
    got = trace_of(scores, sample_row(0, chain=chain, chain_trace=True))
    for mine, theirs in zip(got, expected(chain, scores.numpy()), strict=True):
        assert (mine.name, mine.kept_count) == (theirs.name, theirs.kept_count)
        numbers = (mine.kept_mass, mine.entropy_before, mine.entropy_after)
        assert numbers == pytest.approx((theirs.kept_mass, theirs.entropy_before, theirs.entropy_after), abs=1e-9)
        assert 0 <= mine.kept_mass <= 1


def test_a_step_that_does_nothing_stands_there_too() -> None:
    row = sample_row(0, chain=[Step("temperature", TemperatureParams(1.0))], chain_trace=True)
    (step,) = trace_of(torch.zeros(1, 8), row)
    assert (step.name, step.kept_mass, step.kept_count) == ("temperature", 1.0, 8)
    assert step.entropy_before == step.entropy_after == pytest.approx(math.log(8))


def test_without_a_chain_there_is_nothing_to_tell() -> None:
    assert trace_of(torch.zeros(1, 8), sample_row(0, chain_trace=True)) == ()


def test_only_rows_that_ask_and_each_as_if_alone() -> None:
    """Neighbours with other chains, asking or not, change no bit of a trace; who does not ask has none."""
    names = [name for name in SHIPPED if name in BUSY_PARAMS]
    rows: list[SampleRow] = []
    for i in range(5):
        more: dict[str, Any] = {"chain_trace": i % 2 == 0}
        rows.append(sample_row(i, chain=[busy_step(name, i) for name in (names[i:] + names[:i])[:4]], **more))
    scores = distinct_scores(5, VOCAB_SIZE, seed=3)
    for i, mixed in enumerate(sample(scores, rows)):
        if i % 2:
            assert mixed.trace is None
            continue
        lone = sample_row(0, chain=rows[i].chain, chain_trace=True)
        assert mixed.trace == trace_of(scores[i : i + 1], lone)


def test_a_row_without_tokens_is_no_nan() -> None:
    """A search's row in which nothing is left has a trace of zeros."""
    from penstock_decoding.draws import BestTokens

    row = sample_row(0, chain=[Step("top_k", TopKParams(2))], draw=BestTokens(2), chain_trace=True)
    assert trace_of(torch.full((1, 8), -math.inf), row) == (StepTrace("top_k", 0.0, 0, 0.0, 0.0),)
