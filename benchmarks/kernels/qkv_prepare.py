"""What lies between projection and attention: reads the projection, writes queries, keys and values."""

from collections.abc import Iterator, Mapping

import torch
from kernels.contest import Contest, Goal, Scale, Step, Tables, sides_of
from kernels.inputs import model_dtype, name_of, normal
from model_shapes import MODELS, TINY
from torch import Tensor

from penstock_kernels import Kernels
from penstock_kernels.layer_cache import LayerCache
from penstock_kernels.qkv_prepare import Angles, HeadNorms
from penstock_models.spec import ModelSpec

NUM_TOKENS: Mapping[Scale, tuple[int, ...]] = {"full": (256, 8192), "quick": (8192,), "tiny": (5,)}


def contests(tables: Tables, scale: Scale, device: torch.device) -> Iterator[Contest]:
    models = {"tiny": TINY} if scale == "tiny" else MODELS
    for num_tokens in NUM_TOKENS[scale]:
        for name, spec in models.items():
            yield _contest(tables, name, spec, num_tokens, device)


def _contest(tables: Tables, model: str, spec: ModelSpec, num_tokens: int, device: torch.device) -> Contest:
    dtype = model_dtype(device)
    num_heads, num_kv_heads, size = spec.num_heads, spec.num_kv_heads, spec.head_size
    angles = torch.arange(num_tokens, device=device)[:, None, None] / torch.logspace(0, 4, size // 2, device=device)
    cos, sin = angles.cos(), angles.sin()
    rotation = Angles(torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1))
    norms = None
    if spec.qk_norm:
        weights = [normal(size, dtype=dtype, device=device, seed=seed) for seed in (1, 2)]
        norms = HeadNorms(weights[0], weights[1], spec.norm_eps)
    # Scattered as blocks are, each token in a slot of its own.
    slots = torch.randperm(num_tokens, generator=torch.Generator().manual_seed(3)).to(device)

    def ours(kernels: Kernels) -> Step:
        qkv = normal(num_tokens, num_heads + 2 * num_kv_heads, size, dtype=dtype, device=device)
        values = torch.zeros(num_tokens, 2, num_kv_heads, size, dtype=dtype, device=device)

        def step() -> tuple[Tensor, Tensor]:
            q = kernels.qkv_prepare(qkv, LayerCache(values), slots, norms=norms, angles=rotation)
            return q, values

        return step

    return Contest(
        op="qkv_prepare",
        size=f"{model}, {num_tokens} tokens {name_of(dtype)}",
        num_bytes=2 * num_tokens * (num_heads + 2 * num_kv_heads) * size * dtype.itemsize + 8 * num_tokens * size,
        sides=sides_of(tables, ours, "qkv_prepare"),
        dtype=dtype,
        goal=Goal("share", 0.85) if num_tokens >= 8192 else None,
    )
