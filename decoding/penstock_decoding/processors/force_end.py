"""Force end: once an answer has so many tokens, only the request's stop tokens are left to it.

As transformers' `forced_eos_token_id`, which forces the end where `max_new_tokens` would cut: that is `after` =
max_tokens - 1. Where every stop token is excluded already (by `min_tokens`, or by a grammar in the midst of a value),
nothing is forced in this step: the end comes at the first token where one is possible. So this leaves a token to every
row that has one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.processors.exclusion import NEVER, Entries
from penstock_decoding.tensors import index_tensor

if TYPE_CHECKING:
    from torch import Tensor

MAX_AFTER = 2**31 - 1


@dataclass(frozen=True, slots=True)
class ForceEndParams:
    """`after`: tokens of an answer, 0 or more, after which only a stop token may follow."""

    after: int = field(metadata={"minimum": 0, "maximum": MAX_AFTER})

    def __post_init__(self) -> None:
        if not 0 <= self.after <= MAX_AFTER:
            raise ParameterError("after", f"must be between 0 and {MAX_AFTER}")

    def check_stop(self, stop_token_ids: Sequence[int], min_tokens: int, max_tokens: int) -> None:
        if not stop_token_ids:
            raise ParameterError("after", "there is no stop token by which an answer could end")
        if min_tokens > self.after:
            raise ParameterError("after", f"must be at least min_tokens, {min_tokens}")


class ForceEnd:
    """Excludes all but the stop tokens of rows that are long enough."""

    Params = ForceEndParams

    def plan(self, asks: Sequence[Ask[ForceEndParams]]) -> "ForceEndPlan | None":
        rows = [ask.row for ask in asks if len(ask.row.output) >= ask.params.after and ask.row.stop_token_ids]
        return ForceEndPlan([(row.index, row.stop_token_ids) for row in rows]) if rows else None


class ForceEndPlan:
    """Rows and their stop tokens."""

    def __init__(self, parts: Sequence[tuple[int, Sequence[int]]]) -> None:
        self._rows = [index for index, _ in parts]
        self._entries = Entries(parts)

    def apply(self, scores: "Tensor") -> None:
        index = self._entries.index(scores)
        kept = scores[index]
        can_end = scores.new_zeros(len(scores)).index_add_(0, index[0], (kept > NEVER).to(scores.dtype)) > 0
        ending = can_end[index_tensor(scores, self._rows)]
        # A row that cannot end is filled with what it holds: no branch, and so no wait for a device.
        rows = index_tensor(scores, self._rows)
        scores.index_copy_(0, rows, scores[rows].masked_fill_(ending[:, None], NEVER))
        scores.index_put_(index, kept)
