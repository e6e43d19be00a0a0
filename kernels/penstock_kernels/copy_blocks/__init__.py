"""Copies whole cache blocks, in every layer at once: what copy-on-write needs when a sequence forks."""

from typing import Protocol

from torch import Tensor


class CopyBlocks(Protocol):
    """Copies block sources[i] to block destinations[i], in all layers; all other blocks keep their bits.

    Every source is read before any destination is written, so that a block may be both.

    Args:
        storage: [num_layers, num_blocks, ...], contiguous.
        sources: [pairs] int64.
        destinations: [pairs] int64, none twice.
    """

    def __call__(self, storage: Tensor, sources: Tensor, destinations: Tensor) -> None: ...
