"""The copying of blocks in torch."""

import torch
from torch import Tensor


def copy_blocks(storage: Tensor, sources: Tensor, destinations: Tensor) -> None:
    """See `CopyBlocks`."""
    if storage.itemsize == 1:
        storage = storage.view(torch.int8)  # torch does not index float8
    storage.index_copy_(1, destinations, storage.index_select(1, sources))
