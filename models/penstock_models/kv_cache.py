"""`KVCache`: the keys and values of all layers in blocks. It knows nothing of who owns a block."""

from collections.abc import Sequence

import torch
from torch import Tensor

from penstock_kernels import Kernels
from penstock_kernels.layer_cache import QUANTISED_PEAKS, LayerCache
from penstock_models.spec import ModelSpec


class KVCache:
    """Storage [num_layers, num_blocks, block_size, 2, num_kv_heads, head_size], with any content at first.

    `scales` have the same shape without the last axis where the values are quantised, else there are none. `layers` are
    views, as the kernels want them.
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
        """Allocate. Nothing is written, so that the system gives memory only as blocks are first used.

        `dtype`: the model's, or one of `QUANTISED_PEAKS`.
        """
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._kernels = kernels or Kernels.reference()
        shape = (spec.num_layers, num_blocks, block_size, 2, spec.num_kv_heads)
        self.storage = torch.empty((*shape, spec.head_size), dtype=dtype, device=device)
        self.scales: Tensor | None = None
        values = self.storage.flatten(1, 2).unbind(0)
        if dtype in QUANTISED_PEAKS:
            self.scales = torch.empty(shape, dtype=torch.float32, device=device)
            scales = self.scales.flatten(1, 2).unbind(0)
            self.layers = tuple(map(LayerCache, values, scales))
        else:
            self.layers = tuple(map(LayerCache, values))

    @staticmethod
    def bytes_per_block(spec: ModelSpec, block_size: int, dtype: torch.dtype) -> int:
        """Memory of one block over all layers."""
        num_heads = spec.num_layers * block_size * 2 * spec.num_kv_heads
        per_head = spec.head_size * dtype.itemsize
        if dtype in QUANTISED_PEAKS:
            per_head += torch.float32.itemsize
        return num_heads * per_head

    @torch.inference_mode()
    def copy_blocks(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Copy each (source, destination) in all layers; every source is read before any destination is written."""
        if pairs:
            sources, destinations = torch.tensor(pairs, dtype=torch.int64, device=self.storage.device).unbind(1)
            self._kernels.copy_blocks(self.storage, sources, destinations)
            if self.scales is not None:
                self._kernels.copy_blocks(self.scales, sources, destinations)
