"""Bad words: token sequences that an answer must not contain.

A sequence's last token is excluded wherever the tokens before it, those of the prompt included, are the rest of the
sequence. As transformers' `bad_words_ids`: a word that is nothing but one of the request's stop tokens is passed over.
A word that excludes all that is left fails the request: see `exclusion.py`.

A text is excluded as its token sequences at the start of an answer, behind a space and behind anything else; a model
that spells it with other tokens is not hindered.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from penstock_decoding.errors import ParameterError
from penstock_decoding.per_params import PerParams
from penstock_decoding.processor import Ask, Row
from penstock_decoding.processors.exclusion import Entries, ExcludeTokens
from penstock_decoding.texts import TextEncoder

MAX_WORDS = 4096
MAX_TOKENS = 256
"""Of one word."""
MAX_CHARACTERS = 1024
"""Of one text."""


@dataclass(frozen=True, slots=True)
class BadWordsParams:
    """`words`: token sequences, at most 4096 of at most 256 tokens. `texts`: likewise, of at most 1024 characters."""

    words: tuple[tuple[int, ...], ...] = field(
        default=(),
        metadata={"maxItems": MAX_WORDS, "items": {"minItems": 1, "maxItems": MAX_TOKENS, "items": {"minimum": 0}}},
    )
    texts: tuple[str, ...] = field(
        default=(), metadata={"maxItems": MAX_WORDS, "items": {"minLength": 1, "maxLength": MAX_CHARACTERS}}
    )

    def __post_init__(self) -> None:
        if len(self.words) > MAX_WORDS:
            raise ParameterError("words", f"must be at most {MAX_WORDS} words")
        for i, word in enumerate(self.words):
            if not 0 < len(word) <= MAX_TOKENS:
                raise ParameterError(f"words[{i}]", f"must have 1 to {MAX_TOKENS} tokens")
        if len(self.texts) > MAX_WORDS:
            raise ParameterError("texts", f"must be at most {MAX_WORDS} texts")
        for i, text in enumerate(self.texts):
            if not 0 < len(text) <= MAX_CHARACTERS or text.isspace():
                raise ParameterError(f"texts[{i}]", f"must have 1 to {MAX_CHARACTERS} characters, not only spaces")

    @property
    def has_texts(self) -> bool:
        return bool(self.texts)

    def with_token_ids(self, encoder: TextEncoder) -> "BadWordsParams":
        """The texts as token sequences: as written and with a space before them."""
        words = list(self.words)
        for text in self.texts:
            bare = text.lstrip(" ")
            forms = (encoder.at_start(text), encoder.within(text), encoder.within(bare), encoder.within(" " + bare))
            words += [tuple(form) for form in forms]
        return dataclasses.replace(self, words=tuple(dict.fromkeys(words)), texts=())

    def named_tokens(self) -> Iterable[int]:
        return (token for word in self.words for token in word)


class WordEnds:
    """The last tokens of words, by what stands before them."""

    def __init__(self, params: BadWordsParams) -> None:
        self._after: dict[tuple[int, ...], list[int]] = {}
        for word in params.words:
            self._after.setdefault(word[:-1], []).append(word[-1])
        self._lengths = sorted({len(start) for start in self._after})

    def after(self, row: Row) -> list[int]:
        """The tokens that would complete a word."""
        tail = _tail(row, self._lengths[-1]) if self._lengths else ()
        ends: list[int] = []
        for length in self._lengths:
            if length > len(tail):
                break
            found = self._after.get(tail[len(tail) - length :], ())
            # Before the first token of a word stands nothing: such a word is one token.
            ends += found if length else [token for token in found if token not in row.stop_token_ids]
        return ends


class BadWords:
    """Excludes the tokens that would complete a bad word."""

    Params = BadWordsParams

    def __init__(self) -> None:
        self._word_ends = PerParams(WordEnds)

    def plan(self, asks: Sequence[Ask[BadWordsParams]]) -> ExcludeTokens | None:
        parts = [(ask.row.index, self._word_ends.of(ask.params).after(ask.row)) for ask in asks]
        return ExcludeTokens(Entries(parts)) if any(ends for _, ends in parts) else None


def _tail(row: Row, length: int) -> tuple[int, ...]:
    """The sequence's last `length` tokens, or all of them if they are fewer."""
    output = tuple(row.output[max(len(row.output) - length, 0) :])
    missing = length - len(output)
    return tuple(row.prompt[max(len(row.prompt) - missing, 0) :]) + output if missing else output
