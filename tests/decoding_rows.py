"""Rows, chains and scores for the decoding tests: known numbers and no model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from penstock_decoding.chain import merge_chains
from penstock_decoding.params import Step
from penstock_decoding.processor import Ask, Processor, Row
from penstock_decoding.processors import PROCESSORS
from penstock_decoding.processors.logit_bias import LogitBiasParams
from penstock_decoding.processors.min_p import MinPParams
from penstock_decoding.processors.min_tokens import MinTokensParams
from penstock_decoding.processors.penalties import PenaltiesParams
from penstock_decoding.processors.temperature import TemperatureParams
from penstock_decoding.processors.top_k import TopKParams
from penstock_decoding.processors.top_p import TopPParams
from penstock_decoding.sampler import RowDraws, SampleRow

NEVER = float("-inf")

# For each processor, parameters for row i with which it changes that row's scores.
BUSY_PARAMS: dict[str, Callable[[int], Any]] = {
    "min_tokens": lambda i: MinTokensParams(5 + i),
    "logit_bias": lambda i: LogitBiasParams({0: 1.5 + i, 7: -2.0, 11: 100.0}),
    "penalties": lambda i: PenaltiesParams(repetition=1.1 + i / 10, presence=0.5, frequency=-0.25),
    "temperature": lambda i: TemperatureParams(0.5 + i / 10),
    "top_k": lambda i: TopKParams(3 + i),
    "top_p": lambda i: TopPParams(0.5 + i / 50),
    "min_p": lambda i: MinPParams(0.05 + i / 50),
}


def make_row(
    index: int,
    *,
    slot: int | None = None,
    prompt: Sequence[int] = (1, 2, 2, 3),
    output: Sequence[int] = (3, 4, 4),
    stop_token_ids: Sequence[int] = (0, 9),
) -> Row:
    """A row; its slot is its index unless given."""
    return Row(index, index if slot is None else slot, prompt, output, stop_token_ids)


def busy_step(name: str, i: int = 0) -> Step:
    """A step that changes the scores of a row of at least 12 tokens; `i` varies its parameters."""
    return Step(name, BUSY_PARAMS[name](i))


def distinct_scores(num_rows: int, vocab_size: int, seed: int, spread: float = 2.0) -> Tensor:
    """[rows, vocab] float32: the quantiles of a normal distribution in random order, so that no two of a row tie."""
    generator = torch.Generator().manual_seed(seed)
    quantiles = torch.special.ndtri((torch.arange(vocab_size, dtype=torch.float64) + 0.5) / vocab_size) * spread
    rows = [quantiles[torch.randperm(vocab_size, generator=generator)] * (1 + i / 10) for i in range(num_rows)]
    return torch.stack(rows).float()


def apply_asks(processor: Processor, asks: Sequence[Ask[Any]], scores: Tensor) -> Tensor:
    """What the processor makes of a copy of these scores."""
    edited = scores.clone()
    plan = processor.plan(asks)
    if plan is not None:
        plan.apply(edited)
    return edited


def apply_params(name: str, params: Sequence[Any], scores: Tensor) -> Tensor:
    """What a fresh processor makes of these scores when row i asks with `params[i]`."""
    return apply_asks(PROCESSORS[name](), [Ask(make_row(i), p) for i, p in enumerate(params)], scores)


def apply_chains(rows: Sequence[tuple[Row, Sequence[Step]]], scores: Tensor) -> Tensor:
    """What fresh processors make of these scores when every row asks for its own chain."""
    processors = {name: make() for name, make in PROCESSORS.items()}
    for stage in merge_chains(rows):
        scores = apply_asks(processors[stage.processor], stage.asks, scores)
    return scores


def sample_row(
    index: int,
    *,
    chain: Sequence[Step] = (),
    seed: int = 1,
    position: int = 7,
    samples: tuple[int, ...] | None = (0,),
    num_best: int = 1,
    num_logprobs: int | None = None,
    row: Mapping[str, Any] | None = None,
) -> SampleRow:
    """A `SampleRow`; `row` holds arguments of `make_row`."""
    return SampleRow(
        make_row(index, **(row or {})), tuple(chain), seed, position, samples, num_best, num_logprobs=num_logprobs
    )


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Equal down to the bits of NaN and of negative zero."""
    return torch.equal(a.contiguous().view(torch.int32), b.contiguous().view(torch.int32))


def assert_same_draws(a: RowDraws, b: RowDraws) -> None:
    """Two results of one row are the same, bit for bit."""
    assert a.tokens.tolist() == b.tokens.tolist()
    assert a.logprobs.tobytes() == b.logprobs.tobytes()
    assert (a.model_logprobs, a.top, a.is_valid) == (b.model_logprobs, b.top, b.is_valid)


def kept(scores: Tensor) -> Tensor:
    """Which tokens are not excluded."""
    return scores > NEVER
