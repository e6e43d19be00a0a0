"""`KVCache`: the keys and values of all layers in blocks. It knows nothing of who owns a block."""

from collections.abc import Sequence

import torch
from torch import Tensor

from penstock_kernels import Kernels
from penstock_models.spec import ModelSpec


class KVCache:
    """Storage [num_layers, num_blocks, block_size, 2, num_kv_heads, head_size], with any content at first.

    `layers` are views of it, [num_blocks * block_size, 2, num_kv_heads, head_size], as the kernels want them.
    """

    def __init__(
        self,
        spec: ModelSpec,
        num_blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
        kernels: Kernels | None = None,
    ) -> None:
        """Allocate. Nothing is written, so that the system gives memory only as blocks are first used."""
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._kernels = kernels or Kernels.reference()
        shape = (spec.num_layers, num_blocks, block_size, 2, spec.num_kv_heads, spec.head_size)
        self.storage = torch.empty(shape, dtype=dtype, device=device)
        self.layers: tuple[Tensor, ...] = self.storage.flatten(1, 2).unbind(0)

    @staticmethod
    def bytes_per_block(spec: ModelSpec, block_size: int, dtype: torch.dtype) -> int:
        """Memory of one block over all layers."""
        return spec.num_layers * block_size * 2 * spec.key_size * dtype.itemsize

    @torch.inference_mode()
    def copy_blocks(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Copy each (source, destination) in all layers; every source is read before any destination is written."""
        if pairs:
            sources, destinations = torch.tensor(pairs, dtype=torch.int64, device=self.storage.device).unbind(1)
            self._kernels.copy_blocks(self.storage, sources, destinations)
