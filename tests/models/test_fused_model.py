"""Whole models give with fused kernels what they give with the reference: on a GPU if there is one, else interpreted.

Everything that a step can hold: prompts, chunks, decoding rows, forks with a copied block, prefix hits.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import write_checkpoint
from kernel_tables import DEVICE, table
from paged_rows import PagedRows
from scripted_engine import Answers, make_request, run_all, token_ids
from torch import Tensor

from penstock_engine.engine import Engine
from penstock_engine.limits import Limits
from penstock_engine.model_runner import ModelRunner
from penstock_models.decoder import Decoder
from penstock_models.loader import load_checkpoint

# Small, for the interpreter takes some 20 us for each operation of each program, and odd where that costs nothing.
SMALL: Mapping[str, Any] = {
    "vocab_size": 61,
    "num_hidden_layers": 1,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 12,
}
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "llama": {**SMALL, "num_hidden_layers": 2},
    "qwen3": {**SMALL, "tie_word_embeddings": True},
    "mistral": {**SMALL, "sliding_window": 7},
    "gpt2": {"vocab_size": 61, "n_layer": 1, "n_embd": 24, "n_head": 2},
}
QUANTISED = (torch.int8, torch.float8_e4m3fn)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A float32 checkpoint of each family."""
    folders = {family: tmp_path_factory.mktemp(family) for family in FAMILIES}
    for family, folder in folders.items():
        write_checkpoint(folder, family, **FAMILIES[family])
    return folders


def load(folder: Path, kernels: str) -> Decoder:
    return load_checkpoint(folder, dtype="float32", device=DEVICE, kernels=table(kernels)).decoder


def tokens(seed: int, count: int) -> list[int]:
    drawn: list[int] = torch.randint(1, 61, (count,), generator=torch.Generator().manual_seed(seed)).tolist()
    return drawn


def live(decoder: Decoder, kv_dtype: torch.dtype | None = None) -> list[Tensor]:
    """The logits of every step of a few rows' lives."""
    rows = PagedRows(decoder, num_blocks=64, kv_dtype=kv_dtype)
    steps: list[dict[int, Tensor]] = []
    steps.append(rows.feed({0: tokens(0, 21)}))
    steps.append(rows.feed({0: tokens(1, 1), 1: tokens(2, 17)}))  # a row decodes beside a chunk
    steps.append(rows.feed({1: tokens(3, 18), 0: tokens(4, 1)}))  # the next chunk of that prompt
    rows.fork(0, 2)  # copies the unfinished block
    rows.fork(0, 3)
    steps.append(rows.feed({0: tokens(5, 1), 2: tokens(6, 1), 3: tokens(7, 1), 1: tokens(8, 1)}))
    rows.share(1, 4, num_blocks=5)  # a prefix hit of 20 tokens
    steps.append(rows.feed({4: tokens(9, 3), 1: tokens(10, 1), 2: tokens(11, 1)}))
    steps.append(rows.feed({row: tokens(12 + row, 1) for row in range(5)}))
    return [logits for step in steps for logits in step.values()]


@pytest.mark.parametrize(
    ("family", "kernels"), [*((family, "fused") for family in FAMILIES), ("llama", "fused_invariant")]
)
def test_logits_are_the_reference_s(folders: dict[str, Path], family: str, kernels: str) -> None:
    expected = live(load(folders[family], "reference"))
    for ours, theirs in zip(live(load(folders[family], kernels)), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4 * float(theirs.abs().max()), rtol=0)


@pytest.mark.parametrize("kv_dtype", QUANTISED, ids=str)
def test_logits_are_the_reference_s_with_a_quantised_cache(folders: dict[str, Path], kv_dtype: torch.dtype) -> None:
    """Near, not equal: a value that lies between two steps may go the other way after sums in another order."""
    expected = live(load(folders["qwen3"], "reference"), kv_dtype)
    for ours, theirs in zip(live(load(folders["qwen3"], "fused"), kv_dtype), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-2 * float(theirs.abs().max()), rtol=0)


def serve(decoder: Decoder) -> Answers:
    """Greedy, sampled and beam requests side by side, in a cache so small that some are preempted."""
    limits = Limits(
        max_model_len=64,
        max_rows=8,
        max_batch_tokens=24,
        max_queue=8,
        num_blocks=17,
        block_size=4,
        vocab_size=decoder.spec.vocab_size,
    )
    engine = Engine(ModelRunner(decoder, num_blocks=limits.num_blocks, block_size=limits.block_size), limits)
    requests = [
        make_request("greedy", tokens(0, 13), {"temperature": 0}, max_tokens=8, stop_token_ids=()),
        make_request("samples", tokens(1, 9), {"n": 2, "seed": 5, "top_k": 7}, max_tokens=6, stop_token_ids=()),
        make_request("beam", tokens(2, 10), {"num_beams": 2}, max_tokens=5, stop_token_ids=()),
        make_request("again", tokens(0, 13), {"temperature": 0}, max_tokens=6, stop_token_ids=()),
    ]
    answers = run_all(engine, requests)
    assert engine.stats.num_preemptions > 0 and engine.stats.num_prefix_hit_tokens > 0
    return answers


def test_the_engine_gives_the_same_answers(folders: dict[str, Path]) -> None:
    expected = serve(load(folders["qwen3"], "reference"))
    ours = serve(load(folders["qwen3"], "fused"))
    assert {key: token_ids(answer) for key, answer in ours.items()} == {
        key: token_ids(answer) for key, answer in expected.items()
    }
