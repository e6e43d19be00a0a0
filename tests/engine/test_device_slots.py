"""Rows of the device's tables: each sequence has its own, and there are always enough for those that decode."""

import random

import pytest

from penstock_engine.device_slots import DeviceSlots


def test_a_slot_keeps_its_row_and_row_0_is_nobodys() -> None:
    slots = DeviceSlots(3)
    first, new = slots.rows([40, 41])
    assert sorted(first) == [1, 2] and new == first
    assert slots.rows([41, 40]) == (first[::-1], [])
    assert slots.release(40) == first[0]
    assert slots.release(40) is None
    assert slots.release(99) is None


@pytest.mark.parametrize("seed", range(5))
def test_rows_are_taken_from_those_that_do_not_decode(seed: int) -> None:
    """Many more slots than rows: whoever decodes has a row of its own, and every row that changes hands is told."""
    rng = random.Random(seed)
    slots, owner = DeviceSlots(6), dict[int, int]()
    for _ in range(200):
        asked = rng.sample(range(30), rng.randrange(1, 7))
        rows, new = slots.rows(asked)
        assert len(set(rows)) == len(asked) and set(rows) <= set(range(1, 7))
        for slot, row in zip(asked, rows, strict=True):
            assert row in new or owner.get(row) == slot
            owner[row] = slot
        gone = rng.choice(asked)
        freed = slots.release(gone)
        assert freed is not None and owner.pop(freed) == gone
