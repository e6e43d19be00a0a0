"""`Batch`: what one step computes: how many tokens of which sequences. There are no phases: no prefill, no decode."""

from dataclasses import dataclass

from penstock_engine.group import Group
from penstock_engine.sequence import Sequence

_NONE = range(0)


@dataclass(frozen=True, slots=True)
class Entry:
    """The next `num_tokens` uncomputed tokens of one sequence."""

    group: Group
    sequence: Sequence
    num_tokens: int

    @property
    def wants_logits(self) -> bool:
        """Whether this entry computes the last token, and its logits choose the next one."""
        return self.num_tokens == self.sequence.num_missing and self.group.generates

    @property
    def unread(self) -> range:
        """The positions that this entry computes and the request wants read: see `Reading`."""
        if self.group.reading is None:
            return _NONE
        start = self.sequence.num_computed
        return self.group.reading.unread(start, start + self.num_tokens)


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's work. `copies`: (source, target) blocks to copy before anything is written.

    Rows of one group stand together and in the group's order. Either all live rows of a group want logits, or none.
    """

    entries: tuple[Entry, ...]
    copies: tuple[tuple[int, int], ...]

    @property
    def num_tokens(self) -> int:
        return sum(entry.num_tokens for entry in self.entries)

    @property
    def is_read(self) -> bool:
        """Whether there is something to tell of a prompt in it."""
        return any(entry.unread for entry in self.entries if entry.group.reading is not None)
