"""Top-p (nucleus): the smallest set of likeliest tokens whose mass reaches p stays.

A token stays while the mass of all likelier ones is below p; tokens tied with the last one that stays, stay too.
Source: Holtzman et al., "The Curious Case of Neural Text Degeneration" (2020), section 3.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.tensors import RowSelection, float_tensor

if TYPE_CHECKING:
    from torch import Tensor

# A nucleus rarely holds more tokens than this, and selecting this many costs a fraction of sorting a vocabulary.
FIRST_LOOK = 256


@dataclass(frozen=True, slots=True)
class TopPParams:
    """`mass`: p, above 0 and at most 1."""

    mass: float

    def __post_init__(self) -> None:
        if not 0 < self.mass <= 1:
            raise ParameterError("mass", "must be above 0 and at most 1")


class TopP:
    """Excludes what lies outside each row's nucleus."""

    Params = TopPParams

    def plan(self, asks: Sequence[Ask[TopPParams]]) -> "TopPPlan | None":
        limited = [ask for ask in asks if ask.params.mass < 1]
        if not limited:
            return None
        return TopPPlan([ask.row.index for ask in limited], [ask.params.mass for ask in limited])


class TopPPlan:
    """One p a row."""

    def __init__(self, rows: Sequence[int], masses: Sequence[float]) -> None:
        self._rows = RowSelection(rows)
        self._masses = masses

    def apply(self, scores: "Tensor") -> None:
        values = self._rows.take(scores)
        masses = float_tensor(scores, self._masses)[:, None]
        values.masked_fill_(values < _nucleus_floor(values, masses), float("-inf"))
        self._rows.put(scores, values)


def _nucleus_floor(values: "Tensor", masses: "Tensor") -> "Tensor":
    """The lowest score inside each row's nucleus, [rows, 1]."""
    likeliest = values.topk(min(FIRST_LOOK, values.shape[-1]), dim=-1).values
    # Not logsumexp: its sum is split among threads when the rows are few, so it rounds by what shares the batch.
    total = likeliest[:, :1] - values.log_softmax(-1).amax(-1, keepdim=True)
    reached = (likeliest - total).exp().cumsum(-1)
    is_wide = (reached[:, -1:] < masses).squeeze(-1)
    floor = _floor_of(likeliest, reached, masses)
    # Reading this flag costs nothing on a CPU. On a GPU it is a host synchronisation, which a fused kernel avoids.
    if bool(is_wide.any()) and values.shape[-1] > FIRST_LOOK:
        wide = is_wide.nonzero().squeeze(-1)
        everything = values[wide].sort(dim=-1, descending=True).values
        mass = (everything - total[wide]).exp().cumsum(-1)
        floor[wide] = _floor_of(everything, mass, masses[wide])
    return floor


def _floor_of(ordered: "Tensor", reached: "Tensor", masses: "Tensor") -> "Tensor":
    """From scores in descending order and the mass up to and with each: the last one kept, [rows, 1]."""
    num_kept = (reached < masses).sum(-1, keepdim=True) + 1  # the token that reaches p is inside
    return ordered.gather(-1, (num_kept - 1).clamp_(max=ordered.shape[-1] - 1))
