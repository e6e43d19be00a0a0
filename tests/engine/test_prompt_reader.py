"""What is told of the rows of a prompt: by kernels of each kind, in pieces, among equal scores."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from kernel_tables import DEVICE, table
from numpy.typing import NDArray
from torch import Tensor

from penstock_decoding.catalogue import SHIPPED
from penstock_decoding.guarded_strategy import GuardedStrategy
from penstock_decoding.params import read_decoding
from penstock_engine import prompt_reader
from penstock_engine.batch import Batch, Entry
from penstock_engine.group import Group
from penstock_engine.prompt_reader import PromptReader
from penstock_engine.reading import PartRead
from penstock_engine.request import GenerationRequest, Pooling, PromptReading, StopConditions

VOCAB_SIZE = 300


def group(prompt: list[int], num_logprobs: int | None, pooling: Pooling | None = None) -> Group:
    """A request whose prompt is to be read, before its first step."""
    decoding = read_decoding({}, vocab_size=VOCAB_SIZE)
    request = GenerationRequest(
        "a", tuple(prompt), decoding, StopConditions(0), reading=PromptReading(num_logprobs, pooling)
    )
    return Group.of(request, GuardedStrategy(decoding.strategy, SHIPPED, VOCAB_SIZE), 0, 0, "")


def whole(*groups: Group) -> Batch:
    """All tokens of these prompts."""
    return Batch(tuple(Entry(each, each.rows[0], len(each.request.prompt)) for each in groups), ())


@dataclass
class Head:
    """A head that changes nothing, and remembers how many rows it was given at a time."""

    sizes: list[int]

    def __call__(self, states: Tensor) -> Tensor:
        self.sizes.append(len(states))
        return states.clone()


def tied_scores(num_rows: int) -> Tensor:
    """Few different values, so that most ranks are decided by ids; some tokens excluded, -0.0 beside 0.0."""
    scores = torch.randint(-3, 4, (num_rows, VOCAB_SIZE), generator=torch.Generator().manual_seed(num_rows)).float()
    scores[:, 5::7] *= -1
    scores[:, 17::31] = -torch.inf
    return scores.to(DEVICE)


@pytest.mark.parametrize("name", ["reference", "fused"])
@pytest.mark.parametrize("num_top", [0, 1, 7, VOCAB_SIZE])
def test_ranks_and_best_agree_however_many_scores_are_equal(name: str, num_top: int) -> None:
    """numpy's stable sort is the oracle: of equal scores the lower id comes first. The token of rank r is the r-th in
    the list wherever that is long enough."""
    prompt = [(i * 37) % VOCAB_SIZE for i in range(24)]
    states = tied_scores(len(prompt))
    own = group(prompt, num_top)
    part = PromptReader(torch.clone, VOCAB_SIZE, table(name)).read(whole(own), states)[own]
    expected = states.cpu().double().log_softmax(-1).numpy()
    assert part.end == len(prompt) and part.fault is None and part.hidden is None
    for told, row, token in zip(part.logprobs, expected, prompt[1:], strict=False):
        assert told.rank is not None
        order = np.argsort(-row, kind="stable").tolist()
        assert told.rank == order.index(token) + 1
        assert [best for best, _ in told.top] == order[:num_top]
        assert told.chosen == pytest.approx(row[token], abs=1e-5)
        assert [value for _, value in told.top] == pytest.approx(row[order[:num_top]], abs=1e-5)
        if told.rank <= num_top:
            assert told.top[told.rank - 1] == (token, told.chosen)


@pytest.mark.parametrize("name", ["reference", "fused"])
def test_logits_are_made_in_pieces(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of bounded size, across the borders of prompts; each prompt gets what it asked for, and what it gets alone."""
    lengths = {"logprobs": 30, "neither": 8, "few": 2, "pooled": 19, "single": 1, "both": 9}
    prompts = {key: [(i * 11 + n) % VOCAB_SIZE for i in range(n)] for key, n in lengths.items()}
    asked: dict[str, tuple[int | None, Pooling | None]] = {
        "logprobs": (3, None),
        "neither": (0, None),
        "few": (9, None),
        "pooled": (None, "mean"),
        "single": (4, "last"),
        "both": (5, "mean"),
    }
    groups = {key: group(prompts[key], *asked[key]) for key in lengths}
    states = tied_scores(sum(lengths.values())).clamp(min=-9)
    alone: dict[str, PartRead] = {}
    start = 0
    for key, own in groups.items():
        reader = PromptReader(torch.clone, VOCAB_SIZE, table(name))
        alone[key] = reader.read(whole(own), states[start : start + lengths[key]])[own]
        start += lengths[key]
    monkeypatch.setattr(prompt_reader, "PIECE_BYTES", 4 * VOCAB_SIZE * 7 + 3)
    head = Head([])
    parts = PromptReader(head, VOCAB_SIZE, table(name)).read(whole(*groups.values()), states)
    assert head.sizes == [7, 7, 7, 7, 7, 7, 3], "29 + 7 + 1 + 0 + 0 + 8 rows"
    for key, own in groups.items():
        part, expected = parts[own], alone[key]
        assert (part.end, part.logprobs, part.fault) == (expected.end, expected.logprobs, None)
        assert np.array_equal(_array(part.hidden), _array(expected.hidden))
        num_top = asked[key][0]
        assert all(len(told.top) == num_top for told in part.logprobs)


