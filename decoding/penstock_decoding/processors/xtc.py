"""XTC, exclude top choices: now and then the likeliest tokens go, and the least likely of the likely ones stays.

In each step, with `probability`, all tokens at least as likely as `threshold` are excluded but for the least likely of
them (and those that tie with it); where fewer than two are so likely, nothing changes. So the text takes a less obvious
turn only where there are several good ones. If a stop token is among what would go, nothing does: an answer at its end
is let end. Source: p-e-w, text-generation-webui pull request 6335 (2024); llama.cpp and koboldcpp have it too.

Whether it strikes is a function of the request's seed, the sample and the position, so that it replays. Samples that
share one row, before their first token, are struck together, by the number of the first of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from penstock_decoding.errors import ParameterError
from penstock_decoding.philox import Stream, uniforms
from penstock_decoding.processor import Ask
from penstock_decoding.processors.temperature import LOWEST
from penstock_decoding.tensors import RowSelection, float_tensor, index_tensor

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class XtcParams:
    """`probability` of striking in a step, from 0 (never) to 1. `threshold`: a probability too; above 0.5 no two tokens
    reach it."""

    probability: float = field(default=0.5, metadata={"minimum": 0, "maximum": 1})
    threshold: float = field(default=0.1, metadata={"minimum": 0, "maximum": 1})

    def __post_init__(self) -> None:
        for name, value in (("probability", self.probability), ("threshold", self.threshold)):
            if not 0 <= value <= 1:
                raise ParameterError(name, "must be between 0 and 1")


class Xtc:
    """Excludes the top choices of the rows that are struck."""

    Params = XtcParams

    def plan(self, asks: Sequence[Ask[XtcParams]]) -> "XtcPlan | None":
        able = [ask for ask in asks if ask.params.probability > 0 and ask.params.threshold <= 0.5]
        if not able:
            return None
        numbers = uniforms(
            np.asarray([ask.row.seed for ask in able], np.int64),
            np.asarray([ask.row.sample for ask in able], np.int64),
            np.asarray([ask.row.position for ask in able], np.int64),
            Stream.PROCESSOR,
        )
        struck = [ask for ask, number in zip(able, numbers, strict=True) if number < ask.params.probability]
        return XtcPlan(struck) if struck else None


class XtcPlan:
    """The rows that are struck."""

    def __init__(self, asks: Sequence[Ask[XtcParams]]) -> None:
        self._rows = RowSelection([ask.row.index for ask in asks])
        self._log_thresholds = [
            math.log(ask.params.threshold) if ask.params.threshold > 0 else -math.inf for ask in asks
        ]
        self._stops = [(place, token) for place, ask in enumerate(asks) for token in ask.row.stop_token_ids]

    def apply(self, scores: "Tensor") -> None:
        values = self._rows.take(scores)
        # Not logsumexp: its sum is split among threads when the rows are few, so it rounds by what shares the batch.
        total = values.amax(-1, keepdim=True) - values.log_softmax(-1).amax(-1, keepdim=True)
        # Never -inf: an excluded token is no choice, not even where the threshold is 0.
        bar = (total + float_tensor(scores, self._log_thresholds)[:, None]).clamp_(min=LOWEST)
        # The least likely top choice; without one, or in a row with nothing left (NaN), inf: no score is above it.
        floor = values.where(values >= bar, float("inf")).amin(-1)
        if self._stops:
            places, tokens = (index_tensor(scores, column) for column in zip(*self._stops, strict=True))
            would_go = (values[places, tokens] > floor[places]).to(values.dtype)
            floor.masked_fill_(floor.new_zeros(len(floor)).index_add_(0, places, would_go) > 0, float("inf"))
        values.masked_fill_(values > floor[:, None], float("-inf"))
        self._rows.put(scores, values)
