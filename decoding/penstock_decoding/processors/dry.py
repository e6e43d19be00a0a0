"""DRY, don't repeat yourself: a token that would continue a repetition is penalised, the more the longer that is.

If the last m tokens stand earlier too, followed there by the token t, and m is the largest such number, the score of t
falls by `multiplier` * `base` ** (m - `allowed_length`), provided that m is at least `allowed_length`. A match does not
reach back over a breaker (a line break, a colon, ...), nor out of the last `range` tokens; prompt and answer count
alike; a token that is a breaker is never penalised.

Source: p-e-w, text-generation-webui pull request 5677 (2024), as in koboldcpp and llama.cpp. There the longest of
several breakers that begin together counts; here it is the one that ends last, wherever it begins.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from penstock_decoding.errors import ParameterError
from penstock_decoding.per_params import PerParams
from penstock_decoding.processor import Ask, Row
from penstock_decoding.processors.repeats import History, extended_matches, suffix_matches
from penstock_decoding.tensors import float_tensor, index_tensor
from penstock_decoding.texts import TextEncoder

if TYPE_CHECKING:
    from torch import Tensor

USUAL_BREAKERS = ("\n", ":", '"', "*")
MAX_BREAKERS = 2**16
MAX_BREAKER_TOKENS = 64
MAX_BREAKER_CHARACTERS = 64
MAX_TEXTS = 64
MAX_TOKENS = 2**24
MAX_PENALTY = 1e30
"""Far below the largest float32, so that no score becomes infinite."""


@dataclass(frozen=True, slots=True)
class DryParams:
    """`multiplier` from 0 (off) to 100, `base` from 1 to 100, `allowed_length` from 1. `range`: how many of the last
    tokens are looked at; -1 for all, 0 for none.

    `breakers`: token sequences, at most 65536 of at most 64 tokens; `breaker_texts`: at most 64 texts of at most 64
    characters, by default line break, colon, quote and asterisk, or none if `breakers` are given.
    """

    multiplier: float = field(default=0.8, metadata={"minimum": 0, "maximum": 100})
    base: float = field(default=1.75, metadata={"minimum": 1, "maximum": 100})
    allowed_length: int = field(default=2, metadata={"minimum": 1, "maximum": MAX_TOKENS})
    range: int = field(default=-1, metadata={"minimum": -1, "maximum": MAX_TOKENS})
    breakers: tuple[tuple[int, ...], ...] = field(
        default=(),
        metadata={
            "maxItems": MAX_BREAKERS,
            "items": {"minItems": 1, "maxItems": MAX_BREAKER_TOKENS, "items": {"minimum": 0}},
        },
    )
    breaker_texts: tuple[str, ...] | None = field(
        default=None, metadata={"maxItems": MAX_TEXTS, "items": {"minLength": 1, "maxLength": MAX_BREAKER_CHARACTERS}}
    )

    def __post_init__(self) -> None:
        if not 0 <= self.multiplier <= 100:
            raise ParameterError("multiplier", "must be between 0 and 100")
        if not 1 <= self.base <= 100:
            raise ParameterError("base", "must be between 1 and 100")
        if not 1 <= self.allowed_length <= MAX_TOKENS:
            raise ParameterError("allowed_length", f"must be between 1 and {MAX_TOKENS}")
        if not -1 <= self.range <= MAX_TOKENS:
            raise ParameterError("range", f"must be between 0 and {MAX_TOKENS}, or -1 for all tokens")
        if len(self.breakers) > MAX_BREAKERS:
            raise ParameterError("breakers", f"must be at most {MAX_BREAKERS} sequences")
        for i, breaker in enumerate(self.breakers):
            if not 0 < len(breaker) <= MAX_BREAKER_TOKENS:
                raise ParameterError(f"breakers[{i}]", f"must have 1 to {MAX_BREAKER_TOKENS} tokens")
        texts = self._texts
        if len(texts) > MAX_TEXTS:
            raise ParameterError("breaker_texts", f"must be at most {MAX_TEXTS} texts")
        for i, text in enumerate(texts):
            if not 0 < len(text) <= MAX_BREAKER_CHARACTERS:
                raise ParameterError(f"breaker_texts[{i}]", f"must have 1 to {MAX_BREAKER_CHARACTERS} characters")

    @property
    def has_texts(self) -> bool:
        return self.multiplier > 0 and bool(self._texts)

    @property
    def _texts(self) -> tuple[str, ...]:
        if self.breaker_texts is None:
            return () if self.breakers else USUAL_BREAKERS
        return self.breaker_texts

    def with_token_ids(self, encoder: TextEncoder) -> "DryParams":
        """The texts as token sequences, and every token that holds one of them."""
        breakers = list(self.breakers)
        for text in self._texts:
            breakers += [tuple(encoder.within(text)), *((token,) for token in encoder.holding(text))]
        return dataclasses.replace(self, breakers=tuple(dict.fromkeys(breakers)), breaker_texts=())

    def named_tokens(self) -> Iterable[int]:
        return (token for breaker in self.breakers for token in breaker)


class Breakers:
    """Token sequences that end every repetition."""

    def __init__(self, params: DryParams) -> None:
        self.single = frozenset(breaker[0] for breaker in params.breakers if len(breaker) == 1)
        self._longer: dict[int, list[tuple[int, ...]]] = {}
        for breaker in params.breakers:
            if len(breaker) > 1:
                self._longer.setdefault(breaker[-1], []).append(breaker)

    def last_end(self, tokens: NDArray[np.int64], since: int) -> int | None:
        """The place of the last token of the breaker that ends last, at or after `since`."""
        for back, token in enumerate(reversed(tokens[since:].tolist())):
            end = len(tokens) - 1 - back
            if token in self.single or any(_ends_with(tokens, end, b) for b in self._longer.get(token, ())):
                return end
        return None


class Repetition:
    """One sequence, and how long each earlier stretch of it agrees with its end; grows with the answer."""

    def __init__(self, prompt: Sequence[int]) -> None:
        self._history = History(prompt)
        # Never changed in place: a fork shares it.
        self._matches: NDArray[np.int32] | None = None
        self._num_known = 0
        self._break_end = -1

    def catch_up(self, output: Sequence[int], breakers: Breakers) -> None:
        """Take in what was appended to the answer since the last call."""
        self._history.catch_up(output)
        tokens = self._history.tokens
        if self._matches is None:
            self._matches = suffix_matches(tokens)
        else:
            for end in range(self._num_known + 1, len(tokens) + 1):
                self._matches = extended_matches(self._matches, tokens[:end])
        found = breakers.last_end(tokens, self._num_known)
        self._break_end = self._break_end if found is None else found
        self._num_known = len(tokens)

    def continuations(self, params: DryParams) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Each token that would continue a repetition, once, and the length of the longest one."""
        tokens, matches = self._history.tokens, self._matches
        assert matches is not None, "catch_up comes first"
        start = 0 if params.range < 0 else max(len(tokens) - params.range, 0)
        num_unbroken = len(tokens) - 1 - self._break_end
        ends = np.flatnonzero(matches[start:] >= params.allowed_length) + start
        lengths = np.minimum(matches[ends], np.minimum(ends - start + 1, num_unbroken))
        is_long = lengths >= params.allowed_length
        following = tokens[ends[is_long] + 1]
        # By token id and not by sorting: in a loop, nearly every token of a long context follows a match.
        longest = np.zeros(following.max(initial=-1) + 1, np.int64)
        np.maximum.at(longest, following, lengths[is_long])
        distinct = np.flatnonzero(longest)
        return distinct, longest[distinct]

    def rollback(self, num_kept: int) -> None:
        """Forget what the answer holds beyond its first `num_kept` tokens."""
        self._history.rollback(num_kept)
        if len(self._history.tokens) < self._num_known:
            self._matches, self._num_known, self._break_end = None, 0, -1

    def copy(self) -> "Repetition":
        """An independent copy."""
        twin = Repetition(())
        twin._history = self._history.copy()
        twin._matches, twin._num_known, twin._break_end = self._matches, self._num_known, self._break_end
        return twin


