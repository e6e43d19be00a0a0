"""Epsilon sampling: tokens with a probability of at least epsilon stay; the likeliest one always does.

Source: Hewitt, Manning, Liang, "Truncation Sampling as Language Model Desmoothing" (2022).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.tensors import RowSelection, float_tensor

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class EpsilonParams:
    """`cutoff`: epsilon, from 0 (keeps every token) to below 1; 3e-4 to 9e-4 in the paper."""

    cutoff: float = field(metadata={"minimum": 0, "exclusiveMaximum": 1})

    def __post_init__(self) -> None:
        if not 0 <= self.cutoff < 1:
            raise ParameterError("cutoff", "must be at least 0 and below 1")


class Epsilon:
    """Excludes tokens below each row's smallest allowed probability."""

    Params = EpsilonParams

    def plan(self, asks: Sequence[Ask[EpsilonParams]]) -> "EpsilonPlan | None":
        limited = [ask for ask in asks if ask.params.cutoff > 0]
        if not limited:
            return None
        return EpsilonPlan([ask.row.index for ask in limited], [ask.params.cutoff for ask in limited])


class EpsilonPlan:
    """One cutoff a row."""

    def __init__(self, rows: Sequence[int], cutoffs: Sequence[float]) -> None:
        self._rows = RowSelection(rows)
        self._log_cutoffs = [math.log(cutoff) for cutoff in cutoffs]

    def apply(self, scores: "Tensor") -> None:
        values = self._rows.take(scores)
        logprobs = values.log_softmax(-1)
        floor = float_tensor(scores, self._log_cutoffs)[:, None].minimum(logprobs.amax(-1, keepdim=True))
        values.masked_fill_(logprobs < floor, float("-inf"))
        self._rows.put(scores, values)
