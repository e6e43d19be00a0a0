"""`NamesTexts`: parameters that name texts, and `TextEncoder`, which turns them into token ids.

The engine knows no text: whoever has a tokenizer gives `read_decoding` an encoder, and in a `DecodingParams` no text
that stands for tokens is left.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable


class TextEncoder(Protocol):
    """Texts to the token ids that a model would write them with; no special token is added."""

    def at_start(self, text: str) -> Sequence[int]:
        """As the beginning of an answer."""
        ...

    def within(self, text: str) -> Sequence[int]:
        """In the midst of an answer: these very characters, without a space that a tokenizer puts before a text."""
        ...

    def holding(self, text: str) -> Sequence[int]:
        """Every token, but special ones, that holds these characters, whatever else it holds."""
        ...


@runtime_checkable
class NamesTexts(Protocol):
    """Parameters that can name texts instead of token ids."""

    @property
    def has_texts(self) -> bool:
        """Whether they do."""
        ...

    def with_token_ids(self, encoder: TextEncoder) -> Any:
        """The same parameters with the texts' token ids, and without the texts.

        Raises:
            ParameterError: a text has no tokens, or what the texts become is out of range.
        """
        ...
