"""Top-n-sigma: tokens whose score is within n standard deviations of the largest one stay.

The deviation is that of the scores of all tokens not excluded. A temperature divides it as it divides the scores, so
which tokens stay does not depend on the temperature. Source: Tang et al., "Top-nsigma: Not All Logits Are You Need"
(2024); as in llama.cpp, excluded tokens do not count.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.processors.row_sums import row_sums
from penstock_decoding.tensors import RowSelection, float_tensor

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class TopNSigmaParams:
    """`deviations`: n, above 0 and at most 100. 0, or -1 as llama.cpp writes it, keeps every token."""

    deviations: float = field(metadata={"anyOf": [{"minimum": 0, "maximum": 100}, {"const": -1}]})

    def __post_init__(self) -> None:
        if not (0 <= self.deviations <= 100 or self.deviations == -1):
            raise ParameterError("deviations", "must be above 0 and at most 100, or -1 to keep every token")


class TopNSigma:
    """Excludes tokens too many standard deviations below each row's largest score."""

    Params = TopNSigmaParams

    def plan(self, asks: Sequence[Ask[TopNSigmaParams]]) -> "TopNSigmaPlan | None":
        limited = [ask for ask in asks if ask.params.deviations > 0]
        if not limited:
            return None
        return TopNSigmaPlan([ask.row.index for ask in limited], [ask.params.deviations for ask in limited])


class TopNSigmaPlan:
    """One n a row."""

    def __init__(self, rows: Sequence[int], deviations: Sequence[float]) -> None:
        self._rows = RowSelection(rows)
        self._deviations = deviations

    def apply(self, scores: "Tensor") -> None:
        values = self._rows.take(scores)
        depth = values - values.amax(-1, keepdim=True)  # at most 0, -inf where excluded
        is_excluded = depth == float("-inf")
        count = row_sums((~is_excluded).float())
        mean = row_sums(depth.masked_fill(is_excluded, 0.0)) / count
        spread = (depth - mean.float()).masked_fill_(is_excluded, 0.0)
        deviation = (row_sums(spread.square_()) / count).sqrt().float()
        values.masked_fill_(depth < -deviation * float_tensor(scores, self._deviations)[:, None], float("-inf"))
        self._rows.put(scores, values)
