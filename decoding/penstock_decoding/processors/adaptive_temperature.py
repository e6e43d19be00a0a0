"""Adaptive temperature: each row's temperature is solved so that its entropy is the one asked for.

H(softmax(s / T)) grows with T, from that of the tied best tokens to that of an even choice, with the derivative
dH / d(log T) = Var(s) / T**2 under softmax(s / T). Where the target lies beyond what the allowed temperatures reach,
the nearer end of their range is taken. 2 ** target is the perplexity of the distribution, whatever the model's was.

The root is found by Newton's method on log T, inside a bracket that is halved whenever a step did not halve the miss. A
row that is near enough stops there, so that its temperature does not depend on how long its neighbours take.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.processors.row_sums import LOWEST, row_sums
from penstock_decoding.tensors import RowSelection, float_tensor

if TYPE_CHECKING:
    from torch import Tensor

MAX_STEPS = 40  # of 1500 random rows none took more than 8
TOLERANCE = 1e-4  # of the entropy, in nats
DEEPEST = -1e18  # a score this far below the best has no weight at any allowed T, and its square is a float32


@dataclass(frozen=True, slots=True)
class AdaptiveTemperatureParams:
    """`target`: the entropy in bits, from 0 to 20; `lowest` and `highest`: allowed temperatures, from 0.01 to 10."""

    target: float = field(metadata={"minimum": 0, "maximum": 20})
    lowest: float = field(default=0.1, metadata={"minimum": 0.01, "maximum": 10})
    highest: float = field(default=2.0, metadata={"minimum": 0.01, "maximum": 10})

    def __post_init__(self) -> None:
        if not 0 <= self.target <= 20:
            raise ParameterError("target", "must be between 0 and 20 bits")
        for name, value in (("lowest", self.lowest), ("highest", self.highest)):
            if not 0.01 <= value <= 10:
                raise ParameterError(name, "must be between 0.01 and 10")
        if self.lowest > self.highest:
            raise ParameterError("lowest", "must not be above highest")


class AdaptiveTemperature:
    """Divides the scores by the temperature that gives each row the entropy asked for."""

    Params = AdaptiveTemperatureParams

    def plan(self, asks: Sequence[Ask[AdaptiveTemperatureParams]]) -> "AdaptiveTemperaturePlan":
        return AdaptiveTemperaturePlan([ask.row.index for ask in asks], [ask.params for ask in asks])


class AdaptiveTemperaturePlan:
    """One entropy a row."""

    def __init__(self, rows: Sequence[int], params: Sequence[AdaptiveTemperatureParams]) -> None:
        self._rows = RowSelection(rows)
        self._targets = [p.target * math.log(2) for p in params]
        self._lowest = [math.log(p.lowest) for p in params]
        self._highest = [math.log(p.highest) for p in params]

    def apply(self, scores: "Tensor") -> None:
        values = self._rows.take(scores)
        targets, lowest, highest = (
            float_tensor(scores, numbers).double()[:, None] for numbers in (self._targets, self._lowest, self._highest)
        )
        # A row in which nothing is left has no maximum to take away, and no temperature; it stays as it is.
        # Adding 0 makes a maximum of 0 a positive zero: whether threads find that or a negative one first is chance.
        values.sub_(values.amax(-1, keepdim=True).clamp_(min=LOWEST).add_(0.0))
        values.div_(_temperatures(values, targets, lowest, highest).nan_to_num_(1.0))
        self._rows.put(scores, values)


def _temperatures(depths: "Tensor", targets: "Tensor", lowest: "Tensor", highest: "Tensor") -> "Tensor":
    """The temperatures [rows, 1] float32 that give `depths` (scores below the row's best) these entropies.

    `lowest`, `highest`: logarithms of the allowed temperatures. NaN for a row without tokens or with NaN.
    """
    depths = depths.clamp(min=DEEPEST)
    log_t = lowest.maximum(highest.minimum(lowest * 0))  # T = 1, or the end of the range that is nearest to it
    entropy, slope = _entropy(depths, log_t)
    is_short = entropy < targets
    end = highest.where(is_short, lowest)
    at_end, _ = _entropy(depths, end)
    is_beyond = (at_end <= targets).where(is_short, at_end >= targets)
    log_t = end.where(is_beyond, log_t)
    is_done = is_beyond | ~entropy.isfinite()
    hoped = lowest + math.inf  # the miss that a Newton step must not exceed; a halved bracket is promised anything
    for _ in range(MAX_STEPS):
        miss = entropy - targets
        is_done |= miss.abs() <= TOLERANCE
        # Reading this flag costs nothing on a CPU. On a GPU it is a host synchronisation, which a fused kernel avoids.
        if bool(is_done.all()):
            break
        lowest, highest = log_t.where(miss < 0, lowest), log_t.where(miss > 0, highest)
        newton = log_t - miss / slope
        is_good = (newton > lowest) & (newton < highest) & (miss.abs() <= hoped)
        log_t = log_t.where(is_done, newton.where(is_good, (lowest + highest) / 2))
        hoped = (miss.abs() / 2).where(is_good, math.inf)
        entropy, slope = _entropy(depths, log_t)
    return log_t.exp().where(entropy.isfinite(), float("nan")).float()


def _entropy(depths: "Tensor", log_t: "Tensor") -> "tuple[Tensor, Tensor]":
    """The entropy in nats and its derivative by log T at these temperatures, each [rows, 1] float64."""
    temperature = log_t.exp()
    weights = (depths / temperature.float()).exp_()
    total = row_sums(weights)
    moment = weights.mul_(depths)
    mean = row_sums(moment) / total
    variance = row_sums(moment.mul_(depths)) / total - mean**2
    return total.log() - mean / temperature, variance / temperature**2
