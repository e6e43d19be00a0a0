"""`Vocabulary`: the bytes that each token id adds to an answer's text."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The bytes of every token, by id; empty for one that adds no text: a special token, or an id without a token.

    `special`: (name, id) of the tokens that are never text but that a grammar may ask for by name, like `<|call|>`.
    """

    tokens: tuple[bytes, ...]
    special: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of_bytes(cls) -> "Vocabulary":
        """Token i is the byte i: the vocabulary of a model that reads and writes bytes."""
        return cls(tuple(bytes([byte]) for byte in range(256)))

    def resized(self, num_tokens: int) -> "Vocabulary":
        """The vocabulary of a model that scores `num_tokens` tokens: it can have more than its tokenizer, or fewer."""
        missing = num_tokens - len(self.tokens)
        special = tuple((name, token) for name, token in self.special if token < num_tokens)
        return Vocabulary((*self.tokens[:num_tokens], *[b""] * missing), special)


# A byte that no UTF-8 text holds; the parser marks special tokens with it.
_MARK = b"\xff"


class ParserTokens:
    """A vocabulary in the shape that llguidance reads. Tokens are matched by their bytes alone, never re-encoded."""

    is_tokenizer_wrapper = True
    eos_token_id = None  # the parser then adds a token of its own, whose bit says that the answer may end
    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary) -> None:
        tokens = [b"" if token.startswith(_MARK) else token for token in vocabulary.tokens]
        for name, token in vocabulary.special:
            tokens[token] = name.encode()
        self.tokens: Sequence[bytes] = tokens
        self.special_token_ids = [token for _, token in vocabulary.special]

    def __call__(self, text: bytes) -> list[int]:
        raise AssertionError("no grammar here asks for text to be encoded")
