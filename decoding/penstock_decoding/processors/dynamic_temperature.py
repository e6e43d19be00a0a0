"""Dynamic temperature: the flatter a distribution, the higher its temperature.

T = low + (high - low) * (H / H_max) ** exponent, where H is the entropy and H_max that of an even choice among the
tokens not excluded; low and high are `value` minus and plus `spread`, low at least 0. Source: llama.cpp's
`dynatemp_range`, after kalomaze's entropy-based temperature for koboldcpp (2023).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.processors.row_sums import LOWEST, entropies, row_sums
from penstock_decoding.tensors import RowSelection, float_tensor

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST = 2.0**-126  # of the normal float32


@dataclass(frozen=True, slots=True)
class DynamicTemperatureParams:
    """`value`: the middle temperature, above 0 and at most 2; `spread`: how far it may be left, from 0 to 5.

    `exponent`: from 0 (always the highest temperature) to 10; above 1 the temperature rises late, below 1 early.
    """

    value: float = field(default=1.0, metadata={"exclusiveMinimum": 0, "maximum": 2})
    spread: float = field(default=0.0, metadata={"minimum": 0, "maximum": 5})
    exponent: float = field(default=1.0, metadata={"minimum": 0, "maximum": 10})

    def __post_init__(self) -> None:
        if self.value == 0:
            raise ParameterError("value", "must be above 0 to sample; 0 is the strategy 'greedy'")
        if not 0 < self.value <= 2:
            raise ParameterError("value", "must be between 0 and 2")
        if not 0 <= self.spread <= 5:
            raise ParameterError("spread", "must be between 0 and 5")
        if not 0 <= self.exponent <= 10:
            raise ParameterError("exponent", "must be between 0 and 10")


class DynamicTemperature:
    """Divides the scores by a temperature that each row's entropy chooses."""

    Params = DynamicTemperatureParams

    def plan(self, asks: Sequence[Ask[DynamicTemperatureParams]]) -> "DynamicTemperaturePlan | None":
        busy = [ask for ask in asks if ask.params.spread > 0 or ask.params.value != 1]
        if not busy:
            return None
        return DynamicTemperaturePlan([ask.row.index for ask in busy], [ask.params for ask in busy])


class DynamicTemperaturePlan:
    """One range of temperatures a row."""

    def __init__(self, rows: Sequence[int], params: Sequence[DynamicTemperatureParams]) -> None:
        self._rows = RowSelection(rows)
        self._lows = [max(p.value - p.spread, 0.0) for p in params]
        self._highs = [p.value + p.spread for p in params]
        self._exponents = [p.exponent for p in params]

    def apply(self, scores: "Tensor") -> None:
        values = self._rows.take(scores)
        lows, highs, exponents = (
            float_tensor(scores, numbers).double()[:, None] for numbers in (self._lows, self._highs, self._exponents)
        )
        most = row_sums((values > float("-inf")).float()).log()
        # The only token left has no entropy to share in, 0 / 0; any temperature will do for it.
        share = (entropies(values.log_softmax(-1)) / most).nan_to_num_(0.0).clamp_(0.0, 1.0)
        temperatures = (lows + (highs - lows) * share**exponents).float().clamp_(min=SMALLEST)
        # The row's maximum goes first: a tiny T would otherwise overflow to inf, and inf - inf is no probability.
        # Adding 0 makes a maximum of 0 a positive zero: whether threads find that or a negative one first is chance.
        values.sub_(values.amax(-1, keepdim=True).clamp_(min=LOWEST).add_(0.0)).div_(temperatures)
        self._rows.put(scores, values)
