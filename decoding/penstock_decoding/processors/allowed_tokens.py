"""Allowed tokens: all tokens but the ones listed are excluded.

vLLM's `allowed_token_ids`. Stop tokens are excluded too unless they are listed: then the answer ends by its length. A
list of which nothing is left fails the request: see `exclusion.py`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from penstock_decoding.errors import ParameterError
from penstock_decoding.per_params import PerParams
from penstock_decoding.processor import Ask
from penstock_decoding.processors.exclusion import NEVER
from penstock_decoding.tensors import RowSelection, index_tensor

if TYPE_CHECKING:
    from torch import Tensor

MAX_TOKENS = 2**20


@dataclass(frozen=True, slots=True)
class AllowedTokensParams:
    """`tokens`: ids of the tokens that stay, at least one."""

    tokens: tuple[int, ...] = field(metadata={"minItems": 1, "maxItems": MAX_TOKENS, "items": {"minimum": 0}})

    def __post_init__(self) -> None:
        if not 0 < len(self.tokens) <= MAX_TOKENS:
            raise ParameterError("tokens", f"must name 1 to {MAX_TOKENS} tokens")

    def named_tokens(self) -> Iterable[int]:
        return self.tokens


class AllowedTokens:
    """Excludes what is not listed."""

    Params = AllowedTokensParams

    def __init__(self) -> None:
        self._tokens = PerParams(_distinct)

    def plan(self, asks: Sequence[Ask[AllowedTokensParams]]) -> "AllowedTokensPlan":
        # All rows of a request hold the same object.
        rows: dict[int, list[int]] = {}
        tokens: dict[int, NDArray[np.int64]] = {}
        for ask in asks:
            rows.setdefault(id(ask.params), []).append(ask.row.index)
            tokens[id(ask.params)] = self._tokens.of(ask.params)
        return AllowedTokensPlan([(rows[key], tokens[key]) for key in rows])


class AllowedTokensPlan:
    """Rows by the tokens that stay in them."""

    def __init__(self, parts: Sequence[tuple[Sequence[int], NDArray[np.int64]]]) -> None:
        self._parts = [(RowSelection(rows), tokens) for rows, tokens in parts]

    def apply(self, scores: "Tensor") -> None:
        for rows, tokens in self._parts:
            is_excluded = scores.new_ones(scores.shape[-1]).index_fill_(0, index_tensor(scores, tokens), 0.0).bool()
            values = rows.take(scores)
            values.masked_fill_(is_excluded, NEVER)
            rows.put(scores, values)


def _distinct(params: AllowedTokensParams) -> NDArray[np.int64]:
    return np.unique(np.asarray(params.tokens, np.int64))
