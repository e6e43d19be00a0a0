"""`DeviceSampler`: what it chooses on the device is what `Sampler`, the oracle, chooses with the same scores."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from decoding_rows import NEVER, busy_step, distinct_scores, sample_row
from kernel_tables import DEVICE, TABLES, table
from numpy.typing import NDArray
from torch import Tensor

from penstock_decoding.device_sampler import DeviceChoice, DeviceSampler, Variant
from penstock_decoding.draws import Best, BestTokens, PerturbedTokens, RowDraw, SampledTokens
from penstock_decoding.params import Step
from penstock_decoding.processors.min_p import MinPParams
from penstock_decoding.processors.penalties import PenaltiesParams
from penstock_decoding.processors.temperature import TemperatureParams
from penstock_decoding.processors.top_k import TopKParams
from penstock_decoding.processors.top_p import TopPParams
from penstock_decoding.sample_row import RowDraws, SampleRow
from penstock_decoding.sampler import Sampler
from penstock_kernels import Kernels

# Numpy, which computes where Triton is interpreted, warns of what is meant: a score divided by a tiny temperature is
# -inf, and of a broken row NaN comes out.
pytestmark = [
    pytest.mark.filterwarnings("ignore:overflow encountered in divide:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered in subtract:RuntimeWarning"),
]

VOCAB_SIZE = 203  # no multiple of a word's 32 tokens
NUM_SLOTS = 12

PENALTIES = Step("penalties", PenaltiesParams(repetition=1.4, presence=0.5, frequency=0.3))
CHAINS: tuple[tuple[Step, ...], ...] = (
    (),
    (Step("temperature", TemperatureParams(0.7)),),
    (PENALTIES,),
    (Step("top_k", TopKParams(9)), Step("min_p", MinPParams(0.02))),
    (PENALTIES, *(busy_step(name) for name in ("temperature", "top_k", "top_p", "min_p"))),
    (Step("temperature", TemperatureParams(1e-300)), Step("top_k", TopKParams(-1))),
    (Step("penalties", PenaltiesParams(frequency=-0.4)), Step("top_p", TopPParams(0.6))),
    (Step("penalties", PenaltiesParams()), Step("top_k", TopKParams(10**12)), Step("top_p", TopPParams(1.0))),
)


def device_sampler(kernels: Kernels) -> DeviceSampler:
    return DeviceSampler(kernels, VOCAB_SIZE, NUM_SLOTS, DEVICE)


@dataclass
class Crowd:
    """Sequences that are continued step by step, each with a chain and a draw of its own."""

    prompts: list[list[int]]
    outputs: list[list[int]] = field(default_factory=list)

    @classmethod
    def of(cls, size: int) -> "Crowd":
        generator = np.random.default_rng(1)
        return cls(
            [generator.integers(0, VOCAB_SIZE, 1 + 3 * i).tolist() for i in range(size)], [[] for _ in range(size)]
        )

    def rows(self, *, late: int = 0) -> list[SampleRow]:
        """What each is asked for. `late`: how many tokens of the answers the host does not know yet."""
        return [
            sample_row(
                i,
                chain=CHAINS[i % len(CHAINS)],
                draw=BestTokens() if i % 5 == 4 else SampledTokens((i % 3,)),
                num_logprobs=(None, 0, 3)[i % 3],
                prompt=prompt,
                output=output[: len(output) - late],
                seed=(-1) ** i * 7**i * 10**10,
            )
            for i, (prompt, output) in enumerate(zip(self.prompts, self.outputs, strict=True))
        ]

    @property
    def positions(self) -> NDArray[np.int64]:
        return np.asarray([len(p) + len(o) for p, o in zip(self.prompts, self.outputs, strict=True)])

    def append(self, draws: Sequence[RowDraws]) -> None:
        for output, got in zip(self.outputs, draws, strict=True):
            output.append(int(got.tokens[0]))


def on_device(
    sampler: DeviceSampler,
    scores: Tensor,
    rows: Sequence[SampleRow],
    *,
    slots: Sequence[int] | None = None,
    positions: NDArray[np.int64] | None = None,
    variant: Variant | None = None,
    num_padding: int = 0,
) -> list[RowDraws]:
    """What the sampler gives for these rows; slots are the rows' places from 1 on unless given."""
    slots = range(1, len(rows) + 1) if slots is None else slots
    positions = np.asarray([row.row.position for row in rows]) if positions is None else positions
    assert all(sampler.takes(row) for row in rows)
    packed = np.zeros((len(rows) + num_padding, DeviceSampler.WIDTH), np.int32)
    sampler.encode(rows, slots, positions, packed)
    logits = torch.full((len(packed), VOCAB_SIZE), math.nan)
    logits[: len(rows)] = scores
    in_slots = torch.tensor([*slots, *[0] * num_padding], dtype=torch.int32, device=DEVICE)
    chosen: DeviceChoice = sampler.choose(
        logits.to(DEVICE), torch.from_numpy(packed).to(DEVICE), in_slots, variant or sampler.variant(rows)
    )
    assert ((chosen.tokens >= 0) & (chosen.tokens < VOCAB_SIZE)).all()  # the next step looks up their embeddings
    return sampler.draws(rows, chosen.words[: len(rows)].cpu().numpy())


