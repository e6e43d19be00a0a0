"""Scatters this step's keys and values into the paged cache.

The cache of one layer is [num_slots, 2, num_kv_heads, head_size]: slot, key or value, head, feature. Block b is the
slots from b * block_size on. Key and value of a token are neighbours, as they are in the fused projection's output, so
that writing a token is one copy of 2 * num_kv_heads * head_size contiguous elements, and so is reading it.
"""

from typing import Protocol

from torch import Tensor


class WriteKv(Protocol):
    """Writes `kv` to the slots of `slot_mapping`; all other slots keep their bits.

    Args:
        kv: [tokens, 2, num_kv_heads, head_size], dtype of the cache; each token's part contiguous.
        cache: [num_slots, 2, num_kv_heads, head_size], contiguous. Must not alias `kv`.
        slot_mapping: [tokens] int64, no slot twice.
    """

    def __call__(self, kv: Tensor, cache: Tensor, slot_mapping: Tensor) -> None: ...
