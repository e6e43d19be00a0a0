"""`Histories`: the tokens of sequences as arrays, by slot, for processors that look for repeats in them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from penstock_decoding.processor import Row

# Tokens by which an answer can grow before its array has to.
ROOM = 256


class History:
    """One sequence's tokens, prompt and answer, as an array that grows with the answer."""

    def __init__(self, prompt: Sequence[int]) -> None:
        self._num_prompt = len(prompt)
        self._buffer = np.empty(len(prompt) + ROOM, np.int64)
        self._buffer[: len(prompt)] = prompt
        self._length = len(prompt)

    @property
    def tokens(self) -> NDArray[np.int64]:
        """A view, good until the next change."""
        return self._buffer[: self._length]

    def catch_up(self, output: Sequence[int]) -> None:
        """Take in what was appended to the answer since the last call."""
        new = output[self._length - self._num_prompt :]
        end = self._length + len(new)
        if end > len(self._buffer):
            larger = np.empty(end + end // 2 + ROOM, np.int64)
            larger[: self._length] = self.tokens
            self._buffer = larger
        self._buffer[self._length : end] = new
        self._length = end

    def rollback(self, num_kept: int) -> None:
        """Forget what the answer holds beyond its first `num_kept` tokens."""
        self._length = min(self._length, self._num_prompt + num_kept)

    def copy(self) -> "History":
        """An independent copy."""
        twin = History(())
        twin._num_prompt, twin._length = self._num_prompt, self._length
        twin._buffer = np.empty(self._length + ROOM, np.int64)
        twin._buffer[: self._length] = self.tokens
        return twin


class Histories:
    """The sequences' histories, by slot."""

    def __init__(self) -> None:
        self._by_slot: dict[int, History] = {}

    def of(self, row: Row) -> History:
        """The row's history as it is now."""
        history = self._by_slot.get(row.slot)
        if history is None:
            history = self._by_slot[row.slot] = History(row.prompt)
        history.catch_up(row.output)
        return history

    def fork(self, source: int, target: int) -> None:
        if source in self._by_slot:
            self._by_slot[target] = self._by_slot[source].copy()

    def rollback(self, slot: int, num_kept: int) -> None:
        if slot in self._by_slot:
            self._by_slot[slot].rollback(num_kept)

    def release(self, slot: int) -> None:
        self._by_slot.pop(slot, None)


def suffix_matches(tokens: NDArray[np.int64]) -> NDArray[np.int32]:
    """For every place but the last, how many tokens up to and with it agree with the last ones: [len(tokens) - 1].

    The Z-algorithm (Gusfield, "Algorithms on Strings, Trees and Sequences", 1997, section 1.4) on the tokens read
    backwards: time grows with their number alone, however often they repeat.
    """
    backwards = tokens[::-1].tolist()
    length = len(backwards)
    matches = [0] * length
    left = right = 0  # the match [left, right) that reaches farthest
    for i in range(1, length):
        size = min(right - i, matches[i - left]) if i < right else 0
        while i + size < length and backwards[size] == backwards[i + size]:
            size += 1
        matches[i] = size
        if i + size > right:
            left, right = i, i + size
    return np.asarray(matches[:0:-1], np.int32)


def extended_matches(matches: NDArray[np.int32], tokens: NDArray[np.int64]) -> NDArray[np.int32]:
    """`suffix_matches(tokens)`, from that of the tokens without the last one."""
    if len(tokens) < 2:
        return np.zeros(0, np.int32)
    longer = np.ones(len(tokens) - 1, np.int32)
    longer[1:] += matches
    longer *= tokens[:-1] == tokens[-1]
    return longer
