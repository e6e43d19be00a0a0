"""Attention of this step's tokens over the paged cache.

Every sequence of the step has query_len >= 1 new tokens, whose keys and values are already in the cache, and
context_len >= query_len keys in all, the new ones being the last:

    position     0 ........................ context_len - query_len ............ context_len - 1
    keys         [ written in earlier steps | written in this step by qkv_prepare               ]
    queries                                 [ one per new token                                 ]

The query at position p sees the keys at positions max(0, p - window + 1) to p. Query head h reads key head
h // (num_heads / num_kv_heads) (grouped queries, Ainslie et al. 2023).

    s   = scale * q K^T
    s  <- soft_cap * tanh(s / soft_cap)                                  (only with a soft cap; Gemma 2)
    s  <- s + slope[h] * (key position - query position)                 (only with slopes; ALiBi, Press et al. 2022)
    out = softmax(s) V

Attention is planned once a step and applied in every layer, as a weight is packed once and applied many times.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from penstock_kernels.layer_cache import LayerCache
from penstock_kernels.paged_attention.batch import AttentionBatch, IntArray


@dataclass(frozen=True, slots=True)
class AttentionRule:
    """How one layer attends.

    scale: factor of the scores. window: how many keys a query sees, itself included, or None for all.
    soft_cap: bound of the scores, or None. alibi: [num_heads] float32 slopes, or None.
    """

    scale: float
    window: int | None = None
    soft_cap: float | None = None
    alibi: Tensor | None = None


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """What all layers have in common. windows: the distinct ones among the layers."""

    num_heads: int
    num_kv_heads: int
    head_size: int
    windows: Collection[int | None]


class AttentionPlan:
    """How one step attends. Only the table of kernels that planned it can apply it."""


class PlanAttention(Protocol):
    """Plans a step for all layers, and puts on the device what they will read."""

    def __call__(self, batch: AttentionBatch, shape: AttentionShape, device: torch.device) -> AttentionPlan: ...


@dataclass(frozen=True, slots=True)
class DecodingRows:
    """Steps in which every row has one new token, as tensors that stay where they are while what they hold changes.

    context_lens: [rows] int32, the keys of each row, its new token included. 0 makes a row padding: nothing is read for
        it, and what comes out for it means nothing.
    table_rows: [rows] int32, which row of `block_tables` is this row's.
    block_tables: [any, columns] int32, block ids; entries past a context mean nothing.
    """

    context_lens: Tensor
    table_rows: Tensor
    block_tables: Tensor
    block_size: int


class DecodingPlan(AttentionPlan, ABC):
    """A plan that is made once and brought up to date before each step, for CUDA graphs."""

    @abstractmethod
    def refresh(self) -> None:
        """Plan anew from what the tensors of the rows hold now.

        In the fused tables this only launches kernels, of a grid that depends on no length: it can be captured, before
        the first layer, in the graph that attends by this plan. The reference reads the lengths on the host.
        """

    @abstractmethod
    def first(self, num_rows: int) -> "DecodingPlan":
        """The plan of the first rows alone, for a graph of a smaller batch. It shares the workspace of this plan: only
        one of them may be between its `refresh` and its last layer."""

    @abstractmethod
    def can_hold(self, context_lens: IntArray) -> bool:
        """Whether the workspace is large enough for these lengths (on the host, [rows]). If not, plan with
        `plan_attention`: a step that does not fit corrupts no memory, but its results mean nothing."""


class PlanDecoding(Protocol):
    """Makes a plan over these rows for contexts of at most `max_context` keys. It is to be refreshed before use."""

    def __call__(self, rows: DecodingRows, shape: AttentionShape, max_context: int) -> DecodingPlan: ...


class PagedAttention(Protocol):
    """Attends.

    Args:
        q: [tokens, num_heads, head_size], the sequences one after another in the order of the batch; the last axis
            contiguous, the others free.
        cache: of this layer. Its values have the dtype of q, or are quantised.
        plan: of this step.
        rule: of this layer; its window is one of the windows that were planned for.

    Returns:
        A contiguous tensor [tokens, num_heads, head_size] of the dtype of q that aliases no argument.

    A sequence's result depends on no other sequence's values: not even a NaN in a neighbour's cache, or in a block's
    unused slots, reaches it. It may depend on the others' lengths by rounding only.
    """

    def __call__(self, q: Tensor, cache: LayerCache, plan: AttentionPlan, rule: AttentionRule) -> Tensor: ...