class Dry:
    """Penalises tokens that would continue a repetition. Remembers each sequence's matches by slot."""

    Params = DryParams

    def __init__(self) -> None:
        self._repetitions: dict[int, Repetition] = {}
        self._breakers = PerParams(Breakers)

    def plan(self, asks: Sequence[Ask[DryParams]]) -> "DryPlan | None":
        entries: list[tuple[int, int, float]] = []
        for ask in asks:
            params = ask.params
            if params.multiplier == 0 or params.range == 0:
                continue
            breakers = self._breakers.of(params)
            found = self._repetition_of(ask.row, breakers).continuations(params)
            entries += [
                (ask.row.index, token, _penalty(params, length))
                for token, length in zip(*(column.tolist() for column in found), strict=True)
                if token not in breakers.single
            ]
        return DryPlan(*zip(*entries, strict=True)) if entries else None

    def _repetition_of(self, row: Row, breakers: Breakers) -> Repetition:
        repetition = self._repetitions.get(row.slot)
        if repetition is None:
            repetition = self._repetitions[row.slot] = Repetition(row.prompt)
        repetition.catch_up(row.output, breakers)
        return repetition

    def fork(self, source: int, target: int) -> None:
        if source in self._repetitions:
            self._repetitions[target] = self._repetitions[source].copy()

    def rollback(self, slot: int, num_kept: int) -> None:
        if slot in self._repetitions:
            self._repetitions[slot].rollback(num_kept)

    def release(self, slot: int) -> None:
        self._repetitions.pop(slot, None)


class DryPlan:
    """Entries (row, token) and what is subtracted; each entry stands once."""

    def __init__(self, rows: Sequence[int], tokens: Sequence[int], penalties: Sequence[float]) -> None:
        self._rows = rows
        self._tokens = tokens
        self._penalties = penalties

    def apply(self, scores: "Tensor") -> None:
        entries = (index_tensor(scores, self._rows), index_tensor(scores, self._tokens))
        scores.index_put_(entries, scores[entries] - float_tensor(scores, self._penalties))


def _penalty(params: DryParams, length: int) -> float:
    exponent = (length - params.allowed_length) * math.log(params.base)
    if exponent > math.log(MAX_PENALTY):
        return MAX_PENALTY
    return min(params.multiplier * params.base ** (length - params.allowed_length), MAX_PENALTY)


def _ends_with(tokens: NDArray[np.int64], end: int, sequence: tuple[int, ...]) -> bool:
    start = end + 1 - len(sequence)
    return start >= 0 and tuple(tokens[start : end + 1].tolist()) == sequence