def assert_like(actual: RowDraws, expected: RowDraws) -> None:
    """The same token or fault, and log-probabilities that differ by roundings of a sum."""
    assert actual.fault == expected.fault
    if expected.fault is not None:
        return
    assert actual.tokens.tolist() == expected.tokens.tolist()
    assert actual.tokens.dtype == np.int64 and actual.logprobs.dtype == np.float32
    assert np.isnan(actual.logprobs).all() and actual.logprobs.shape == (1,)
    assert actual.processed is None and actual.trace is None and actual.perturbed is None
    assert (actual.model is None) == (expected.model is None)
    if actual.model is not None and expected.model is not None:
        assert actual.model.chosen == pytest.approx(expected.model.chosen, abs=2e-6)
        assert [token for token, _ in actual.model.top] == [token for token, _ in expected.model.top]
        assert [value for _, value in actual.model.top] == pytest.approx([v for _, v in expected.model.top], abs=2e-6)


@pytest.mark.parametrize(("name", "num_steps"), [("reference", 25), ("fused", 2)])
def test_choices_of_a_crowd(name: str, num_steps: int) -> None:
    """Step by step with the same scores: tokens, log-probabilities, and penalties for what the device counted itself.

    From the second step on the host is one token late, as it is while a step runs."""
    sampler, oracle, crowd = device_sampler(table(name)), Sampler(), Crowd.of(10)
    for step in range(num_steps):
        scores = distinct_scores(10, VOCAB_SIZE, seed=step, spread=0.8)
        expected = oracle.sample(scores.clone(), crowd.rows())
        actual = on_device(sampler, scores, crowd.rows(late=min(step, 1)), positions=crowd.positions)
        for got, wanted in zip(actual, expected, strict=True):
            assert wanted.fault is None
            assert_like(got, wanted)
        crowd.append(expected)


@pytest.mark.parametrize("name", TABLES)
def test_padding_is_harmless(name: str) -> None:
    """Rows of zeros with any logits, and a variant that does more than is needed, change nothing."""
    crowd = Crowd.of(4)
    crowd.outputs = [[3, 3, i] for i in range(4)]
    rows = crowd.rows()
    scores = distinct_scores(4, VOCAB_SIZE, seed=3)
    expected = Sampler().sample(scores.clone(), rows)
    widest = Variant(8, with_penalties=True, with_cuts=True)
    sampler = device_sampler(table(name))
    (first,) = on_device(sampler, scores[:1], rows[:1], variant=widest, num_padding=2)
    assert_like(first, expected[0])
    sampler.release(1)
    for got, wanted in zip(on_device(sampler, scores, rows, num_padding=1), expected, strict=True):
        assert_like(got, wanted)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("chain", [(), CHAINS[4]], ids=["bare", "whole"])
