"""Launched steps with fused kernels: interpreted on a CPU, and on a GPU as CUDA graphs too."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import write_checkpoint
from kernel_tables import DEVICE, IS_INTERPRETED, table
from scripted_engine import Answers, make_request, run_all, token_ids

from penstock_engine.engine import Engine
from penstock_engine.graph_runner import GraphRunner
from penstock_engine.limits import Limits
from penstock_engine.model_runner import ModelRunner
from penstock_engine.runner import Runner
from penstock_models.decoder import Decoder
from penstock_models.loader import load_checkpoint

# As small as can be for the interpreter, which takes some 50 us for each operation of each program.
SMALL: dict[str, Any] = {
    "vocab_size": 61,
    "num_hidden_layers": 1 if IS_INTERPRETED else 3,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 20,
}
MAX_TOKENS = 5 if IS_INTERPRETED else 24
LIMITS = Limits(
    max_model_len=64, max_rows=6, max_batch_tokens=24, max_queue=8, num_blocks=40, block_size=4, vocab_size=61
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    write_checkpoint(folder, "llama", **SMALL)
    return folder


def load(folder: Path, kernels: str) -> Decoder:
    return load_checkpoint(folder, dtype="float32", device=DEVICE, kernels=table(kernels)).decoder


def tokens(seed: int, count: int) -> list[int]:
    drawn: list[int] = torch.randint(1, 61, (count,), generator=torch.Generator().manual_seed(seed)).tolist()
    return drawn


def launching(decoder: Decoder, *, cuda_graphs: bool) -> GraphRunner:
    runner = GraphRunner(
        decoder,
        num_blocks=LIMITS.num_blocks,
        block_size=LIMITS.block_size,
        max_rows=LIMITS.max_rows,
        max_context=LIMITS.max_model_len,
        cuda_graphs=cuda_graphs,
    )
    if cuda_graphs:
        runner.record()
    return runner


def serve(runner: Runner, prompts: Sequence[list[int]]) -> Answers:
    """Requests with all that is launched; one ends before the others."""
    engine = Engine(runner, LIMITS)
    greedy, sampled, penalised = prompts
    requests = [
        make_request("greedy", greedy, {"temperature": 0, "num_logprobs": 2}, max_tokens=MAX_TOKENS, stop_token_ids=()),
        make_request("sampled", sampled, {"seed": 5, "top_k": 7}, max_tokens=MAX_TOKENS - 2, stop_token_ids=()),
        make_request(
            "penalised", penalised, {"frequency_penalty": 1.0, "seed": 6}, max_tokens=MAX_TOKENS, stop_token_ids=()
        ),
    ]
    answers = run_all(engine, requests)
    assert engine.stats.num_blocks_in_use == 0
    return answers


@pytest.mark.parametrize("cuda_graphs", [False, True])
@pytest.mark.parametrize("kernels", ["fused"] if IS_INTERPRETED else ["fused", "fused_invariant"])
def test_launched_steps_give_the_reference_s_answers(folder: Path, kernels: str, cuda_graphs: bool) -> None:
    if cuda_graphs and IS_INTERPRETED:
        pytest.skip("CUDA graphs need a GPU")
    prompts = [tokens(0, 6), tokens(1, 3), tokens(2, 2)]
    reference = ModelRunner(load(folder, "reference"), num_blocks=LIMITS.num_blocks, block_size=LIMITS.block_size)
    expected = serve(reference, prompts)
    answers = serve(launching(load(folder, kernels), cuda_graphs=cuda_graphs), prompts)
    assert {key: token_ids(answer) for key, answer in answers.items()} == {
        key: token_ids(answer) for key, answer in expected.items()
    }
    for mine, other in zip(answers["greedy", 0], expected["greedy", 0], strict=True):
        assert mine.logprobs is not None and other.logprobs is not None
        assert mine.logprobs.chosen == pytest.approx(other.logprobs.chosen, abs=1e-3)


@pytest.mark.skipif(IS_INTERPRETED, reason="CUDA graphs need a GPU")
def test_graphs_give_the_bits_of_the_calls_they_were_recorded_from(folder: Path) -> None:
    """Log-probabilities and all, twice over."""
    prompts = [tokens(0, 6), tokens(1, 3), tokens(2, 2)]
    decoder = load(folder, "fused")
    called, *replayed = (serve(launching(decoder, cuda_graphs=graphs), prompts) for graphs in (False, True, True))
    assert replayed == [called, called]
