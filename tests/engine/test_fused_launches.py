"""Launched steps with fused kernels: interpreted on a CPU, and on a GPU as CUDA graphs too."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import write_checkpoint
from kernel_tables import DEVICE, IS_INTERPRETED, table
from scripted_engine import Answers, make_request, run_all, token_ids
from torch.utils._python_dispatch import TorchDispatchMode

from penstock_decoding.device_sampler import Variant
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


# What torch is asked for in a step, apart from views and empty tensors. None of it waits for the device or has a shape
# that depends on what the device holds, and none copies from the host.
CAPTURED = {
    *("aten.embedding", "aten.linear", "aten.addmm_", "aten.add_", "aten.mul_", "aten.sin_", "aten.cos", "aten.mul"),
    *("aten.copy_", "aten.clone", "aten.to", "aten.clamp", "aten.cat", "aten.index_copy_", "aten.eq"),
    *("aten.masked_fill", "aten.empty", "aten.new_empty", "aten.empty_like"),
    *(
        "aten.slice",
        "aten.view",
        "aten.reshape",
        "aten.select",
        "aten.unsqueeze",
        "aten.narrow",
        "aten.t",
        "aten.alias",
    ),
}
# With angles that depend on the length.
CAPTURED |= {"aten.add", "aten.div", "aten.sub", "aten.pow", "aten.arange", "aten.reciprocal", "aten.repeat"}


class Asked(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The names of the ops that torch is asked for, in order."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ops: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.ops.append(str(func).rsplit(".", 1)[0])
        return func(*args, **(kwargs or {}))


@pytest.mark.skipif(not IS_INTERPRETED, reason="on a GPU the capture itself tells")
@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}),
        ("mistral", {}),
        ("qwen3", {}),
        ("gpt2", {}),
    ],
)
@pytest.mark.parametrize("kernels", ["fused", "fused_invariant"])
def test_a_step_holds_nothing_that_a_capture_refuses(
    tmp_path: Path, family: str, fields: dict[str, Any], kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No op of torch that waits for the device; and once it has run, Triton has nothing left to compile."""
    from triton.runtime.interpreter import GridExecutor

    launched: list[object] = []

    def note(executor: Any, *args: object, **constants: object) -> None:
        keys = [_specialisation(value) for value in (*args, *constants.values())]
        launched.append((executor.fn, executor.grid, keys))

    monkeypatch.setattr(GridExecutor, "__call__", note)
    write_checkpoint(tmp_path, family, **fields)
    decoder = load_checkpoint(tmp_path, dtype="bfloat16", device=DEVICE, kernels=table(kernels)).decoder
    runner = GraphRunner(decoder, num_blocks=9, block_size=4, max_rows=24, max_context=60, cuda_graphs=False)
    for num_rows in (1, 8, 24):
        for variant in (Variant(), Variant(0, with_penalties=True), Variant(32, with_penalties=True, with_cuts=True)):
            with torch.inference_mode(), Asked() as asked:
                runner._step.run(num_rows, variant)
                warmed, launched = launched, []
                asked.ops.clear()
                runner._step.run(num_rows, variant)
            assert set(asked.ops) <= CAPTURED
            assert launched == warmed
            launched.clear()


def _specialisation(value: object) -> object:
    """What Triton compiles anew for, of an argument: a little more than it does."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.data_ptr() % 16 == 0
    return value
