"""Rows, chains and scores for the decoding tests: known numbers and no model."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from penstock_decoding.chain import merge_chains
from penstock_decoding.draws import RowDraw, SampledTokens
from penstock_decoding.grammar.params import GrammarParams
from penstock_decoding.params import Step
from penstock_decoding.processor import Ask, Processor, Row
from penstock_decoding.processors import PROCESSORS
from penstock_decoding.processors.adaptive_temperature import AdaptiveTemperatureParams
from penstock_decoding.processors.allowed_sequences import AllowedSequencesParams
from penstock_decoding.processors.allowed_tokens import AllowedTokensParams
from penstock_decoding.processors.bad_words import BadWordsParams
from penstock_decoding.processors.dry import DryParams
from penstock_decoding.processors.dynamic_temperature import DynamicTemperatureParams
from penstock_decoding.processors.epsilon import EpsilonParams
from penstock_decoding.processors.eta import EtaParams
from penstock_decoding.processors.force_end import ForceEndParams
from penstock_decoding.processors.logit_bias import LogitBiasParams
from penstock_decoding.processors.min_p import MinPParams
from penstock_decoding.processors.min_tokens import MinTokensParams
from penstock_decoding.processors.mirostat import MirostatParams
from penstock_decoding.processors.no_repeat_ngram import NoRepeatNgramParams
from penstock_decoding.processors.penalties import PenaltiesParams
from penstock_decoding.processors.temperature import TemperatureParams
from penstock_decoding.processors.top_h import TopHParams
from penstock_decoding.processors.top_k import TopKParams
from penstock_decoding.processors.top_n_sigma import TopNSigmaParams
from penstock_decoding.processors.top_p import TopPParams
from penstock_decoding.processors.typical import TypicalParams
from penstock_decoding.processors.xtc import XtcParams
from penstock_decoding.sample_row import RowDraws, SampleRow
from penstock_decoding.token_lists import TokenLists

NEVER = float("-inf")

# For each processor, parameters for row i with which it changes that row's scores.
BUSY_PARAMS: dict[str, Callable[[int], Any]] = {
    "grammar": lambda i: GrammarParams(regex=rf"[\x01-\x{10 - i % 5:02x}]*"),
    "allowed_sequences": lambda i: AllowedSequencesParams(
        TokenLists.of([(3, 4, 4, 5 + 2 * i), (3, 4, 4, 8, 9), (3, 4, 4, 11), (7,)])
    ),
    "bad_words": lambda i: BadWordsParams(((7,), (4, 4, i % 4))),
    "allowed_tokens": lambda i: AllowedTokensParams((3, 8, 9, 11, i % 8)),
    "no_repeat_ngram": lambda i: NoRepeatNgramParams(1 + i % 2),
    "min_tokens": lambda i: MinTokensParams(5 + i),
    "force_end": lambda i: ForceEndParams(i % 4),
    "logit_bias": lambda i: LogitBiasParams({0: 1.5 + i, 7: -2.0, 11: 100.0}),
    "penalties": lambda i: PenaltiesParams(repetition=1.1 + i / 10, presence=0.5, frequency=-0.25),
    "dry": lambda i: DryParams(multiplier=0.8 + i, allowed_length=1),
    "temperature": lambda i: TemperatureParams(0.5 + i / 10),
    "dynamic_temperature": lambda i: DynamicTemperatureParams(0.8 + i / 20, 0.5, 0.5 + i / 10),
    "adaptive_temperature": lambda i: AdaptiveTemperatureParams(2.0 + i / 2),
    "top_n_sigma": lambda i: TopNSigmaParams(0.5 + i / 10),
    "top_h": lambda i: TopHParams(0.3 + i / 20, "paper" if i % 2 else "transformers"),
    "top_k": lambda i: TopKParams(3 + i),
    "top_p": lambda i: TopPParams(0.5 + i / 50),
    "min_p": lambda i: MinPParams(0.05 + i / 50),
    "typical": lambda i: TypicalParams(0.5 + i / 50),
    "epsilon": lambda i: EpsilonParams(0.001 + i / 1000),
    "eta": lambda i: EtaParams(0.01 + i / 100),
    "mirostat": lambda i: MirostatParams(1 + i % 2, 2.0 + i / 10),
    "xtc": lambda i: XtcParams(1.0, 0.04 + i / 1000),
}


def make_row(
    index: int,
    *,
    slot: int | None = None,
    prompt: Sequence[int] = (1, 2, 2, 3),
    output: Sequence[int] = (3, 4, 4),
    stop_token_ids: Sequence[int] = (0, 9),
    seed: int = 1,
    sample: int = 0,
) -> Row:
    """A row; its slot is its index unless given."""
    return Row(index, index if slot is None else slot, prompt, output, stop_token_ids, seed, sample)


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
    draw: RowDraw = SampledTokens((0,)),  # noqa: B008  # frozen
    num_logprobs: int | None = None,
    num_processed_logprobs: int | None = None,
    chain_trace: bool = False,
    **row: Any,
) -> SampleRow:
    """A `SampleRow`; `row` holds arguments of `make_row`."""
    return SampleRow(make_row(index, **row), tuple(chain), draw, num_logprobs, num_processed_logprobs, chain_trace)


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Equal down to the bits of NaN and of negative zero."""
    return torch.equal(a.contiguous().view(torch.int32), b.contiguous().view(torch.int32))


def assert_same_draws(a: RowDraws, b: RowDraws) -> None:
    """Two results of one row are the same, bit for bit; of a row that failed nothing but the fault means anything."""
    assert a.fault == b.fault
    if a.fault is not None:
        return
    assert a.tokens.tolist() == b.tokens.tolist()
    assert a.logprobs.tobytes() == b.logprobs.tobytes()
    assert (a.perturbed is None) == (b.perturbed is None)
    if a.perturbed is not None and b.perturbed is not None:
        assert a.perturbed.tobytes() == b.perturbed.tobytes()
    # Compared as text, which tells every float from every other and lets NaN, of a row with nothing left, equal itself.
    assert repr((a.model, a.processed)) == repr((b.model, b.processed))


def kept(scores: Tensor) -> Tensor:
    """Which tokens are not excluded."""
    return scores > NEVER
