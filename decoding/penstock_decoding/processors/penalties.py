"""Penalties on tokens that were used already: repetition, presence and frequency.

Repetition (Keskar et al., "CTRL", 2019, section 4.1) divides the positive scores of all tokens in prompt and answer by
the penalty and multiplies the negative ones. Presence and frequency (OpenAI) subtract, for each token of the answer
alone, a constant and a multiple of how often it stands there. Repetition goes first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask, Row
from penstock_decoding.tensors import float_tensor, index_tensor

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class PenaltiesParams:
    """`repetition` between 0.01 and 10 (1: none); `presence` and `frequency` between -2 and 2 (0: none)."""

    repetition: float = field(default=1.0, metadata={"minimum": 0.01, "maximum": 10})
    presence: float = field(default=0.0, metadata={"minimum": -2, "maximum": 2})
    frequency: float = field(default=0.0, metadata={"minimum": -2, "maximum": 2})

    def __post_init__(self) -> None:
        if not 0.01 <= self.repetition <= 10:
            raise ParameterError("repetition", "must be between 0.01 and 10")
        for name, value in (("presence", self.presence), ("frequency", self.frequency)):
            if not -2 <= value <= 2:
                raise ParameterError(name, "must be between -2 and 2")


class UsedTokens:
    """The distinct tokens of one sequence and how often its answer holds each; grows with the sequence."""

    def __init__(self, prompt: Sequence[int]) -> None:
        self.tokens = list(dict.fromkeys(prompt))
        self._place = {token: i for i, token in enumerate(self.tokens)}
        self.counts = [0] * len(self.tokens)
        self._num_prompt = len(self.tokens)
        self._history: list[int] = []

    def catch_up(self, output: Sequence[int]) -> None:
        """Take in what was appended to the answer since the last call."""
        for token in output[len(self._history) :]:
            place = self._place.get(token)
            if place is None:
                self._place[token] = place = len(self.tokens)
                self.tokens.append(token)
                self.counts.append(0)
            self.counts[place] += 1
            self._history.append(token)

    def rollback(self, num_kept: int) -> None:
        """Forget what the answer holds beyond its first `num_kept` tokens."""
        for token in self._history[num_kept:]:
            self.counts[self._place[token]] -= 1
        del self._history[num_kept:]

    def penalised(self) -> NDArray[np.bool_]:
        """Which of `tokens` stand in the prompt or in the answer as it is now."""
        return (np.asarray(self.counts) > 0) | (np.arange(len(self.tokens)) < self._num_prompt)

    def copy(self) -> "UsedTokens":
        """An independent copy."""
        twin = UsedTokens(())
        twin.tokens, twin._place = list(self.tokens), dict(self._place)
        twin.counts, twin._history = list(self.counts), list(self._history)
        twin._num_prompt = self._num_prompt
        return twin


class Penalties:
    """Makes used tokens less (or more) likely. Remembers each sequence's used tokens by slot."""

    Params = PenaltiesParams

    def __init__(self) -> None:
        self._used: dict[int, UsedTokens] = {}

    def plan(self, asks: Sequence[Ask[PenaltiesParams]]) -> "PenaltiesPlan | None":
        parts = [(ask.row.index, self._used_by(ask.row), ask.params) for ask in asks]
        sizes = [len(used.tokens) for _, used, _ in parts]
        if not sum(sizes):
            return None
        counts = np.concatenate([np.asarray(used.counts, np.float32) for _, used, _ in parts])
        return PenaltiesPlan(
            rows=np.repeat([index for index, _, _ in parts], sizes),
            tokens=np.concatenate([np.asarray(used.tokens, np.int64) for _, used, _ in parts]),
            repetition=np.concatenate(
                [np.where(used.penalised(), np.float32(p.repetition), np.float32(1)) for _, used, p in parts]
            ),
            subtract=np.repeat(np.asarray([p.presence for _, _, p in parts], np.float32), sizes) * (counts > 0)
            + np.repeat(np.asarray([p.frequency for _, _, p in parts], np.float32), sizes) * counts,
        )

    def _used_by(self, row: Row) -> UsedTokens:
        used = self._used.get(row.slot)
        if used is None:
            used = self._used[row.slot] = UsedTokens(row.prompt)
        used.catch_up(row.output)
        return used

    def fork(self, source: int, target: int) -> None:
        if source in self._used:
            self._used[target] = self._used[source].copy()

    def rollback(self, slot: int, num_kept: int) -> None:
        if slot in self._used:
            self._used[slot].rollback(num_kept)

    def release(self, slot: int) -> None:
        self._used.pop(slot, None)


class PenaltiesPlan:
    """Entries (row, token) with what divides and what is subtracted; each entry stands once."""

    def __init__(
        self,
        rows: NDArray[np.int64],
        tokens: NDArray[np.int64],
        repetition: NDArray[np.float32],
        subtract: NDArray[np.float32],
    ) -> None:
        self._rows = rows
        self._tokens = tokens
        self._repetition = repetition
        self._subtract = subtract

    def apply(self, scores: "Tensor") -> None:
        entries = (index_tensor(scores, self._rows), index_tensor(scores, self._tokens))
        used = scores[entries]
        repetition = float_tensor(scores, self._repetition)
        used = (used / repetition).where(used > 0, used * repetition) - float_tensor(scores, self._subtract)
        scores.index_put_(entries, used)
