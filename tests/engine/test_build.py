"""What the engine leaves free on a GPU: room to compute and to record its steps beside the KV cache."""

from pathlib import Path

import pytest
import torch
from checkpoints import write_checkpoint

from penstock_engine import build
from penstock_engine.build import gpu_bytes_for_steps
from penstock_engine.config import EngineConfig
from penstock_engine.memory import GPU_SHARE
from penstock_kernels import Kernels
from penstock_models.loader import load_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    write_checkpoint(folder, "llama")
    return folder


@pytest.mark.parametrize("left_over", [2**28, 2**40])
def test_a_gpu_s_cache_leaves_room_for_the_steps(folder: Path, left_over: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a tenth of what is free is less than a step takes, the cache gets what is left; else its nine tenths."""
    model = load_checkpoint(folder, dtype="float32", device=torch.device("cpu"), kernels=Kernels.reference())
    needed = gpu_bytes_for_steps(model.spec, torch.float32, max_rows=10**6, max_batch_tokens=10**6)
    free = needed + left_over
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2 * free))
    config = EngineConfig(model="m", max_rows=10**6, max_batch_tokens=10**6)
    limits = build._limits(config, model, torch.device("cuda"))
    block_bytes = model.spec.num_layers * limits.block_size * 2 * model.spec.key_size * 4
    assert limits.num_blocks == min(
        int(free * GPU_SHARE) // block_bytes, left_over // block_bytes, 10**6 * 256 // limits.block_size
    )


def test_steps_take_more_with_more_rows_tokens_and_features(folder: Path) -> None:
    """One gibibyte at least; each row of scores and each token's activations on top."""
    spec = load_checkpoint(folder, dtype="float32", device=torch.device("cpu"), kernels=Kernels.reference()).spec
    least = gpu_bytes_for_steps(spec, torch.bfloat16, max_rows=0, max_batch_tokens=0)
    assert least == 2**30
    assert gpu_bytes_for_steps(spec, torch.bfloat16, max_rows=1, max_batch_tokens=0) - least == 272 * 4 * 8
    in_half = gpu_bytes_for_steps(spec, torch.bfloat16, max_rows=0, max_batch_tokens=1) - least
    assert in_half > 2 * 3 * spec.mlp_size
    assert gpu_bytes_for_steps(spec, torch.float32, max_rows=0, max_batch_tokens=1) - least == 2 * in_half
