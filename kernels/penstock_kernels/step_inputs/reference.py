"""The inputs of a decoding step, in torch. Nothing here depends on a value on the host: a CUDA graph can capture it."""

import torch
from torch import Tensor

from penstock_kernels.step_inputs import LAST_TOKEN, SlotTable, StepInputs


def prepare_step(rows: Tensor, new_blocks: Tensor, table: SlotTable, inputs: StepInputs, block_size: int) -> None:
    """See `PrepareStep`."""
    slot, column, block = new_blocks.long().unbind(1)
    # Padding writes to slot 0 what is there already.
    column = column.where(slot != 0, 0)
    block = block.where(slot != 0, table.block_tables[0, 0].long())
    table.block_tables.index_put_((slot, column), block.to(torch.int32))

    slot, position, token = rows.long().unbind(1)
    is_padding = slot == 0
    position = position.where(~is_padding, 0)
    drawn = table.last_token[slot].clamp(min=0)
    token = token.where(token != LAST_TOKEN, drawn).where(~is_padding, 0)
    offset = torch.where(is_padding, torch.arange(len(rows), device=rows.device), position) % block_size
    inputs.token_ids.copy_(token)
    inputs.positions.copy_(position)
    inputs.slot_mapping.copy_(table.block_tables[slot, position // block_size].long() * block_size + offset)
    inputs.context_lens.copy_((position + 1).where(~is_padding, 0))
    inputs.slots.copy_(slot)
