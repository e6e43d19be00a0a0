"""The inputs of a decoding step: a few kilobytes, so that what counts is the launch."""

from collections.abc import Iterator, Mapping

import torch
from kernels.contest import Contest, Scale, Step, Tables, sides_of
from torch import Tensor

from penstock_kernels import Kernels
from penstock_kernels.step_inputs import LAST_TOKEN, SlotTable, StepInputs

BLOCK_SIZE = 16
# (rows, columns of the block tables)
SIZES: Mapping[Scale, tuple[tuple[int, int], ...]] = {
    "full": ((1, 2048), (256, 2048)),
    "quick": ((256, 2048),),
    "tiny": ((5, 8),),
}


def contests(tables: Tables, scale: Scale, device: torch.device) -> Iterator[Contest]:
    for num_rows, num_columns in SIZES[scale]:
        yield _contest(tables, num_rows, num_columns, device)


def _contest(tables: Tables, num_rows: int, num_columns: int, device: torch.device) -> Contest:
    slots = torch.arange(1, num_rows + 1, dtype=torch.int32)
    positions = (slots * 37) % (num_columns * BLOCK_SIZE)
    rows = torch.stack([slots, positions, torch.full_like(slots, LAST_TOKEN)], dim=1).to(device)
    blocks = torch.arange(num_rows * num_columns, dtype=torch.int32).view(num_rows, num_columns)
    # One row in sixteen reaches a new block in a step.
    changed = torch.arange(0, num_rows, BLOCK_SIZE)
    columns = positions[changed] // BLOCK_SIZE
    new_blocks = torch.stack([slots[changed], columns, blocks[changed, columns.long()]], dim=1).to(device)

    def ours(kernels: Kernels) -> Step:
        block_tables = torch.cat([torch.zeros(1, num_columns, dtype=torch.int32), blocks]).to(device)
        table = SlotTable(torch.arange(num_rows + 1, device=device), block_tables)
        longs = [torch.zeros(num_rows, dtype=torch.int64, device=device) for _ in range(3)]
        ints = [torch.zeros(num_rows, dtype=torch.int32, device=device) for _ in range(2)]
        inputs = StepInputs(longs[0], longs[1], longs[2], ints[0], ints[1])

        def step() -> tuple[Tensor, ...]:
            kernels.prepare_step(rows, new_blocks, table, inputs, BLOCK_SIZE)
            return (*longs, *ints, block_tables)

        return step

    return Contest(
        op="step_inputs",
        size=f"{num_rows} rows",
        num_bytes=num_rows * (12 + 8 + 4 + 3 * 8 + 2 * 4) + 2 * 12 * len(changed),
        sides=sides_of(tables, ours, "prepare_step"),
        dtype=torch.float32,
    )
