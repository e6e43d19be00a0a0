"""Top-H: the largest set of likeliest tokens whose entropy stays within a share of the whole distribution's.

Two readings of that. "transformers" (its `TopHLogitsWarper`): of the 100 likeliest tokens, renormalised, those stay
whose terms -p log p add up to at most share * H of the hundred. "paper": those stay that, renormalised among
themselves, have an entropy of at most share * H of all tokens; it grows with every token added, so the set ends before
the first that is too many. Either way the likeliest token stays, and so do tokens tied with the last one that does.

Source: Potraghloo, Azizi, Kundu, Pedram, "Top-H Decoding: Adapting the Creativity and Coherence with Bounded Entropy in
Text Generation" (2025).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.processors.row_sums import LOWEST, entropies
from penstock_decoding.tensors import RowSelection, float_tensor

if TYPE_CHECKING:
    from torch import Tensor

NUM_CONSIDERED = 100  # by transformers
FIRST_LOOK = 256  # for the paper's rule; as for top-p, mostly enough and much cheaper than sorting a vocabulary

Rule = Literal["transformers", "paper"]


@dataclass(frozen=True, slots=True)
class TopHParams:
    """`share`: of the entropy, above 0 and at most 1 (keeps every token); 0.4 in the paper. `rule`: which reading."""

    share: float = field(metadata={"exclusiveMinimum": 0, "maximum": 1})
    rule: Rule = "transformers"

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ParameterError("share", "must be above 0 and at most 1")


class TopH:
    """Excludes what would bring too much entropy into each row's set of likeliest tokens."""

    Params = TopHParams

    def plan(self, asks: Sequence[Ask[TopHParams]]) -> "TopHPlan | None":
        limited = [ask for ask in asks if ask.params.share < 1]
        if not limited:
            return None
        return TopHPlan(limited)


class TopHPlan:
    """One share a row; the rows of each rule together."""

    def __init__(self, asks: Sequence[Ask[TopHParams]]) -> None:
        by_rule: dict[Rule, list[Ask[TopHParams]]] = {}
        for ask in asks:
            by_rule.setdefault(ask.params.rule, []).append(ask)
        self._parts = [
            (rule, RowSelection([ask.row.index for ask in part]), [ask.params.share for ask in part])
            for rule, part in by_rule.items()
        ]

    def apply(self, scores: "Tensor") -> None:
        for rule, rows, numbers in self._parts:
            values, shares = rows.take(scores), float_tensor(scores, numbers)[:, None]
            floor = _floor_by_terms(values, shares) if rule == "transformers" else _floor_by_set(values, shares)
            values.masked_fill_(values < floor, float("-inf"))
            rows.put(scores, values)


def _floor_by_terms(values: "Tensor", shares: "Tensor") -> "Tensor":
    """The lowest score that stays by transformers' rule, [rows, 1]."""
    likeliest = values.topk(min(NUM_CONSIDERED, values.shape[-1]), dim=-1).values
    reached = _terms(likeliest.log_softmax(-1)).cumsum(-1)
    return _floor_of(likeliest, reached, shares * reached[:, -1:])


def _floor_by_set(values: "Tensor", shares: "Tensor") -> "Tensor":
    """The lowest score that stays by the paper's rule, [rows, 1]."""
    logprobs = values.log_softmax(-1)
    allowed = shares * entropies(logprobs)
    ids = values.topk(min(FIRST_LOOK, values.shape[-1]), dim=-1).indices
    ordered = logprobs.gather(-1, ids)
    reached = _prefix_entropies(ordered)
    floor = _floor_of(values.gather(-1, ids), reached, allowed)
    is_wide = (reached[:, -1:] <= allowed).squeeze(-1)
    # Reading this flag costs nothing on a CPU. On a GPU it is a host synchronisation, which a fused kernel avoids.
    if values.shape[-1] > FIRST_LOOK and bool(is_wide.any()):
        wide = is_wide.nonzero().squeeze(-1)
        everything, ids = values[wide].sort(dim=-1, descending=True)
        floor[wide] = _floor_of(everything, _prefix_entropies(logprobs[wide].gather(-1, ids)), allowed[wide])
    return floor


def _terms(logprobs: "Tensor") -> "Tensor":
    """-p log p in float64; 0 for what is excluded."""
    return -(logprobs.exp() * logprobs.clamp(min=LOWEST)).double()


def _prefix_entropies(ordered: "Tensor") -> "Tensor":
    """From log-probabilities, likeliest first: the entropy of each prefix, renormalised, in float64."""
    mass = ordered.exp().double().cumsum(-1)
    return _terms(ordered).cumsum(-1) / mass + mass.log()


def _floor_of(ordered: "Tensor", reached: "Tensor", allowed: "Tensor") -> "Tensor":
    """From scores in descending order and the entropy up to and with each: the last one that stays, [rows, 1]."""
    num_kept = (reached <= allowed).sum(-1, keepdim=True)
    return ordered.gather(-1, (num_kept - 1).clamp_(min=0))
