"""The inputs of a decoding step, from what stays on the device and the little that changed.

Between two steps of the same rows a sequence gets one token, which the device has drawn itself, and now and then a
block. So the host sends a row of numbers for each row of the batch and the new entries of block tables, in one copy.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

LAST_TOKEN = -1
"""Instead of a token: the one that was drawn last for the slot."""


@dataclass(frozen=True, slots=True)
class SlotTable:
    """What is kept of each sequence, by slot.

    last_token: [num_slots] int64, what was drawn last. block_tables: [num_slots, max_blocks] int32. Both contiguous.
    """

    last_token: Tensor
    block_tables: Tensor


@dataclass(frozen=True, slots=True)
class StepInputs:
    """What a decoding step reads: one token a row. All [rows], contiguous; int64, but the last two int32.

    context_lens: keys of each row, its new token included. slots: whose block table, as a row of `SlotTable`.
    """

    token_ids: Tensor
    positions: Tensor
    slot_mapping: Tensor
    context_lens: Tensor
    slots: Tensor


class PrepareStep(Protocol):
    """Fills `inputs` and brings the block tables up to date, in place.

    Args:
        rows: [rows, 3] int32, contiguous: slot, position, token or `LAST_TOKEN`. A row of slot 0 is padding: slot 0
            belongs to no sequence, and its table points to a block that belongs to none.
        new_blocks: [changes, 3] int32, contiguous: slot, column, block; no entry twice. Rows of slot 0 are padding.
        table, inputs: rows of `inputs` as many as of `rows`.
        block_size: tokens of a block, a power of two.

    A row of padding gets token 0, position 0, no keys, slot 0, and a place in the first block of slot 0, which other
    padding may share. A negative last token, which a row leaves that could draw none, counts as token 0.
    """

    def __call__(
        self, rows: Tensor, new_blocks: Tensor, table: SlotTable, inputs: StepInputs, block_size: int
    ) -> None: ...
