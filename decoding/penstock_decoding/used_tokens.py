"""`UsedTokensBySlot`: the device's tables of what sequences have used, and how far each of them has come.

The device counts the tokens that it chooses itself. The host sends what is missing: a prompt once, and the tokens that
were chosen elsewhere. It knows how many tokens of an answer are counted, not which: whoever throws away a token that
was chosen on the device has to say `forget`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from penstock_decoding.processor import Row
from penstock_kernels.penalties import WORD_BITS, UsedTokens


class UsedTokensBySlot:
    """Tables [num_slots, ...] that are made when they are first needed: 2 1/8 bytes for each slot and token."""

    def __init__(self, vocab_size: int, num_slots: int, device: torch.device) -> None:
        self._vocab_size = vocab_size
        self._num_slots = num_slots
        self._device = device
        self._tables: UsedTokens | None = None
        self._num_counted: dict[int, int] = {}  # by slot, tokens of the answer

    @property
    def tables(self) -> UsedTokens:
        """The same tensors for as long as this lives, so that a graph can hold them."""
        if self._tables is None:
            num_words = -(-self._vocab_size // WORD_BITS)
            self._tables = UsedTokens(
                torch.zeros(self._num_slots, num_words, dtype=torch.int32, device=self._device),
                torch.zeros(self._num_slots, self._vocab_size, dtype=torch.int16, device=self._device),
            )
        return self._tables

    def catch_up(self, rows: Sequence[tuple[int, Row, int]]) -> None:
        """Bring the tables to where these sequences are: (slot, row, position of the token to be chosen).

        That token is taken as counted from here on: the device will do so.
        """
        new: list[tuple[int, Row]] = []
        missing: list[tuple[int, Sequence[int]]] = []
        for slot, row, position in rows:
            num_output = position - len(row.prompt)
            num_counted = self._num_counted.get(slot)
            if num_counted is None or num_counted > num_output:
                new.append((slot, row))
                num_counted = 0
            if num_counted < num_output:
                assert len(row.output) >= num_output, "a token that is on its way was not chosen here"
                missing.append((slot, row.output[num_counted:num_output]))
            self._num_counted[slot] = num_output + 1
        if new:
            self._begin(new)
        if missing:
            self._count(missing)

    def forget(self, slot: int) -> None:
        """What the tables hold for this slot means nothing; a slot they never met is not an error."""
        self._num_counted.pop(slot, None)

    def _begin(self, new: Sequence[tuple[int, Row]]) -> None:
        num_words = self.tables.in_prompt.shape[1]
        is_in_prompt = np.zeros((len(new), num_words * WORD_BITS), np.bool_)
        for place, (_, row) in enumerate(new):
            is_in_prompt[place, np.asarray(row.prompt, np.int64)] = True
        words = np.packbits(is_in_prompt, axis=1, bitorder="little").view(np.int32)
        slots = self._sent(np.asarray([slot for slot, _ in new], np.int64))
        self.tables.in_prompt.index_copy_(0, slots, self._sent(words))
        self.tables.counts.index_fill_(0, slots, 0)

    def _count(self, missing: Sequence[tuple[int, Sequence[int]]]) -> None:
        slots = np.repeat([slot for slot, _ in missing], [len(tokens) for _, tokens in missing])
        tokens = np.concatenate([np.asarray(tokens, np.int64) for _, tokens in missing])
        entries = self._sent(np.stack((slots, tokens)))
        one = self.tables.counts.new_ones(1)
        self.tables.counts.index_put_((entries[0], entries[1]), one, accumulate=True)

    def _sent(self, values: NDArray[np.int64] | NDArray[np.int32]) -> Tensor:
        tensor = torch.from_numpy(values)
        if self._device.type == "cuda":
            tensor = tensor.pin_memory()  # or the copy would wait for all that the device has yet to do
        return tensor.to(self._device, non_blocking=True)
