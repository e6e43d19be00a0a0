"""Draws in whole numbers: against an oracle that sorts, the unfused chain, and the distribution they are to have."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from kernel_tables import DEVICE, IS_INTERPRETED, TABLES, table
from numpy.typing import NDArray
from torch import Tensor

from penstock_decoding.draw import draw_tokens
from penstock_decoding.philox import uniforms
from penstock_decoding.processors.min_p import MinPPlan
from penstock_decoding.processors.temperature import TemperaturePlan
from penstock_decoding.processors.top_k import TopKPlan
from penstock_decoding.processors.top_p import TopPPlan
from penstock_kernels.sample import NO_TOKEN, NOT_FINITE, SampleInputs
from penstock_kernels.sample.cases import ASKED, VOCABS, Asked
from penstock_kernels.sample.uniforms import uniforms as uniforms_in_torch
from penstock_kernels.sample.weights import ONE, scaled, weights

NEVER = -torch.inf
OWN_TABLES = TABLES[:2]  # `fused_invariant` has the same function
KINDS = ("flat", "steep", "rough", "even")
FALSE_ALARM = 1e-6  # of one statistical test, were its numbers drawn anew; they are fixed, so no test flickers


@pytest.fixture(autouse=True)
def no_numpy_warnings() -> Iterator[None]:
    """The interpreter computes with numpy, which warns of overflow; what overflows to -inf here is meant to."""
    with np.errstate(over="ignore"):
        yield


def inputs_of(asked: Sequence[Asked], with_cuts: bool = True, first_position: int = 0) -> SampleInputs:
    """Row i has position `first_position` + i, sample i % 3, and one of four seeds, negative and large ones too."""
    num_rows = len(asked)

    def column(values: list[float], dtype: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=DEVICE)

    return SampleInputs(
        temperature=column([row.temperature for row in asked], torch.float32),
        top_k=column([row.top_k for row in asked], torch.int32),
        top_p=column([row.top_p for row in asked], torch.float32),
        min_p=column([row.min_p for row in asked], torch.float32),
        seed=torch.tensor(
            [(0, -1, 2**40 + 7, -(2**63))[i % 4] for i in range(num_rows)], dtype=torch.int64, device=DEVICE
        ),
        sample=torch.arange(num_rows, dtype=torch.int32, device=DEVICE) % 3,
        position=torch.arange(num_rows, dtype=torch.int32, device=DEVICE) + first_position,
        with_cuts=with_cuts,
    )


def numbers_of(inputs: SampleInputs) -> NDArray[np.float64]:
    """The uniform number of each row, as decoding draws it."""
    seed, sample, position = (x.cpu().numpy().astype(np.int64) for x in (inputs.seed, inputs.sample, inputs.position))
    return uniforms(seed, sample, position)


def row_scores(num_rows: int, vocab: int, kind: str) -> Tensor:
    """[rows, vocab]; `rough` ones have few bits and so many ties, `even` ones are all equal, and some are excluded."""
    random = np.random.default_rng([num_rows, vocab])
    scores = random.standard_normal((num_rows, vocab))
    if kind == "steep":
        scores *= 8
    elif kind == "rough":
        scores = np.round(scores * 4) / 2
    elif kind == "even":
        scores = np.where(random.random(scores.shape) < 0.5, 0.0, -0.0)
    scores[(random.random(scores.shape) < 0.1) & (random.random((num_rows, 1)) < 0.5)] = NEVER
    scores[:, -1] = np.maximum(scores[:, -1], -1.0)
    return torch.from_numpy(scores.astype(np.float32)).to(DEVICE)


def expected_token(scores: Tensor, asked: Asked, number: float) -> int:
    """One row's token, by sorting and in Python's whole numbers."""
    if asked.temperature == 0:
        return int(np.flatnonzero((scores == scores.max()).numpy())[0])
    x = scaled(scores[None], scores.max()[None], torch.tensor([asked.temperature]))[0]
    exact: list[int] = weights(x).tolist()
    ordered = sorted(x.tolist(), reverse=True)
    floor = ordered[min(asked.top_k, len(ordered)) - 1] if asked.top_k > 0 else NEVER
    kept = {i: weight for i, weight in enumerate(exact) if x[i] >= floor}
    if asked.top_p < 1:
        goal = float(np.float32(asked.top_p)) * float(sum(kept.values()))
        reached = 0
        for i in sorted(kept, key=lambda i: -float(x[i])):
            floor = float(x[i])
            reached += kept[i]
            if reached >= goal:
                break
        kept = {i: weight for i, weight in kept.items() if x[i] >= floor}
    kept = {i: weight for i, weight in kept.items() if weight >= float(np.float32(asked.min_p)) * ONE}
    total = sum(kept.values())
    target = min(int(number * float(total)), total - 1)
    for i, weight in kept.items():
        target -= weight
        if target < 0:
            return i
    raise AssertionError("no token")


def test_weights_are_exp() -> None:
    x = -torch.linspace(0, 27, 200_001)
    exact = x.double().exp() * ONE
    assert ((weights(x).double() - exact).abs() <= 3e-7 * exact + 1).all()
    assert weights(torch.tensor([0.0, -0.0, -1e-45, -28.0, -3e38, NEVER])).tolist() == [ONE, ONE, ONE, 0, 0, 0]


def test_uniforms_are_those_of_decoding() -> None:
    inputs = inputs_of([Asked()] * 50, first_position=2**31 - 60)
    assert uniforms_in_torch(inputs.seed, inputs.sample, inputs.position).tolist() == numbers_of(inputs).tolist()


@pytest.mark.parametrize("name", OWN_TABLES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vocab", VOCABS)
def test_against_sorting(vocab: int, kind: str, name: str) -> None:
    """Every kind of row in one batch draws what the definition says, token for token."""
    asked: Sequence[Asked] = ASKED
    if IS_INTERPRETED and name == "fused":
        # Interpreted, a row with cuts takes 0.2 s and more: each vocabulary meets a part of what can be asked.
        step = 3 if vocab < 9001 else 6
        asked = ASKED[(VOCABS.index(vocab) + KINDS.index(kind)) % step :: step]
    scores = row_scores(len(asked), vocab, kind)
    before = scores.clone()
    inputs = inputs_of(asked)
    tokens = table(name).sample(scores, inputs)
    numbers = numbers_of(inputs)
    expected = [expected_token(scores[i].cpu(), row, numbers[i]) for i, row in enumerate(asked)]
    assert tokens.tolist() == expected
    assert torch.equal(scores, before)


@pytest.mark.parametrize("name", OWN_TABLES)
def test_alone_equals_mixed(name: str) -> None:
    """A row's token is its own matter, also where the host knows that it alone asks for no cut."""
    asked = [Asked(), Asked(temperature=0.0), Asked(top_k=3, top_p=0.9), Asked(min_p=0.2)]
    scores, inputs = row_scores(4, 300, "flat"), inputs_of(asked)
    mixed = table(name).sample(scores, inputs).tolist()
    for i in range(4):
        own = SampleInputs(
            inputs.temperature[i : i + 1],
            inputs.top_k[i : i + 1],
            inputs.top_p[i : i + 1],
            inputs.min_p[i : i + 1],
            inputs.seed[i : i + 1],
            inputs.sample[i : i + 1],
            inputs.position[i : i + 1],
            with_cuts=i == 2,
        )
        assert table(name).sample(scores[i : i + 1].clone(), own).tolist() == mixed[i : i + 1]


