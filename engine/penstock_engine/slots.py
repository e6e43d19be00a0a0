"""`SlotPool`: small stable integers that name sequences while they live; the lowest free one is given first."""

import heapq


class SlotPool:
    """Hands out slots and takes them back. Tables indexed by slot stay as small as the most sequences alive at once."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._num_made = 0

    def take(self) -> int:
        if self._free:
            return heapq.heappop(self._free)
        self._num_made += 1
        return self._num_made - 1

    def give_back(self, slot: int) -> None:
        heapq.heappush(self._free, slot)

    @property
    def num_taken(self) -> int:
        return self._num_made - len(self._free)
