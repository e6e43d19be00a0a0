"""Temperature: scores divided by T, so that T < 1 sharpens the distribution and T > 1 flattens it.

p_i ~ exp(s_i / T). Source: Ackley, Hinton, Sejnowski, "A Learning Algorithm for Boltzmann Machines" (1985).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.tensors import RowSelection, float_tensor

if TYPE_CHECKING:
    from torch import Tensor

LOWEST = -3.4028234663852886e38  # of all finite float32
SMALLEST = 2.0**-126


@dataclass(frozen=True, slots=True)
class TemperatureParams:
    """`value`: T, above 0 and at most 2."""

    value: float = field(metadata={"exclusiveMinimum": 0, "maximum": 2})

    def __post_init__(self) -> None:
        if self.value <= 0:
            raise ParameterError(
                "value",
                "must be above 0 to sample; 0 is the strategy 'greedy'"
                if self.value == 0
                else "must be between 0 and 2",
            )
        if self.value > 2:
            raise ParameterError("value", "must be between 0 and 2")


class Temperature:
    """Divides the scores by each row's temperature."""

    Params = TemperatureParams

    def plan(self, asks: Sequence[Ask[TemperatureParams]]) -> "TemperaturePlan":
        return TemperaturePlan([ask.row.index for ask in asks], [ask.params.value for ask in asks])


class TemperaturePlan:
    """One temperature a row."""

    def __init__(self, rows: Sequence[int], temperatures: Sequence[float]) -> None:
        self._rows = RowSelection(rows)
        # Below the smallest normal float32 a temperature would round to 0, and 0 / 0 is no probability.
        self._temperatures = [max(temperature, SMALLEST) for temperature in temperatures]

    def apply(self, scores: "Tensor") -> None:
        values = self._rows.take(scores)
        # The row's maximum goes first: a tiny T would otherwise overflow to inf, and inf - inf is no probability.
        # A row in which nothing is left has no maximum to take away; it stays as it is.
        peaks = values.amax(-1, keepdim=True).clamp_(min=LOWEST)
        values.sub_(peaks).div_(float_tensor(scores, self._temperatures)[:, None])
        self._rows.put(scores, values)
