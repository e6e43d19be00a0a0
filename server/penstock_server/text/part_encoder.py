"""`PartEncoder`: texts that stand for a part of an answer, like words to ban or to require, to token ids.

A tokenizer encodes a text as if it were the whole. SentencePiece ones put a space before it, which would be one space
too many wherever the text does not begin an answer: then its tokens are taken from behind another text.
"""

from penstock_server.text.tokenizer import Tokenizer

# A line break, which most vocabularies join with nothing; else characters that most words do not begin with.
_BEFORE = ("\n", ".", "0", "~")


class PartEncoder:
    """A `TextEncoder`. `is_continuation`: the answer goes on after a text (completions), so that its first characters
    count as they are."""

    def __init__(self, tokenizer: Tokenizer, *, is_continuation: bool) -> None:
        self._tokenizer = tokenizer
        self._is_continuation = is_continuation

    def at_start(self, text: str) -> list[int]:
        """The token ids of `text` as the beginning of an answer."""
        return self.within(text) if self._is_continuation else self._encode(text)

    def within(self, text: str) -> list[int]:
        """The token ids of `text` in the midst of an answer. If the tokenizer cannot write these very characters
        (it changes capitals, say), what it makes of the text by itself."""
        alone = self._encode(text)
        if self._spells(alone, text):
            return alone
        for before in _BEFORE:
            start, both = self._encode(before), self._encode(before + text)
            rest = both[len(start) :]
            if both[: len(start)] == start and self._spells(rest, text):
                return rest
        return alone

    def holding(self, text: str) -> tuple[int, ...]:
        """Every token, but special ones, that holds these characters."""
        return self._tokenizer.holding(text)

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False)

    def _spells(self, token_ids: list[int], text: str) -> bool:
        return b"".join(map(self._tokenizer.own_bytes, token_ids)) == text.encode()
