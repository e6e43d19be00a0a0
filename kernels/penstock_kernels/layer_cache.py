"""`LayerCache`: the paged keys and values of one layer."""

from dataclasses import dataclass

import torch
from torch import Tensor

# The largest magnitude of each type that a cache may be quantised to.
QUANTISED_PEAKS = {torch.int8: 127.0, torch.float8_e4m3fn: 448.0}


@dataclass(frozen=True, slots=True)
class LayerCache:
    """Slot, key or value, head, feature. Block b is the slots from b * block_size on.

    Key and value of a token are neighbours, as they are in the fused projection's output, so that writing a token is
    one copy of 2 * num_kv_heads * head_size contiguous elements, and so is reading it.

    values: [num_slots, 2, num_kv_heads, head_size], contiguous: the model's dtype, or one of `QUANTISED_PEAKS`.
    scales: [num_slots, 2, num_kv_heads] float32, contiguous, with quantised values: what they are to be multiplied by.
        Each key and each value of a head has its own, its largest magnitude over the type's largest, so that nothing
        has to be calibrated and a token's bits depend on that token alone. None with plain values.
    """

    values: Tensor
    scales: Tensor | None = None
