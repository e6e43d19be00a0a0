"""Copying blocks of the KV cache in all layers, as forks with a shared last block do: half of what is moved is read."""

from collections.abc import Iterator, Mapping

import torch
from kernels.contest import Contest, Scale, Step, Tables, sides_of
from kernels.inputs import model_dtype, normal
from model_shapes import LLAMA_8B, TINY
from torch import Tensor

from penstock_kernels import Kernels
from penstock_models.spec import ModelSpec

BLOCK_SIZE = 16
# How many blocks are copied.
SIZES: Mapping[Scale, tuple[tuple[ModelSpec, int], ...]] = {
    "full": ((LLAMA_8B, 1), (LLAMA_8B, 8), (LLAMA_8B, 128)),
    "quick": ((LLAMA_8B, 8),),
    "tiny": ((TINY, 3),),
}


def contests(tables: Tables, scale: Scale, device: torch.device) -> Iterator[Contest]:
    for spec, num_pairs in SIZES[scale]:
        yield _contest(tables, spec, num_pairs, device)


def _contest(tables: Tables, spec: ModelSpec, num_pairs: int, device: torch.device) -> Contest:
    dtype = model_dtype(device)
    shape = (spec.num_layers, 2 * num_pairs, BLOCK_SIZE, 2, spec.num_kv_heads, spec.head_size)
    sources = torch.arange(0, 2 * num_pairs, 2, device=device)
    destinations = sources + 1

    def ours(kernels: Kernels) -> Step:
        storage = normal(*shape, dtype=dtype, device=device)

        def step() -> Tensor:
            kernels.copy_blocks(storage, sources, destinations)
            return storage

        return step

    def theirs() -> Step:
        storage = normal(*shape, dtype=dtype, device=device)
        return lambda: storage.index_copy_(1, destinations, storage.index_select(1, sources))

    block_bytes = 2 * BLOCK_SIZE * spec.key_size * dtype.itemsize
    return Contest(
        op="copy_blocks",
        size=f"{num_pairs} blocks of {BLOCK_SIZE} tokens, {spec.num_layers} layers x {block_bytes // 1024} KiB",
        num_bytes=2 * num_pairs * spec.num_layers * block_bytes,
        sides=sides_of(tables, ours, "copy_blocks") | {"index_copy": theirs},
        dtype=dtype,
    )
