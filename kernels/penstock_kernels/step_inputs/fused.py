"""The inputs of a decoding step in Triton: one program, a few microseconds.

A row may read the entry of a block table that another thread has just written. Within one program a barrier orders the
two, and a step has so few rows (some hundreds, 12 bytes each) that a second program would gain nothing.
"""

from collections.abc import Iterator

import triton
import triton.language as tl
from torch import Tensor

from penstock_kernels.configuration import Configuration
from penstock_kernels.step_inputs import LAST_TOKEN, SlotTable, StepInputs

_BLOCK = 256
_NUM_WARPS = 8
"""One row a thread at a time."""

_LAST_TOKEN = tl.constexpr(LAST_TOKEN)


def prepare_step(rows: Tensor, new_blocks: Tensor, table: SlotTable, inputs: StepInputs, block_size: int) -> None:
    """See `PrepareStep`."""
    _prepare_step[(1,)](
        rows,
        new_blocks,
        table.last_token,
        table.block_tables,
        inputs.token_ids,
        inputs.positions,
        inputs.slot_mapping,
        inputs.context_lens,
        inputs.slots,
        len(rows),
        len(new_blocks),
        table.block_tables.stride(0),
        block_size,
        BLOCK=_BLOCK,
        num_warps=_NUM_WARPS,
    )


# Every step is the same kernel, wherever its tensors lie in a packed buffer: nothing to compile while serving.
_POINTERS = {
    "rows": "*i32",
    "new_blocks": "*i32",
    "last_token": "*i64",
    "block_tables": "*i32",
    "token_ids": "*i64",
    "positions": "*i64",
    "slot_mapping": "*i64",
    "context_lens": "*i32",
    "slots": "*i32",
}
_NUMBERS = {"num_rows": "i32", "num_changes": "i32", "table_stride": "i32", "block_size": "i32"}


@triton.jit(do_not_specialize=list(_NUMBERS), do_not_specialize_on_alignment=list(_POINTERS))
def _prepare_step(
    rows,
    new_blocks,
    last_token,
    block_tables,
    token_ids,
    positions,
    slot_mapping,
    context_lens,
    slots,
    num_rows,
    num_changes,
    table_stride,
    block_size,
    BLOCK: tl.constexpr,
):
    for start in range(0, num_changes, BLOCK):
        i = start + tl.arange(0, BLOCK)
        inside = i < num_changes
        slot = tl.load(new_blocks + 3 * i, mask=inside, other=0)
        column = tl.load(new_blocks + 3 * i + 1, mask=inside, other=0)
        block = tl.load(new_blocks + 3 * i + 2, mask=inside, other=0)
        tl.store(block_tables + slot.to(tl.int64) * table_stride + column, block, mask=slot != 0)

    # What any thread of this program has written, all of them read from here on.
    tl.debug_barrier()

    for start in range(0, num_rows, BLOCK):
        i = start + tl.arange(0, BLOCK)
        inside = i < num_rows
        slot = tl.load(rows + 3 * i, mask=inside, other=0)
        is_row = slot != 0
        position = tl.load(rows + 3 * i + 1, mask=is_row, other=0)
        token = tl.load(rows + 3 * i + 2, mask=is_row, other=0).to(tl.int64)
        drawn = tl.load(last_token + slot, mask=token == _LAST_TOKEN, other=0)
        token = tl.where(token == _LAST_TOKEN, tl.maximum(drawn, 0), token)

        place = slot.to(tl.int64) * table_stride + position // block_size
        block = tl.load(block_tables + place, mask=inside, other=0).to(tl.int64)
        offset = tl.where(is_row, position, i) % block_size

        tl.store(token_ids + i, token, mask=inside)
        tl.store(positions + i, position.to(tl.int64), mask=inside)
        tl.store(slot_mapping + i, block * block_size + offset, mask=inside)
        tl.store(context_lens + i, tl.where(is_row, position + 1, 0), mask=inside)
        tl.store(slots + i, slot, mask=inside)


def configurations(capability: int) -> Iterator[Configuration]:
    """The one of `prepare_step`."""
    yield Configuration(
        op="step_inputs",
        name="all",
        kernel=_prepare_step,
        types={**_POINTERS, **_NUMBERS},
        constants={"BLOCK": _BLOCK},
        num_warps=_NUM_WARPS,
        num_stages=3,
    )