def test_a_broken_row_fails_alone(name: str, chain: tuple[Step, ...]) -> None:
    """NaN, +inf and nothing but -inf are told as the oracle tells them; the neighbours are drawn."""
    scores = distinct_scores(5, VOCAB_SIZE, seed=5)
    scores[0, 7] = math.nan
    scores[2, 202] = math.inf
    scores[3] = NEVER
    scores[4, 1:] = NEVER
    rows = [
        sample_row(i, chain=chain, num_logprobs=2, draw=(BestTokens(), SampledTokens((1,)))[i % 2]) for i in range(5)
    ]
    expected = Sampler().sample(scores.clone(), rows)
    assert [wanted.is_valid for wanted in expected] == [False, True, False, False, True]
    for got, wanted in zip(on_device(device_sampler(table(name)), scores, rows), expected, strict=True):
        assert_like(got, wanted)


def test_tokens_that_were_chosen_elsewhere() -> None:
    """A slot follows its sequence through steps of the oracle, a copy of it, and what is thrown away."""
    sampler, chain = device_sampler(table("reference")), CHAINS[2]
    generator = np.random.default_rng(2)

    def check(slot: int, prompt: list[int], output: list[int]) -> int:
        scores = distinct_scores(1, VOCAB_SIZE, seed=int(generator.integers(1000)), spread=0.5)
        row = sample_row(0, chain=chain, prompt=prompt, output=output)
        (got,) = on_device(sampler, scores, [row], slots=[slot])
        (wanted,) = Sampler().sample(scores.clone(), [row])
        assert_like(got, wanted)
        return int(got.tokens[0])

    prompt, output = [1, 2, 3], list[int]()
    for num_elsewhere in (0, 1, 2, 0):
        output += generator.integers(0, VOCAB_SIZE, num_elsewhere).tolist()
        output.append(check(1, prompt, output))
    for slot, token in ((2, 5), (1, 6)):
        check(slot, prompt, [*output, token])
    sampler.release(1)
    check(1, prompt, output[:1])
    check(1, prompt, output[:1])  # the token chosen last is thrown away: fewer are left than were counted
    sampler.release(1)
    check(1, [9, 9, 200], [202])
    sampler.release(7)  # was never met


def test_equal_counts_of_another_answer() -> None:
    """A token that is thrown away by name is not taken for the one that came in its place."""
    sampler = device_sampler(table("reference"))
    scores = torch.zeros(1, VOCAB_SIZE)
    scores[0, :2] = torch.tensor([1.0, 0.9])
    chain = (Step("penalties", PenaltiesParams(presence=2.0)),)

    def best(output: list[int]) -> int:
        row = sample_row(0, chain=chain, draw=BestTokens(), prompt=[5], output=output)
        return int(on_device(sampler, scores, [row], slots=[3])[0].tokens[0])

    assert best([]) == 0
    sampler.release(3)
    assert best([7]) == 0
    assert best([7, 0]) == 1


