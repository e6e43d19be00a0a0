"""Eta sampling: epsilon sampling whose cutoff falls where the distribution is flat.

A token stays if its probability is at least min(epsilon, sqrt(epsilon) * exp(-H)), H the entropy in nats; the
likeliest one always does. Source: Hewitt, Manning, Liang, "Truncation Sampling as Language Model Desmoothing" (2022).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.processors.row_sums import entropies
from penstock_decoding.tensors import RowSelection, float_tensor

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class EtaParams:
    """`cutoff`: epsilon, from 0 (keeps every token) to below 1; 3e-4 to 4e-3 in the paper."""

    cutoff: float = field(metadata={"minimum": 0, "exclusiveMaximum": 1})

    def __post_init__(self) -> None:
        if not 0 <= self.cutoff < 1:
            raise ParameterError("cutoff", "must be at least 0 and below 1")


class Eta:
    """Excludes tokens below a probability that depends on each row's entropy."""

    Params = EtaParams

    def plan(self, asks: Sequence[Ask[EtaParams]]) -> "EtaPlan | None":
        limited = [ask for ask in asks if ask.params.cutoff > 0]
        if not limited:
            return None
        return EtaPlan([ask.row.index for ask in limited], [ask.params.cutoff for ask in limited])


class EtaPlan:
    """One cutoff a row."""

    def __init__(self, rows: Sequence[int], cutoffs: Sequence[float]) -> None:
        self._rows = RowSelection(rows)
        self._log_cutoffs = [math.log(cutoff) for cutoff in cutoffs]

    def apply(self, scores: "Tensor") -> None:
        values = self._rows.take(scores)
        logprobs = values.log_softmax(-1)
        log_cutoffs = float_tensor(scores, self._log_cutoffs)[:, None]
        log_eta = log_cutoffs.minimum((log_cutoffs / 2 - entropies(logprobs)).float())
        values.masked_fill_(logprobs < log_eta.minimum(logprobs.amax(-1, keepdim=True)), float("-inf"))
        self._rows.put(scores, values)