@pytest.mark.parametrize("name", OWN_TABLES)
def test_rows_without_a_token(name: str) -> None:
    """NaN, +inf and nothing but -inf give no token, whatever is asked, and their neighbours theirs."""
    scores = torch.zeros(8, 40, device=DEVICE)
    scores[0, 7] = torch.nan
    scores[1, 39] = torch.inf
    scores[2:4] = NEVER
    scores[4, 1:] = NEVER
    scores[5, 3] = torch.nan
    asked = [Asked(), Asked(top_k=2), Asked(), Asked(top_p=0.5), Asked(top_p=0.5), Asked(0.0), Asked(0.0), Asked(0.0)]
    tokens = table(name).sample(scores, inputs_of(asked)).tolist()
    assert tokens == [NOT_FINITE, NOT_FINITE, NO_TOKEN, NO_TOKEN, 0, NOT_FINITE, 0, 0]
    assert table(name).sample(scores[:0], inputs_of([])).shape == (0,)


@pytest.mark.parametrize("name", OWN_TABLES)
@pytest.mark.parametrize("asked", [Asked(0.8, top_k=20), Asked(1.3, top_p=0.9), Asked(0.9, 30, 0.95, 0.05)])
def test_equals_the_unfused_chain(asked: Asked, name: str) -> None:
    """The processors one after the other and `draw_tokens` give the same tokens.

    Masses are float32 there. A draw may differ where its number is within 1e-6 of a token's border, and a nucleus where
    its mass is within 1e-6 of top_p: here none is, and scores are 1e-4 apart.
    """
    num_rows, vocab = 6 if IS_INTERPRETED and name == "fused" else 200, 400
    random = np.random.default_rng(5)
    scores = torch.stack(
        [torch.from_numpy(random.permutation(np.linspace(-9, 6, vocab)).astype(np.float32)) for _ in range(num_rows)]
    )
    inputs = inputs_of([asked] * num_rows)
    tokens = table(name).sample(scores.to(DEVICE), inputs)
    rows = range(num_rows)
    TemperaturePlan(rows, [asked.temperature] * num_rows).apply(scores)
    if asked.top_k:
        TopKPlan(rows, [asked.top_k] * num_rows).apply(scores)
    if asked.top_p < 1:
        TopPPlan(rows, [asked.top_p] * num_rows).apply(scores)
    if asked.min_p:
        MinPPlan(rows, [asked.min_p] * num_rows).apply(scores)
    chained = draw_tokens(scores, torch.arange(num_rows), torch.from_numpy(numbers_of(inputs)))
    assert tokens.tolist() == chained.tolist()


@pytest.mark.parametrize("name", OWN_TABLES)
def test_frequencies(name: str) -> None:
    """Draws are distributed as softmax says (chi-square; tokens that are rare are counted together)."""
    if IS_INTERPRETED and name == "fused":
        pytest.skip("interpreted, so many draws take minutes; few are compared with the definition above")
    count, vocab = 50_000, 23
    scores = row_scores(1, vocab, "flat").expand(count, vocab).contiguous()
    tokens = table(name).sample(scores, inputs_of([Asked(1.2)] * count, with_cuts=False)).cpu()
    expected = (scores[0].double() / 1.2).softmax(-1).cpu().numpy() * count
    seen = np.bincount(tokens.numpy(), minlength=vocab)
    is_rare = expected < 10
    seen, expected = (np.append(x[~is_rare], x[is_rare].sum()) for x in (seen, expected))
    seen, expected = seen[expected > 0], expected[expected > 0]
    distance = float(((seen - expected) ** 2 / expected).sum())
    half = torch.tensor([(len(seen) - 1) / 2, distance / 2], dtype=torch.float64)
    assert torch.special.gammaincc(half[0], half[1]) > FALSE_ALARM
