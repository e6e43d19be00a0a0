"""`ForwardBatch`: one step's tokens as tensors, and `pack_batch`, which makes it from the scheduler's numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from penstock_kernels import AttentionBatch, Kernels
from penstock_kernels.paged_attention import AttentionPlan, AttentionShape
from penstock_models.spec import ModelSpec

# Numbers of 8 bytes to the next address that is good for any load of a kernel: 128 bytes, a line of a GPU's cache.
ALIGNED = 16


@dataclass(frozen=True, slots=True)
class ForwardBatch:
    """The tokens of a step, T in all, sequence after sequence.

    token_ids: [T] int64.
    positions: [T] int64.
    slot_mapping: [T] int64, block id * block_size + offset: where each token's key and value go.
    logit_rows: [R] int64, which of the T tokens need logits, in the order wanted; None for all T in order.
    attention: how to attend, as the decoder's kernels planned it.
    """

    token_ids: Tensor
    positions: Tensor
    slot_mapping: Tensor
    logit_rows: Tensor | None
    attention: AttentionPlan


def pack_batch(
    token_ids: NDArray[np.int64],
    query_lens: Sequence[int],
    context_lens: Sequence[int],
    block_tables: Sequence[Sequence[int]],
    logit_rows: Sequence[int],
    spec: ModelSpec,
    block_size: int,
    device: torch.device,
    kernels: Kernels,
) -> ForwardBatch:
    """Make the tensors of a step.

    Args:
        token_ids: [T], the new tokens of each sequence, one sequence after another.
        query_lens: new tokens of each sequence.
        context_lens: keys visible to each sequence's last new token, this step's tokens included.
        block_tables: block ids of each sequence, enough for its context_len; more are allowed.
        logit_rows: indices into the T tokens.

    Raises:
        ValueError: the lengths contradict each other (see `AttentionBatch.build`).
    """
    attention = AttentionBatch.build(
        query_lens,
        context_lens,
        block_tables,
        block_size=block_size,
    )
    positions = attention.positions()
    if len(positions) != len(token_ids):
        raise ValueError(f"{len(token_ids)} tokens, but the query lengths add up to {len(positions)}")
    rows = np.asarray(logit_rows, dtype=np.int64)
    all_rows = len(rows) == len(positions) and bool((rows == np.arange(len(rows))).all())
    sent = _on_device([token_ids, positions, attention.slots(positions), rows], device)
    return ForwardBatch(
        token_ids=sent[0],
        positions=sent[1],
        slot_mapping=sent[2],
        logit_rows=None if all_rows else sent[3],
        attention=kernels.plan_attention(attention, attention_shape(spec), device),
    )


def _on_device(arrays: Sequence[NDArray[np.int64]], device: torch.device) -> list[Tensor]:
    """The arrays as tensors, by one copy that the host does not wait for."""
    ends = np.cumsum([-(-len(array) // ALIGNED) * ALIGNED for array in arrays]).tolist()
    starts = [0, *ends[:-1]]
    packed = torch.empty(ends[-1], dtype=torch.int64, pin_memory=device.type == "cuda")
    for start, array in zip(starts, arrays, strict=True):
        packed.numpy()[start : start + len(array)] = array
    moved = packed.to(device, non_blocking=True)
    return [moved[start : start + len(array)] for start, array in zip(starts, arrays, strict=True)]


def attention_shape(spec: ModelSpec) -> AttentionShape:
    """What the kernels have to know to plan a step."""
    return AttentionShape(spec.num_heads, spec.num_kv_heads, spec.head_size, tuple(dict.fromkeys(spec.windows)))
