"""Locally typical sampling: the tokens whose surprise is nearest to the expected one stay, until their mass reaches p.

A token stays while the mass of all tokens nearer to the entropy is below p; what is as near as the last one that stays,
stays too. The likeliest token may go. Source: Meister, Pimentel, Wiher, Cotterell, "Locally Typical Sampling" (2023).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.processors.row_sums import entropies
from penstock_decoding.tensors import RowSelection, float_tensor

if TYPE_CHECKING:
    from torch import Tensor

# So many tokens are selected at first and, where they do not reach p, next; only then are all of them put in order.
LOOKS = (256, 4096)


@dataclass(frozen=True, slots=True)
class TypicalParams:
    """`mass`: p, above 0 and at most 1 (keeps every token)."""

    mass: float = field(metadata={"exclusiveMinimum": 0, "maximum": 1})

    def __post_init__(self) -> None:
        if not 0 < self.mass <= 1:
            raise ParameterError("mass", "must be above 0 and at most 1")


class Typical:
    """Excludes what is too likely or too unlikely beside each row's entropy."""

    Params = TypicalParams

    def plan(self, asks: Sequence[Ask[TypicalParams]]) -> "TypicalPlan | None":
        limited = [ask for ask in asks if ask.params.mass < 1]
        if not limited:
            return None
        return TypicalPlan([ask.row.index for ask in limited], [ask.params.mass for ask in limited])


class TypicalPlan:
    """One p a row."""

    def __init__(self, rows: Sequence[int], masses: Sequence[float]) -> None:
        self._rows = RowSelection(rows)
        self._masses = masses

    def apply(self, scores: "Tensor") -> None:
        values = self._rows.take(scores)
        logprobs = values.log_softmax(-1)
        distance = (logprobs + entropies(logprobs).float()).abs_()  # of -log p from the entropy
        masses = float_tensor(scores, self._masses)[:, None]
        values.masked_fill_(distance > _typical_reach(distance, logprobs, masses), float("-inf"))
        self._rows.put(scores, values)


def _typical_reach(
    distance: "Tensor", logprobs: "Tensor", masses: "Tensor", looks: tuple[int, ...] = LOOKS
) -> "Tensor":
    """How far from the entropy a token may be in each row, [rows, 1]."""
    vocab_size = distance.shape[-1]
    look = min(looks[0], vocab_size) if looks else vocab_size
    nearest, ids = distance.topk(look, dim=-1, largest=False)
    reached = logprobs.gather(-1, ids).exp().cumsum(-1)
    num_kept = (reached < masses).sum(-1, keepdim=True) + 1  # the token that reaches p is inside
    reach = nearest.gather(-1, (num_kept - 1).clamp_(max=look - 1))
    is_wide = (reached[:, -1:] < masses).squeeze(-1)
    # Reading this flag costs nothing on a CPU. On a GPU it is a host synchronisation, which a fused kernel avoids.
    if look < vocab_size and bool(is_wide.any()):
        wide = is_wide.nonzero().squeeze(-1)
        reach[wide] = _typical_reach(distance[wide], logprobs[wide], masses[wide], looks[1:])
    return reach
