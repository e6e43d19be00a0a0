"""`StepPlan`: one step's batch while it is being put together; a group can be taken out again until it is done."""

from penstock_engine.batch import Batch, Entry
from penstock_engine.group import Group


class StepPlan:
    """Entries by group, the copies they need, and what is left of the token budget."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._entries: dict[Group, list[Entry]] = {}
        self._copies: dict[Group, list[tuple[int, int]]] = {}

    def add(self, entry: Entry, copy: tuple[int, int] | None) -> None:
        """Plan an entry and the block copy that must come before it."""
        self._entries.setdefault(entry.group, []).append(entry)
        self.budget -= entry.num_tokens
        if copy is not None:
            self._copies.setdefault(entry.group, []).append(copy)

    def remove(self, group: Group) -> None:
        """The group was preempted: nothing of it is computed this step."""
        self.budget += sum(entry.num_tokens for entry in self._entries.pop(group, []))
        self._copies.pop(group, None)

    def batch(self) -> Batch:
        """What was planned."""
        return Batch(
            entries=tuple(entry for entries in self._entries.values() for entry in entries),
            copies=tuple(copy for copies in self._copies.values() for copy in copies),
        )
