"""No repeated n-gram: no `size` tokens follow one another twice, those of the prompt included.

Paulus, Xiong, Socher, "A Deep Reinforced Model for Abstractive Summarization" (2018), section 2.5; the rule is that of
transformers' `no_repeat_ngram_size`. A stop token is excluded like any other, if it would repeat an n-gram: one that a
chat template writes after every message should not be (give a larger size). A row of which nothing is left fails its
request: see `exclusion.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.processors.exclusion import Entries, ExcludeTokens
from penstock_decoding.processors.repeats import Histories

MAX_SIZE = 256


@dataclass(frozen=True, slots=True)
class NoRepeatNgramParams:
    """`size`: n, from 1 (no token twice) to 256; 0 excludes nothing."""

    size: int = field(metadata={"minimum": 0, "maximum": MAX_SIZE})

    def __post_init__(self) -> None:
        if not 0 <= self.size <= MAX_SIZE:
            raise ParameterError("size", f"must be between 1 and {MAX_SIZE}, or 0 to exclude nothing")


class NoRepeatNgram:
    """Excludes the tokens that would repeat an n-gram. Remembers each sequence's tokens by slot."""

    Params = NoRepeatNgramParams

    def __init__(self) -> None:
        self._histories = Histories()

    def plan(self, asks: Sequence[Ask[NoRepeatNgramParams]]) -> ExcludeTokens | None:
        parts = [
            (ask.row.index, followers(self._histories.of(ask.row).tokens, ask.params.size - 1))
            for ask in asks
            if ask.params.size
        ]
        return ExcludeTokens(Entries(parts)) if any(tokens.size for _, tokens in parts) else None

    def fork(self, source: int, target: int) -> None:
        self._histories.fork(source, target)

    def rollback(self, slot: int, num_kept: int) -> None:
        self._histories.rollback(slot, num_kept)

    def release(self, slot: int) -> None:
        self._histories.release(slot)


def followers(tokens: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """What follows, wherever they stand, the last `length` of these tokens; a token may be there several times."""
    if length == 0:
        return tokens
    last = len(tokens) - 1
    if last < length:
        return tokens[:0]
    ends = np.flatnonzero(tokens[length - 1 : last] == tokens[last]) + (length - 1)
    for back in range(1, length):
        if not ends.size:
            break
        ends = ends[tokens[ends - back] == tokens[last - back]]
    return tokens[ends + 1]