def _array(hidden: NDArray[np.float64] | None) -> NDArray[np.float64]:
    return np.empty(0) if hidden is None else hidden


def test_a_large_vocabulary_is_read_a_row_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_reader, "PIECE_BYTES", 10)
    own, head = group([1, 2, 3, 4], 1), Head([])
    PromptReader(head, VOCAB_SIZE, table("reference")).read(whole(own), tied_scores(4))
    assert head.sizes == [1, 1, 1]


@pytest.mark.parametrize("name", ["reference", "fused"])
@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_a_row_that_is_no_distribution_is_a_fault_of_its_prompt_alone(name: str, broken: float) -> None:
    """NaN, +inf, or nothing but -inf, in a row whose token is told; the row behind the prompt's last token is not."""
    first, second, third = (group([1, 2, 3, n], 2) for n in range(3))
    states = tied_scores(12)
    states[5] = broken
    states[11] = torch.nan
    with np.errstate(invalid="ignore"):  # Triton's interpreter computes with numpy, and inf - inf is NaN
        parts = PromptReader(torch.clone, VOCAB_SIZE, table(name)).read(whole(first, second, third), states)
    assert parts[second].fault is not None and parts[second].logprobs == ()
    assert [parts[own].fault for own in (first, third)] == [None, None]
    assert [len(parts[own].logprobs) for own in (first, third)] == [3, 3]


def test_a_mean_does_not_depend_on_where_its_sums_are_cut() -> None:
    """Sums of bfloat16 states in float64 are exact as long as they differ by less than 2^30: any cut gives the bits of
    one sum over all."""
    states = (torch.randn(257, 64, generator=torch.Generator().manual_seed(1)) * 40).bfloat16()
    sums = []
    for cut in (257, 1, 64, 200):
        own = group([1] * 257, None, "mean")
        reader = PromptReader(torch.clone, VOCAB_SIZE, table("reference"))
        assert own.reading is not None
        embedding = None
        for start in range(0, 257, cut):
            own.rows[0].num_computed = start
            entry = Entry(own, own.rows[0], min(cut, 257 - start))
            part = reader.read(Batch((entry,), ()), states[start : start + entry.num_tokens])[own]
            embedding = own.reading.take(part).embedding
        assert embedding is not None
        sums.append(embedding)
    assert sums == [sums[0]] * 4
    np.testing.assert_allclose(np.frombuffer(sums[0], np.float32), states.double().mean(0).numpy(), rtol=1e-6)
