"""Top-k: only the k likeliest tokens stay. Tokens tied with the k-th stay too, as in transformers.

Source: Fan, Lewis, Dauphin, "Hierarchical Neural Story Generation" (2018), section 5.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock_decoding.errors import ParameterError
from penstock_decoding.largest import largest_values
from penstock_decoding.processor import Ask
from penstock_decoding.tensors import RowSelection, exclude_below, index_tensor

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class TopKParams:
    """`count`: k. 0, or -1 as vLLM writes it, keeps every token."""

    count: int = field(metadata={"minimum": -1})

    def __post_init__(self) -> None:
        if self.count < -1:
            raise ParameterError("count", "must be at least 1, or 0 to keep every token")


class TopK:
    """Excludes all but each row's k likeliest tokens."""

    Params = TopKParams

    def plan(self, asks: Sequence[Ask[TopKParams]]) -> "TopKPlan | None":
        limited = [ask for ask in asks if ask.params.count > 0]
        if not limited:
            return None
        return TopKPlan([ask.row.index for ask in limited], [ask.params.count for ask in limited])


class TopKPlan:
    """One k a row."""

    def __init__(self, rows: Sequence[int], counts: Sequence[int]) -> None:
        self._rows = RowSelection(rows)
        self._counts = counts

    def apply(self, scores: "Tensor") -> None:
        vocab_size = scores.shape[-1]
        counts = [min(count, vocab_size) for count in self._counts]
        values = self._rows.take(scores)
        best = largest_values(values, max(counts))  # [rows, max k], descending
        kth = best.gather(-1, index_tensor(scores, counts)[:, None] - 1)
        exclude_below(values, kth)
        self._rows.put(scores, values)
