"""Whatever the launchers choose for models as people serve them was foreseen, and so has been compiled.

Kernels are noted and not run here, so that real sizes cost nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from kernel_launches import Launch, foreseen, noted_launches
from kernel_tables import DEVICE, table
from model_shapes import LLAMA_1B, LLAMA_8B, QWEN3_06B
from torch import Tensor

from penstock_models.batch import pack_batch
from penstock_models.decoder import Decoder
from penstock_models.kv_cache import KVCache
from penstock_models.parameters import Parameter
from penstock_models.spec import LearnedPositions, ModelSpec, RotaryPositions
from penstock_models.weights import build_weights

BLOCK_SIZE = 16


def one_layer(spec: ModelSpec, **changes: Any) -> ModelSpec:
    """A layer is like the next, and a small vocabulary is chosen for like a large one."""
    short = replace(spec, num_layers=1, vocab_size=1024, windows=spec.windows[:1], attention_scales=(0.1,))
    return replace(short, **changes)


GPT2 = one_layer(
    LLAMA_1B,
    hidden_size=768,
    num_heads=12,
    num_kv_heads=12,
    head_size=64,
    mlp_size=3072,
    positions=LearnedPositions(),
    norm="layer",
    activation="gelu_tanh",
    gated_mlp=False,
    qkv_bias=True,
    attention_out_bias=True,
    mlp_bias=True,
)
SPECS = {
    "Llama-3.2-1B": one_layer(LLAMA_1B),
    "Qwen3-0.6B": one_layer(QWEN3_06B),
    "Llama-3.1-8B": one_layer(LLAMA_8B, mlp_size=1024),  # its other products have every shape that matters
    "GPT-2": GPT2,
    "Qwen2-0.5B": one_layer(
        LLAMA_1B, hidden_size=896, num_heads=14, num_kv_heads=2, mlp_size=4864, qkv_bias=True, windows=(1024,)
    ),
    "heads of 80": one_layer(LLAMA_1B, hidden_size=640, num_heads=8, head_size=80, positions=RotaryPositions(1e4, 80)),
    "heads of 96": one_layer(LLAMA_1B, hidden_size=768, num_heads=8, head_size=96, positions=RotaryPositions(1e4, 96)),
    "heads of 256": one_layer(
        LLAMA_1B, hidden_size=2304, num_heads=8, num_kv_heads=4, head_size=256, positions=RotaryPositions(1e4, 256)
    ),
}
# New tokens and keys of each sequence: one row, few, many, a long prompt, all together.
STEPS: tuple[tuple[Sequence[int], Sequence[int]], ...] = (
    ((1,), (700,)),
    ((1,) * 8, (300,) * 8),
    ((1,) * 33, (90,) * 33),
    ((96,), (96,)),
    ((1, 40, 1, 5), (70, 1100, 3, 5)),
)


def run_steps(spec: ModelSpec, dtype: torch.dtype, name: str, kv_dtype: torch.dtype) -> list[Launch]:
    with noted_launches() as launches:
        weights = build_weights(spec, _fill, dtype=dtype, device=DEVICE, kernels=table(name))
        decoder = Decoder(spec, weights, table(name))
        cache = KVCache(spec, 4096, BLOCK_SIZE, kv_dtype, DEVICE, table(name))
        cache.copy_blocks([(1, 2), (2, 3)])
        for query_lens, context_lens in STEPS:
            tokens = torch.zeros(sum(query_lens), dtype=torch.int64).numpy()
            tables = [range(100 * row, 100 * row + 70) for row in range(len(query_lens))]
            last = [sum(query_lens[: row + 1]) - 1 for row in range(len(query_lens))]
            batch = pack_batch(
                tokens, query_lens, context_lens, tables, last, spec, BLOCK_SIZE, DEVICE, decoder.kernels
            )
            decoder.forward(batch, cache)
    return launches


def _fill(_: Parameter, out: Tensor) -> None:
    out.zero_()


def assert_foreseen(launches: list[Launch]) -> None:
    assert launches
    known = foreseen()
    unforeseen = {str(launch) for launch in launches if not any(map(launch.is_foreseen_by, known))}
    assert not unforeseen, "\n".join(sorted(unforeseen))


@pytest.mark.parametrize("kernels", ["fused", "fused_invariant"])
@pytest.mark.parametrize("name", SPECS)
def test_models(name: str, kernels: str) -> None:
    assert_foreseen(run_steps(SPECS[name], torch.bfloat16, kernels, torch.bfloat16))


@pytest.mark.parametrize("kv_dtype", [torch.int8, torch.float8_e4m3fn], ids=str)
def test_quantised_caches(kv_dtype: torch.dtype) -> None:
    assert_foreseen(run_steps(SPECS["Llama-3.2-1B"], torch.bfloat16, "fused", kv_dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_other_types(dtype: torch.dtype) -> None:
    """But for the linear layers: those are compiled for these types in two layers alone (`linear_variants`)."""
    launches = run_steps(SPECS["Qwen3-0.6B"], dtype, "fused_invariant", dtype)
    assert_foreseen([launch for launch in launches if launch.op != "linear"])
