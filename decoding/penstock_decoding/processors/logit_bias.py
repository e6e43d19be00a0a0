"""Logit bias: a number added to the scores of named tokens. OpenAI's field, with its range of -100 to 100."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.tensors import float_tensor, index_tensor

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class LogitBiasParams:
    """`bias`: token id to the number added to its score, each between -100 and 100."""

    bias: dict[int, float] = field(metadata={"additionalProperties": {"minimum": -100, "maximum": 100}})

    def __post_init__(self) -> None:
        for token, value in self.bias.items():
            if not -100 <= value <= 100:
                raise ParameterError("bias", f"the bias of token {token} must be between -100 and 100")

    def named_tokens(self) -> Iterable[int]:
        return self.bias


class LogitBias:
    """Adds each row's biases to its scores."""

    Params = LogitBiasParams

    def plan(self, asks: Sequence[Ask[LogitBiasParams]]) -> "LogitBiasPlan | None":
        entries = [(ask.row.index, token, value) for ask in asks for token, value in ask.params.bias.items()]
        return LogitBiasPlan(*zip(*entries, strict=True)) if entries else None


class LogitBiasPlan:
    """Entries (row, token, value) to add."""

    def __init__(self, rows: Sequence[int], tokens: Sequence[int], values: Sequence[float]) -> None:
        self._rows = rows
        self._tokens = tokens
        self._values = values

    def apply(self, scores: "Tensor") -> None:
        entries = (index_tensor(scores, self._rows), index_tensor(scores, self._tokens))
        scores.index_put_(entries, float_tensor(scores, self._values), accumulate=True)
