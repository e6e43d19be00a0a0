"""Top-p (nucleus): the smallest set of likeliest tokens whose mass reaches p stays.

A token stays while the mass of all likelier ones is below p; tokens tied with the last one that stays, stay too.
Source: Holtzman et al., "The Curious Case of Neural Text Degeneration" (2020), section 3.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock_decoding.errors import ParameterError
from penstock_decoding.largest import largest_values
from penstock_decoding.processor import Ask
from penstock_decoding.tensors import RowSelection, exclude_below, float_tensor

if TYPE_CHECKING:
    from torch import Tensor

# A nucleus rarely holds more tokens than this, and selecting this many costs a fraction of sorting a vocabulary.
FIRST_LOOK = 256
# Scores of a wider one are told apart by 1/64 nat first; 64 nats below the likeliest there is no mass to speak of.
BINS_PER_NAT = 64
NUM_BINS = 4096
# Of 128256 tokens, 16 MB each of weights and of bins.
ROWS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class TopPParams:
    """`mass`: p, above 0 and at most 1."""

    mass: float = field(metadata={"exclusiveMinimum": 0, "maximum": 1})

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
        exclude_below(values, _nucleus_floor(values, self._masses))
        self._rows.put(scores, values)


def _nucleus_floor(values: "Tensor", masses: Sequence[float]) -> "Tensor":
    """The lowest score inside each row's nucleus, [rows, 1]. Masses are told in units of the likeliest token's."""
    wanted = float_tensor(values, masses)[:, None]
    likeliest = largest_values(values, min(FIRST_LOOK, values.shape[-1]))
    reached = (likeliest - likeliest[:, :1]).exp().cumsum(-1)
    total = reached[:, -1:].clone()
    # After top-k the first look has seen all that is left; other rows' mass has to be summed.
    # Reading such flags costs nothing on a CPU. On a GPU it is a host synchronisation, which a fused kernel avoids.
    is_more_left = (likeliest[:, -1:] > float("-inf")).squeeze(-1) & (values.shape[-1] > FIRST_LOOK)
    if bool(is_more_left.any()):
        more = is_more_left.nonzero().squeeze(-1)
        rest = values if len(more) == len(values) else values[more]
        # Not logsumexp: its sum is split among threads when the rows are few, so it rounds by what shares the batch.
        total[more] = (-rest.log_softmax(-1).amax(-1, keepdim=True)).exp()
    floor = _floor_of(likeliest, reached, wanted * total)
    is_wide = is_more_left & (reached[:, -1:] < wanted * total).squeeze(-1)
    wide = is_wide.nonzero().squeeze(-1)
    for start in range(0, len(wide), ROWS_AT_ONCE):
        rows = wide[start : start + ROWS_AT_ONCE]
        floor[rows] = _wide_floor(values[rows], wanted[rows])
    return floor


def _wide_floor(values: "Tensor", masses: "Tensor") -> "Tensor":
    """The lowest score inside the nucleus of rows in which it is wider than the first look, [rows, 1].

    Without sorting the vocabulary: the mass is added up in bins of scores, in order of the token ids, and only what is
    in the bin in which p is reached is put in order.
    """
    below = values.amax(-1, keepdim=True) - values
    bins = below.mul_(BINS_PER_NAT).clamp_(max=NUM_BINS - 1).long()
    weights = values.softmax(-1).double()
    reached = weights.new_zeros(len(values), NUM_BINS).scatter_add_(1, bins, weights).cumsum(-1)
    target = masses * reached[:, -1:]
    last = (reached < target).sum(-1, keepdim=True)
    is_inside = bins == last
    num_inside = is_inside.sum(-1, keepdim=True)
    inside, ids = values.where(is_inside, float("-inf")).topk(int(num_inside.amax()), dim=-1)
    own = weights.gather(-1, ids).where(inside > float("-inf"), 0.0)
    before = reached.gather(-1, (last - 1).clamp_(min=0)).where(last > 0, 0.0)
    place = (own.cumsum(-1) + before < target).sum(-1, keepdim=True)
    return inside.gather(-1, place.minimum(num_inside - 1))


def _floor_of(ordered: "Tensor", reached: "Tensor", masses: "Tensor") -> "Tensor":
    """From scores in descending order and the mass up to and with each: the last one kept, [rows, 1]."""
    num_kept = (reached < masses).sum(-1, keepdim=True) + 1  # the token that reaches p is inside
    return ordered.gather(-1, (num_kept - 1).clamp_(max=ordered.shape[-1] - 1))
