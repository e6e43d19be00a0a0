"""`TextCodec`: what `LLM` needs of a tokenizer to speak text. The engine package itself knows only token ids."""

from collections.abc import Sequence
from typing import Protocol

from penstock_decoding.grammar.vocabulary import Vocabulary
from penstock_decoding.texts import TextEncoder


class TextStream(Protocol):
    """One answer on its way from tokens to text."""

    def push(self, token_ids: Sequence[int]) -> tuple[str, bool]:
        """The text these tokens add, and whether a stop string has ended the answer (it is not part of the text)."""
        ...

    def finish(self) -> str:
        """The text held back so far; the answer is over."""
        ...


class TextCodec(Protocol):
    """Text to token ids and back."""

    def encode(self, text: str) -> list[int]: ...

    def vocabulary(self) -> Vocabulary | None:
        """The bytes of every token; None if tokens have none of their own."""
        ...

    def encoder(self) -> TextEncoder:
        """Token ids of texts that are parts of an answer."""
        ...

    def open_stream(self, stop: Sequence[str] = ()) -> TextStream:
        """A new answer that ends before the first of these strings."""
        ...
