"""Penalties from counts on the device: their bits, the rows that ask for nothing, and the counting."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from kernel_tables import DEVICE, TABLES, table
from numpy.typing import NDArray
from torch import Tensor

from penstock_decoding.processor import Ask, Row
from penstock_decoding.processors.penalties import Penalties, PenaltiesParams
from penstock_kernels.penalties import LARGEST_COUNT, PenaltyInputs, UsedTokens
from penstock_kernels.penalties.cases import CASES, NUM_SLOTS

# repetition, presence, frequency: each alone, rewards, all together, nothing at all.
ASKED = ((1.3, 0.0, 0.0), (1.0, 0.7, 0.0), (1.0, 0.0, -0.3), (0.7, -1.1, 0.9), (1.0, 0.0, 0.0), (10.0, 2.0, 2.0))


@dataclass(frozen=True)
class Sequences:
    """By slot: the prompt and the answer."""

    prompts: list[list[int]]
    answers: list[list[int]]

    def used(self, vocab_size: int) -> UsedTokens:
        """The device's tables of them."""
        in_prompt = np.zeros((NUM_SLOTS, -(-vocab_size // 32) * 32), np.uint8)
        counts = np.zeros((NUM_SLOTS, vocab_size), np.int16)
        for slot in range(NUM_SLOTS):
            in_prompt[slot, self.prompts[slot]] = 1
            np.add.at(counts[slot], self.answers[slot], np.int16(1))
        words = np.packbits(in_prompt, axis=1, bitorder="little").view(np.int32)
        return UsedTokens(torch.from_numpy(words).to(DEVICE), torch.from_numpy(counts).to(DEVICE))


def sequences(vocab_size: int, generator: np.random.Generator) -> Sequences:
    """Prompts and answers that overlap and repeat; the last token of the vocabulary is always used."""

    def some(count: int) -> list[int]:
        return [vocab_size - 1, *generator.integers(0, vocab_size, count).tolist()]

    return Sequences([some(9) for _ in range(NUM_SLOTS)], [some(3) * 2 for _ in range(NUM_SLOTS)])


def random_scores(shape: tuple[int, int], generator: np.random.Generator) -> Tensor:
    """Scores of both signs and every size, some excluded, zeros of both signs."""
    scores = generator.standard_normal(shape) * 10.0 ** generator.integers(-3, 4, shape)
    scores[generator.random(shape) < 0.1] = -np.inf
    scores[generator.random(shape) < 0.1] = 0.0
    signs = generator.choice(np.asarray([-1, 1], np.float32), shape)
    signed = torch.from_numpy(scores.astype(np.float32) * signs)
    return signed.nan_to_num(posinf=-torch.inf, neginf=-torch.inf)


def on_device(values: NDArray[np.float32] | tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=DEVICE)


def penalty_inputs(asked: list[tuple[float, float, float]]) -> PenaltyInputs:
    columns = np.asarray(asked, np.float32).reshape(-1, 3).T
    return PenaltyInputs(*(on_device(column, torch.float32) for column in columns))


def same_bits(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.cpu().view(torch.int32), b.cpu().view(torch.int32))


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize(("shape", "slots"), CASES)
def test_equal_to_the_processor(name: str, shape: tuple[int, int], slots: tuple[int, ...]) -> None:
    """The same bits as the processor of the same name, which goes through the used tokens one by one."""
    generator = np.random.default_rng(2)
    given = sequences(shape[1], generator)
    asked = [ASKED[(i + shape[1]) % len(ASKED)] for i in range(shape[0])]
    scores = random_scores(shape, generator)
    expected = scores.clone()
    asks = [
        Ask(Row(i, slot, given.prompts[slot], given.answers[slot], ()), PenaltiesParams(*asked[i]))
        for i, slot in enumerate(slots)
    ]
    plan = Penalties().plan(asks)
    assert plan is not None
    plan.apply(expected)
    used = given.used(shape[1])
    actual = scores.to(DEVICE, copy=True)
    table(name).penalties(actual, on_device(slots, torch.int32), used, penalty_inputs(asked))
    assert same_bits(actual, expected)


@pytest.mark.parametrize("name", TABLES)
def test_rows_that_ask_for_nothing(name: str) -> None:
    """They keep their bits, NaN and infinities too, and so does padding, whose words are all zero."""
    generator = np.random.default_rng(3)
    given = sequences(70, generator)
    scores = random_scores((3, 70), generator)
    scores[:, :3] = torch.tensor([float("nan"), float("inf"), -0.0])
    for slot in (1, 2):
        given.answers[slot] += [0, 1, 2]
    actual = scores.to(DEVICE, copy=True)
    inputs = penalty_inputs([(1.0, 0.0, 0.0), (0.0, 0.0, 0.0), (1.5, 0.0, 0.0)])
    table(name).penalties(actual, on_device((1, 2, 3), torch.int32), given.used(70), inputs)
    assert same_bits(actual[:2], scores[:2])
    assert not same_bits(actual[2], scores[2])


@pytest.mark.parametrize("name", TABLES)
def test_a_row_depends_on_itself_alone(name: str) -> None:
    """Alone and in a batch, also where two rows share a slot: the same bits."""
    generator = np.random.default_rng(4)
    used = sequences(300, generator).used(300)
    scores = random_scores((6, 300), generator).to(DEVICE)
    slots = (5, 1, 1, 3, 2, 4)
    together = scores.clone()
    table(name).penalties(together, on_device(slots, torch.int32), used, penalty_inputs(list(ASKED)))
    for i, slot in enumerate(slots):
        alone = scores[i : i + 1].clone()
        table(name).penalties(alone, on_device((slot,), torch.int32), used, penalty_inputs([ASKED[i]]))
        assert same_bits(alone[0], together[i])


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("num_rows", [1, 130])
def test_counting(name: str, num_rows: int) -> None:
    """One more for each token, none for a negative one, and the largest count stays."""
    generator = np.random.default_rng(5)
    num_slots, vocab_size = num_rows + 3, 77
    counts = generator.integers(0, 5, (num_slots, vocab_size), np.int16)
    slots = generator.permutation(num_slots)[:num_rows].astype(np.int32)
    tokens = generator.integers(-1, vocab_size, num_rows)
    tokens[0], counts[slots[0], 7] = 7, LARGEST_COUNT
    expected = counts.copy()
    for slot, token in zip(slots[1:], tokens[1:], strict=True):
        expected[slot, token] += token >= 0
    in_prompt = torch.zeros(num_slots, 3, dtype=torch.int32, device=DEVICE)
    used = UsedTokens(in_prompt, torch.from_numpy(counts).to(DEVICE))
    table(name).count_tokens(used, torch.from_numpy(slots).to(DEVICE), torch.from_numpy(tokens).to(DEVICE))
    assert torch.equal(used.counts.cpu(), torch.from_numpy(expected))


@pytest.mark.parametrize("name", TABLES)
def test_padding_counts_nothing(name: str) -> None:
    """Many rows of slot 0, each without a token, beside one that has one."""
    used = UsedTokens(
        torch.zeros(2, 1, dtype=torch.int32, device=DEVICE), torch.zeros(2, 9, dtype=torch.int16, device=DEVICE)
    )
    table(name).count_tokens(used, on_device((0, 1, 0, 0), torch.int32), on_device((-1, 8, -1, -1), torch.int64))
    assert used.counts.sum() == 1 and used.counts[1, 8] == 1


@pytest.mark.parametrize("name", TABLES)
def test_no_rows(name: str) -> None:
    """An empty batch is no error."""
    used = sequences(40, np.random.default_rng(6)).used(40)
    table(name).penalties(torch.empty(0, 40, device=DEVICE), on_device((), torch.int32), used, penalty_inputs([]))
    table(name).count_tokens(used, on_device((), torch.int32), on_device((), torch.int64))
