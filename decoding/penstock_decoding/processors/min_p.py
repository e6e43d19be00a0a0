"""Min-p: tokens at least `share` times as likely as the likeliest one stay.

Source: Nguyen et al., "Turning Up the Heat: Min-p Sampling for Creative and Coherent LLM Outputs" (2024), section 3.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.tensors import RowSelection, exclude_below, float_tensor

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class MinPParams:
    """`share`: of the likeliest token's probability, from 0 (keeps every token) to 1."""

    share: float = field(metadata={"minimum": 0, "maximum": 1})

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ParameterError("share", "must be between 0 and 1")


class MinP:
    """Excludes tokens too unlikely beside each row's likeliest one."""

    Params = MinPParams

    def plan(self, asks: Sequence[Ask[MinPParams]]) -> "MinPPlan | None":
        limited = [ask for ask in asks if ask.params.share > 0]
        if not limited:
            return None
        return MinPPlan([ask.row.index for ask in limited], [ask.params.share for ask in limited])


class MinPPlan:
    """One share a row."""

    def __init__(self, rows: Sequence[int], shares: Sequence[float]) -> None:
        self._rows = RowSelection(rows)
        self._log_shares = [math.log(share) for share in shares]

    def apply(self, scores: "Tensor") -> None:
        values = self._rows.take(scores)
        # p_i >= share * p_max is s_i >= s_max + log(share): no softmax is needed.
        floor = values.amax(-1, keepdim=True) + float_tensor(scores, self._log_shares)[:, None]
        exclude_below(values, floor)
        self._rows.put(scores, values)
