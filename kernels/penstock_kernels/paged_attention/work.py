"""How the fused table attends: `WorkPlan`, lists of work for programs that walk them, as tensors on the device.

    query tile   the queries of one sequence, or of neighbouring sequences, that read the same keys together
    split        the keys of one sequence at positions split * SPLIT to (split + 1) * SPLIT - 1
    item         (query tile, split), or (query tile, all its splits); done once for each key head

Splits begin at absolute positions, so that the sums of a query are formed in the same order wherever its chunk begins,
whatever else is in the batch, and whether one program walks its splits or many share them.

Decoding rows share work in another way too: beams, samples of one prompt and requests with one system prompt have
their first blocks in common. Where a row has the same blocks as the row before it through the whole of a split, it
joins that row's item, and the keys are read once for both. `shared` holds how many splits of a row are so. Here item
(row 3, split 1) is for rows 3, 4 and 5, and row 5 begins its own items at split 2:

    row       3 4 5 6
    shared    0 2 2 1       row 6 has its own item for split 1
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from penstock_kernels.paged_attention import AttentionPlan, AttentionShape
from penstock_kernels.paged_attention.batch import IntArray

# Keys of a split. A program should read long enough to forget its start, about 1 us without data on its way: 512 keys
# of a head are 128 KiB and more at head size 64, 2.5 us of an H100's share of bandwidth per SM. The results of a split
# cost 1.6 % of the traffic for its keys at 4 query heads per key head. More keys would leave SMs idle at small batches.
SPLIT = 512

# A window that no context reaches, for layers without one. Positions minus this stay within 32 bits.
NO_WINDOW = 1 << 30


@dataclass(frozen=True, slots=True)
class Sequences:
    """n sequences of a step, all int32 on the device.

    starts: [n] the first new token of each, as a row of q. query_lens: [n]. context_lens: [n], 0 for padding.
    table_rows: [n] rows of block_tables [any, columns].
    shared: [n] how many leading splits are in the same blocks as those of the sequence before; 0 where the two may not
        share a tile.
    """

    starts: Tensor
    query_lens: Tensor
    context_lens: Tensor
    table_rows: Tensor
    block_tables: Tensor
    block_size: int
    shared: Tensor


@dataclass(frozen=True, slots=True)
class WorkList:
    """What there is to do for some sequences in every layer of one window.

    items: [capacity, 4] int32: first sequence, number of sequences, first query of the sequence, split. With more than
        one sequence each has one query.
    count: [2] int32, how many of the items are real, and how many query heads stand in a tile.
    slots: [n, 2] int32, first and step of each sequence in the workspace: slot first + query * step + split is for this
        query (0: the first new token) and split (0: the one of position 0, whether or not it is seen).
    """

    items: Tensor
    count: Tensor
    slots: Tensor


@dataclass(frozen=True, slots=True)
class Workspace:
    """What the programs that share a query hand to the one that arrives last.

    A slot is a (token, split). sums: [slots, num_heads, head_size] float32, values weighted by 2^(score - peak).
    weights: [slots, num_heads, 2] float32, the peak and the sum of the weights.
    arrivals: [tokens, num_heads] int32, how many splits are done; 0 between layers.
    """

    sums: Tensor
    weights: Tensor
    arrivals: Tensor


@dataclass(frozen=True, slots=True)
class Walk:
    """Sequences, the work lists of each window, and how many programs walk one.

    whole: whether an item is a tile with all its splits; then nothing is handed over.
    """

    sequences: Sequences
    lists: Mapping[int | None, WorkList]
    num_programs: int
    whole: bool


@dataclass(frozen=True, slots=True)
class WorkPlan(AttentionPlan):
    """The walks of a layer, one for sequences with few new tokens, one for those with many; either may be missing."""

    shape: AttentionShape
    walks: tuple[Walk, ...]
    workspace: Workspace


def num_splits(query_lens: IntArray, context_lens: IntArray, window: int | None) -> IntArray:
    """Splits with keys that the new tokens of each sequence see."""
    first = np.maximum(context_lens - query_lens + 1 - (window or NO_WINDOW), 0) // SPLIT
    splits: IntArray = np.maximum(-(-context_lens // SPLIT), 1) - first
    return splits


def num_slots(query_lens: IntArray, context_lens: IntArray, window: int | None) -> IntArray:
    """Slots of the workspace that each sequence needs: none if it has but one split."""
    splits = num_splits(query_lens, context_lens, window)
    slots: IntArray = np.where(splits > 1, query_lens * splits, 0)
    return slots
