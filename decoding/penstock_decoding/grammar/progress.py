"""`Progress`: one answer's place in its grammar, and `Mask`: the tokens that can follow there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from penstock_decoding.grammar.compiler import told
from penstock_decoding.grammar.errors import GrammarStuck, StatesFull

if TYPE_CHECKING:
    from llguidance import LLMatcher


@dataclass(frozen=True, slots=True)
class Mask:
    """What can follow. `packed`: uint8, bit i % 8 of byte i // 8 is token i; `may_end`: whether the answer may end."""

    packed: NDArray[np.uint8]
    may_end: bool


class Progress:
    """A matcher and how many of the answer's tokens it has taken in. For one thread at a time.

    `num_tokens` is the size of the vocabulary: the matcher's own token for the end comes after it.
    """

    def __init__(self, matcher: "LLMatcher", num_tokens: int, num_taken: int = 0) -> None:
        self._matcher = matcher
        self._num_tokens = num_tokens
        self.num_taken = num_taken

    def mask(self, appended: Sequence[int]) -> Mask:
        """Take in what was appended to the answer, and tell what can follow.

        Raises:
            GrammarStuck: nothing can; also when asked again.
            StatesFull: a progress on a new matcher may go on.
        """
        if not self._matcher.consume_tokens(list(appended)):
            raise self._stuck()
        self.num_taken += len(appended)
        packed = np.frombuffer(self._matcher.compute_bitmask(), np.uint8).copy()
        if self._matcher.is_error():
            raise self._stuck()
        end_byte, end_bit = divmod(self._num_tokens, 8)
        may_end = bool(packed[end_byte] >> end_bit & 1)
        packed[end_byte] &= ~np.uint8(1 << end_bit)
        if may_end and not self._matcher.is_accepting():
            raise GrammarStuck("the grammar cannot go on: this model has no token that fits")
        return Mask(packed, may_end)

    def copy(self) -> "Progress":
        """An independent copy."""
        return Progress(self._matcher.deep_copy(), self._num_tokens, self.num_taken)

    def rollback(self, num_kept: int) -> bool:
        """Forget all but the answer's first `num_kept` tokens; False if the grammar does not allow it."""
        num_dropped = self.num_taken - num_kept
        self.num_taken = num_kept
        return bool(self._matcher.rollback(num_dropped))

    def _stuck(self) -> GrammarStuck:
        error = self._matcher.get_error()
        kind = StatesFull if "too many states" in error else GrammarStuck
        return kind(f"the grammar cannot go on: {told(error)}")