TAKEN: list[tuple[bool, SampleRow]] = [
    *((True, sample_row(0, chain=chain)) for chain in CHAINS),
    (True, sample_row(0, draw=BestTokens())),
    (True, sample_row(0, num_logprobs=32)),
    (False, sample_row(0, num_logprobs=33)),
    (False, sample_row(0, num_processed_logprobs=0)),
    (False, sample_row(0, chain_trace=True)),
    (False, sample_row(0, draw=BestTokens(2))),
    (False, sample_row(0, draw=BestTokens(1, np.asarray([4])))),
    (False, sample_row(0, draw=Best(2, logprobs=np.zeros(1)).for_row(0))),
    (False, sample_row(0, draw=SampledTokens((0, 1)))),
    (False, sample_row(0, draw=SampledTokens((0,), with_logprobs=True))),
    (False, sample_row(0, draw=PerturbedTokens(1, 0.0, math.nan, NEVER, 0))),
    (False, sample_row(0, chain=[busy_step("top_k"), busy_step("temperature")])),
    (False, sample_row(0, chain=[busy_step("temperature"), busy_step("temperature")])),
    (False, sample_row(0, chain=[busy_step("temperature"), busy_step("typical")])),
    (False, sample_row(0, chain=[busy_step("min_tokens"), busy_step("temperature")])),
    (False, sample_row(0, chain=[busy_step("grammar")])),
    (False, sample_row(0, chain=[Step("temperature", TopKParams(3))])),
    (True, sample_row(0, output=range(32768))),
    (True, sample_row(0, chain=[PENALTIES], output=range(32766))),
    (False, sample_row(0, chain=[PENALTIES], output=range(32767))),
]


@pytest.mark.parametrize(("is_taken", "row"), TAKEN)
def test_rows_that_it_takes(is_taken: bool, row: SampleRow) -> None:
    """Chains of the fused processors in their order, and one token; all else is for the oracle."""
    assert device_sampler(table("reference")).takes(row) == is_taken


def test_variants() -> None:
    """What rows need together; few numbers of likeliest tokens."""
    sampler = device_sampler(table("reference"))

    def variant(*nums: int | None, chain: tuple[Step, ...] = (), draw: RowDraw = SampledTokens((0,))) -> Variant:  # noqa: B008  # frozen
        return sampler.variant([sample_row(i, num_logprobs=num, chain=chain, draw=draw) for i, num in enumerate(nums)])

    assert variant() == variant(None, None) == Variant()
    assert [variant(None, num).num_top for num in (0, 1, 8, 9, 32)] == [0, 8, 8, 32, 32]
    assert variant(None, chain=CHAINS[4]) == Variant(None, with_penalties=True, with_cuts=True)
    assert variant(None, chain=CHAINS[4], draw=BestTokens()) == Variant(None, with_penalties=True)
    assert variant(None, chain=CHAINS[7]) == Variant(None, with_cuts=True)


def test_a_vocabulary_smaller_than_what_is_looked_for() -> None:
    sampler = DeviceSampler(table("reference"), 3, 2, DEVICE)
    row = sample_row(0, num_logprobs=3, draw=BestTokens())
    packed = np.zeros((1, DeviceSampler.WIDTH), np.int32)
    sampler.encode([row], [1], np.asarray([7]), packed)
    slots = torch.ones(1, dtype=torch.int32, device=DEVICE)
    logits = torch.tensor([[1.0, 3.0, 2.0]])
    chosen = sampler.choose(logits.to(DEVICE), torch.from_numpy(packed).to(DEVICE), slots, sampler.variant([row]))
    (got,) = sampler.draws([row], chosen.words.cpu().numpy())
    assert_like(got, Sampler().sample(logits, [row])[0])


def test_no_rows() -> None:
    """Nothing to encode is no error."""
    device_sampler(table("reference")).encode(
        [], [], np.zeros(0, np.int64), np.zeros((4, DeviceSampler.WIDTH), np.int32)
    )


def test_a_row_depends_on_itself_alone() -> None:
    """In another place, slot and crowd the same token comes."""
    scores = distinct_scores(10, VOCAB_SIZE, seed=8)
    rows = Crowd.of(10).rows()
    together = on_device(device_sampler(table("reference")), scores, rows)
    order = [7, 2, 9]
    few = [replace(rows[i], row=replace(rows[i].row, index=place)) for place, i in enumerate(order)]
    for got, i in zip(
        on_device(device_sampler(table("reference")), scores[order], few, slots=[9, 4, 1]), order, strict=True
    ):
        assert got.tokens.tolist() == together[i].tokens.tolist()
        assert got.model == together[i].model
