"""The null model, `null:` or `null:CHECKPOINT`: no weights, constant logits, steps that cost next to nothing.

What is measured with it is everything that is not a model: HTTP, text, the way between the processes, the scheduler. It
reads and writes the tokens of the demo model, or of the checkpoint it names, of which it wants the configuration and
not the weights. All strategies, processors and log-probabilities work on its logits as on any others.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from penstock_decoding.catalogue import Catalogue
from penstock_decoding.draws import BestTokens
from penstock_decoding.grammar.vocabulary import Vocabulary
from penstock_decoding.sample_row import RowDraws, SampleRow
from penstock_engine.batch import Batch
from penstock_engine.config import NULL, EngineConfig, EngineInfo
from penstock_engine.engine import Engine
from penstock_engine.errors import EngineStartError
from penstock_engine.group import Group
from penstock_engine.limits import Limits
from penstock_engine.prompt_reader import PromptReader
from penstock_engine.reading import PartRead
from penstock_kernels import Kernels
from penstock_models.architecture import read_spec
from penstock_models.config import eos_token_ids, read_json

MAX_ROWS = 1024
MAX_BATCH_TOKENS = 8192
# The blocks hold nothing, but the allocator counts each: some 60 MB at this number, 4 million tokens.
MAX_BLOCKS = 2**18

# The likeliest token's lead, in nats: with it, answers that are sampled have a chunk for each token as well. All but
# 1 in 10^13 of the draws at temperature 1, over a vocabulary of 100 000 tokens, take it.
_LEAD = 40.0

# What a null model cannot do, and a flag can ask for.
_MODELS_OWN = ("weights", "kv_cache_dtype", "kv_cache_memory", "batch_invariant", "overlap", "cuda_graphs")


class NullRunner:
    """A `LaunchingRunner` with the same logits for every row: `token` leads, all others are equal."""

    def __init__(self, vocab_size: int, token: int, hidden_size: int) -> None:
        self._logits = torch.zeros(1, vocab_size)
        self._logits[0, token] = _LEAD
        self._hidden = torch.ones(1, hidden_size)
        self._reader = PromptReader(lambda hidden: self._logits.repeat(len(hidden), 1), vocab_size, Kernels.reference())
        self._draws = RowDraws(np.asarray([token]), np.asarray([np.nan], np.float32))

    def forward(self, batch: Batch) -> Tensor:
        """See `Runner.forward`. There is no cache, so nothing is written."""
        return self._logits.repeat(sum(entry.wants_logits for entry in batch.entries), 1)

    def forward_and_read(self, batch: Batch) -> tuple[Tensor, dict[Group, PartRead]]:
        """See `Runner.forward_and_read`. Every hidden state is ones."""
        return self.forward(batch), self._reader.read(batch, self._hidden.expand(batch.num_tokens, -1))

    def takes(self, row: SampleRow) -> bool:
        """See `LaunchingRunner.takes`: rows that want the likeliest token as it is, and nothing told beside it."""
        is_plain = row.num_logprobs is None and row.num_processed_logprobs is None and not row.chain_trace
        return is_plain and not row.chain and isinstance(row.draw, BestTokens) and not row.draw.with_logprobs

    def launch(self, batch: Batch, rows: Sequence[SampleRow]) -> "NullStep":
        """See `LaunchingRunner.launch`."""
        return NullStep([self._draws] * len(rows))

    def release(self, slot: int) -> None:
        """See `LaunchingRunner.release`. Nothing is kept by slot."""


class NullStep:
    """A launched step, which was over when it began."""

    def __init__(self, drawn: list[RowDraws]) -> None:
        self._drawn = drawn

    def draws(self) -> list[RowDraws]:
        """See `LaunchedStep.draws`."""
        return self._drawn


def build_null_engine(
    config: EngineConfig, catalogue: Catalogue, vocabulary: Vocabulary | None
) -> tuple[Engine, EngineInfo]:
    """As `build_engine`, for a model named `null:` and the folder of a checkpoint.

    Raises:
        EngineStartError: something was asked for that only a model with weights has.
        CheckpointError: config.json is missing or cannot be read.
    """
    started = time.perf_counter()
    _check(config)
    folder = Path(config.model.removeprefix(NULL))
    _, spec = read_spec(read_json(folder / "config.json"))
    max_rows = config.max_rows or MAX_ROWS
    max_model_len = config.max_model_len or spec.max_positions
    blocks_of_one = -(-max_model_len // config.block_size)
    threads = config.threads or 1
    torch.set_num_threads(threads)
    limits = Limits(
        max_model_len=max_model_len,
        max_rows=max_rows,
        max_batch_tokens=config.max_batch_tokens or max(MAX_BATCH_TOKENS, max_rows),
        max_queue=config.max_queue,
        num_blocks=max(min(max_rows * blocks_of_one, MAX_BLOCKS), blocks_of_one),
        block_size=config.block_size,
        vocab_size=spec.vocab_size,
    )
    if limits.max_batch_tokens < max_rows:
        raise EngineStartError(f"max_batch_tokens is {limits.max_batch_tokens}, less than the {max_rows} rows")
    token = spoken_token(vocabulary, eos_token_ids(folder), spec.vocab_size)
    engine = Engine(
        NullRunner(spec.vocab_size, token, spec.hidden_size),
        limits,
        prefix_caching=config.prefix_caching,
        catalogue=catalogue,
        vocabulary=vocabulary,
    )
    info = EngineInfo(
        model=config.model,
        folder=str(folder),
        architecture="null",
        num_parameters=0,
        vocab_size=spec.vocab_size,
        hidden_size=spec.hidden_size,
        eos_token_ids=eos_token_ids(folder),
        dtype="float32",
        dtype_reason="of the logits; there are no weights",
        device="cpu",
        kernels="null",
        weights="float32",
        kv_cache_dtype="float32",
        max_model_len=max_model_len,
        block_size=limits.block_size,
        num_blocks=limits.num_blocks,
        kv_cache_bytes=0,
        max_batch_tokens=limits.max_batch_tokens,
        max_rows=max_rows,
        max_queue=limits.max_queue,
        overlap=True,
        cuda_graphs=False,
        threads=threads,
        load_seconds=time.perf_counter() - started,
    )
    return engine, info


def spoken_token(vocabulary: Vocabulary | None, never: Sequence[int], vocab_size: int) -> int:
    """The token that answers are made of: the first one of a space and some small letters, so that each is text of its
    own; one from the middle of the vocabulary if there is none, or nobody knows the tokens' bytes."""
    for token, text in enumerate(vocabulary.tokens[:vocab_size] if vocabulary is not None else ()):
        if text[:1] == b" " and text[1:].isalpha() and text.islower() and len(text) > 2 and token not in never:
            return token
    return vocab_size // 2


def _check(config: EngineConfig) -> None:
    for field in dataclasses.fields(config):
        if field.name in _MODELS_OWN and getattr(config, field.name) != field.default:
            raise EngineStartError(f"{field.name} is for a model with weights, and null: has none")
    if config.device == "cuda" or config.kernels == "fused":
        raise EngineStartError("null: computes nothing, and so on no device cuda and with no fused kernels")
