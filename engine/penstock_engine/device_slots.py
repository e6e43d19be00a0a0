"""`DeviceSlots`: which row of the device's tables is whose.

Tables hold by row what is long: a sequence's block table, how often it has used each token. A sequence that waits has a
slot too, so there may be many more slots than sequences that run; only those that decode need a row of the tables.
"""

from collections.abc import Sequence


class DeviceSlots:
    """Gives slots rows 1 to num_rows, and takes them from others when there are not enough. Row 0 is nobody's."""

    def __init__(self, num_rows: int) -> None:
        self._free = list(range(num_rows, 0, -1))
        self._row_of: dict[int, int] = {}

    def rows(self, slots: Sequence[int]) -> tuple[list[int], list[int]]:
        """The row of each slot, all of them different and at most `num_rows`; and the rows that have changed hands."""
        new = [slot for slot in slots if slot not in self._row_of]
        if len(new) > len(self._free):
            wanted = set(slots)
            others = [slot for slot in self._row_of if slot not in wanted]
            for slot in others[: len(new) - len(self._free)]:
                self._free.append(self._row_of.pop(slot))
        taken = [self._free.pop() for _ in new]
        self._row_of.update(zip(new, taken, strict=True))
        return [self._row_of[slot] for slot in slots], taken

    def release(self, slot: int) -> int | None:
        """The slot's sequence is over. Returns the row that it had."""
        row = self._row_of.pop(slot, None)
        if row is not None:
            self._free.append(row)
        return row
