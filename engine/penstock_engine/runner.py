"""`Runner`: what the engine needs of a model: the logits of a batch. Torch is only named here, never imported."""

from typing import TYPE_CHECKING, Protocol

from penstock_engine.batch import Batch

if TYPE_CHECKING:
    from torch import Tensor


class Runner(Protocol):
    """Computes batches, and keeps the KV cache that block ids point into."""

    def forward(self, batch: Batch) -> "Tensor":
        """Copy the batch's blocks, compute its tokens, write their keys and values.

        Returns logits [entries that want them, vocab] float32, in the batch's order; the caller may change them.
        """
        ...
