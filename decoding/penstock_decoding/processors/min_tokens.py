"""min_tokens: no token that ends the answer is chosen before it has so many others, as in transformers and vLLM."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.tensors import index_tensor

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class MinTokensParams:
    """`count`: tokens an answer has at least before the one that ends it."""

    count: int

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ParameterError("count", "must be at least 0")


class MinTokens:
    """Excludes the request's stop tokens while the answer is too short."""

    Params = MinTokensParams

    def plan(self, asks: Sequence[Ask[MinTokensParams]]) -> "MinTokensPlan | None":
        short = [ask.row for ask in asks if len(ask.row.output) < ask.params.count]
        pairs = [(row.index, token) for row in short for token in row.stop_token_ids]
        return MinTokensPlan(*zip(*pairs, strict=True)) if pairs else None


class MinTokensPlan:
    """Entries (row, token) to exclude."""

    def __init__(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        self._rows = rows
        self._tokens = tokens

    def apply(self, scores: "Tensor") -> None:
        entries = (index_tensor(scores, self._rows), index_tensor(scores, self._tokens))
        scores.index_put_(entries, scores.new_tensor(float("-inf")))
