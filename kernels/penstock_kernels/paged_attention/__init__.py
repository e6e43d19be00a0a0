"""Attention of this step's tokens over the paged cache.

Every sequence of the step has query_len >= 1 new tokens, whose keys and values are already in the cache, and
context_len >= query_len keys in all, the new ones being the last:

    position     0 ........................ context_len - query_len ............ context_len - 1
    keys         [ written in earlier steps | written in this step by write_kv                  ]
    queries                                 [ one per new token                                 ]

The query at position p sees the keys at positions max(0, p - window + 1) to p. Query head h reads key head
h // (num_heads / num_kv_heads) (grouped queries, Ainslie et al. 2023).

    out = softmax(scale * q K^T) V
"""

from typing import Protocol

from torch import Tensor

from penstock_kernels.paged_attention.batch import AttentionBatch


class PagedAttention(Protocol):
    """Attends.

    Args:
        q: [tokens, num_heads, head_size], the sequences one after another in the order of the batch; dtype of the
            cache; the last axis contiguous, the others free.
        cache: [num_slots, 2, num_kv_heads, head_size], contiguous (see `WriteKv`).
        batch: where each sequence's keys lie, planned once for all layers of the step.
        scale: factor of the scores.
        window: how many keys a query sees, itself included, or None for all. One of the windows of the batch.

    Returns:
        A contiguous tensor [tokens, num_heads, head_size] that aliases no argument.

    A sequence's result depends on no other sequence's values: not even a NaN in a neighbour's cache, or in a block's
    unused slots, reaches it. It may depend on the others' lengths by rounding only.
    """

    def __call__(self, q: Tensor, cache: Tensor, batch: AttentionBatch, scale: float, window: int | None) -> Tensor: ...
