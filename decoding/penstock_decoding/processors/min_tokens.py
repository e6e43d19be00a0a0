"""min_tokens: no token that ends the answer is chosen before it has so many others, as in transformers and vLLM."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.processors.exclusion import Entries, ExcludeTokens


@dataclass(frozen=True, slots=True)
class MinTokensParams:
    """`count`: tokens an answer has at least before the one that ends it."""

    count: int = field(metadata={"minimum": 0})

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ParameterError("count", "must be at least 0")


class MinTokens:
    """Excludes the request's stop tokens while the answer is too short."""

    Params = MinTokensParams

    def plan(self, asks: Sequence[Ask[MinTokensParams]]) -> ExcludeTokens | None:
        short = [ask.row for ask in asks if len(ask.row.output) < ask.params.count and ask.row.stop_token_ids]
        return ExcludeTokens(Entries([(row.index, row.stop_token_ids) for row in short])) if short else None
