"""The inputs of a decoding step against a loop in Python."""

import pytest
import torch
from kernel_tables import DEVICE, table, tables_of

from penstock_kernels.step_inputs import LAST_TOKEN, SlotTable, StepInputs
from penstock_kernels.step_inputs.cases import CASES, Case

TABLES = tables_of("prepare_step")


def empty_inputs(num_rows: int) -> StepInputs:
    """Full of what no step has."""

    def wide() -> torch.Tensor:
        return torch.full((num_rows,), -7, dtype=torch.int64, device=DEVICE)

    return StepInputs(wide(), wide(), wide(), wide().int(), wide().int())


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_step(name: str, case: Case) -> None:
    generator = torch.Generator().manual_seed(1)

    def draw(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(high, shape, generator=generator)

    num_slots = case.num_rows + 2
    last_token = draw(1000, num_slots)
    tables = draw(500, num_slots, case.max_blocks).int()
    num_real = case.num_rows - case.num_padding

    # Rows of all slots but 0 in any order, with padding last and first.
    rows = torch.zeros(case.num_rows, 3, dtype=torch.int32)
    first = case.num_padding // 2
    real = rows[first : first + num_real]
    real[:, 0] = torch.randperm(num_slots - 1, generator=generator)[:num_real].int() + 1
    real[:, 1] = draw(case.block_size * case.max_blocks, num_real).int()
    real[:, 2] = torch.where(draw(2, num_real) == 0, LAST_TOKEN, draw(1000, num_real)).int()
    # What each real row needs is new, in a column of its own; the other changes are padding.
    changes = torch.zeros(case.num_changes, 3, dtype=torch.int32)
    num_new = min(num_real, case.num_changes)
    changes[:num_new, 0] = real[:num_new, 0]
    changes[:num_new, 1] = real[:num_new, 1] // case.block_size
    changes[:num_new, 2] = draw(500, num_new).int()

    expected_tables = tables.clone()
    for slot, column, block in changes.tolist():
        if slot != 0:
            expected_tables[slot, column] = block
    expected = []
    for i, (slot, position, token) in enumerate(rows.tolist()):
        block = int(expected_tables[slot, position // case.block_size])
        if slot == 0:
            expected.append((0, 0, block * case.block_size + i % case.block_size, 0, 0))
        else:
            token = int(last_token[slot]) if token == LAST_TOKEN else token
            place = block * case.block_size + position % case.block_size
            expected.append((token, position, place, position + 1, slot))

    slots = SlotTable(last_token.to(DEVICE), tables.to(DEVICE))
    inputs = empty_inputs(case.num_rows)
    table(name).prepare_step(rows.to(DEVICE), changes.to(DEVICE), slots, inputs, case.block_size)
    made = (inputs.token_ids, inputs.positions, inputs.slot_mapping, inputs.context_lens, inputs.slots)
    assert list(zip(*(part.tolist() for part in made), strict=True)) == expected
    assert torch.equal(slots.block_tables.cpu(), expected_tables)
    assert torch.equal(slots.last_token.cpu(), last_token)


@pytest.mark.parametrize("name", TABLES)
def test_a_row_that_drew_nothing_has_a_token_that_exists(name: str) -> None:
    """A row whose scores were all NaN leaves a negative token, and as an index of the embedding that is a crash."""
    slots = SlotTable(torch.tensor([0, -1, -2], device=DEVICE), torch.zeros(3, 2, dtype=torch.int32, device=DEVICE))
    rows = torch.tensor([[1, 3, LAST_TOKEN], [2, 4, LAST_TOKEN]], dtype=torch.int32, device=DEVICE)
    inputs = empty_inputs(2)
    table(name).prepare_step(rows, rows[:0], slots, inputs, 16)
    assert inputs.token_ids.tolist() == [0, 0]


@pytest.mark.parametrize("name", TABLES)
def test_tensors_anywhere_in_a_packed_buffer(name: str) -> None:
    """Rows and changes come in one copy, one behind the other, at no particular alignment."""
    packed = torch.tensor([9, 1, 17, 5, 0, 0, 0, 1, 1, 40, 0, 0, 0], dtype=torch.int32, device=DEVICE)
    slots = SlotTable(
        torch.zeros(2, dtype=torch.int64, device=DEVICE),
        torch.tensor([[3, 0], [8, 0]], dtype=torch.int32, device=DEVICE),
    )
    inputs = empty_inputs(2)
    table(name).prepare_step(packed[1:7].view(2, 3), packed[7:].view(2, 3), slots, inputs, 16)
    assert inputs.slot_mapping.tolist() == [40 * 16 + 1, 3 * 16 + 1]
    assert slots.block_tables.tolist() == [[3, 0], [8, 40]]
