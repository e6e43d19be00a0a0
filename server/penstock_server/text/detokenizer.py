"""Incremental decoding: token ids in, pieces of text out, for one answer.

Invariant: the pieces joined with `finish()` are exactly `tokenizer.decode(ids)`, special tokens skipped. No piece
splits a character, and U+FFFD is given out only when no later token could have made it a character.
"""

import codecs
import copy
from typing import Protocol

from penstock_server.text.vocabulary import ByteVocabulary, PieceVocabulary, Vocabulary


class Detokenizer(Protocol):
    """The text of one answer so far."""

    def push(self, token_id: int) -> str:
        """The text that is certain once this token is known; may be empty."""
        ...

    def finish(self) -> str:
        """The rest: what an unfinished character decodes to."""
        ...

    def num_held_before(self, token_id: int) -> int:
        """Characters of earlier tokens that are still held, should this token come next: its own text begins behind
        them. Exact but inside a run of byte tokens that a later one makes ill-formed."""
        ...

    def copy(self) -> "Detokenizer":
        """An independent copy."""
        ...


def open_detokenizer(vocabulary: Vocabulary, *, is_continuation: bool = False) -> Detokenizer:
    """A decoder for one answer.

    Args:
        is_continuation: the answer goes on after a text, so that it keeps the leading space which a SentencePiece
            tokenizer drops at the start of a text: it equals decode(prompt + answer) without decode(prompt).
    """
    if isinstance(vocabulary, ByteVocabulary):
        return ByteDetokenizer(vocabulary)
    return PieceDetokenizer(vocabulary, is_at_start=not is_continuation)


class ByteDetokenizer:
    """For byte-level vocabularies. Python's incremental decoder and Rust's `from_utf8_lossy`, which `tokenizers` uses,
    both replace each maximal ill-formed part by one U+FFFD (Unicode 15, section 3.9)."""

    __slots__ = ("_decode", "_decoder", "_vocabulary")

    def __init__(self, vocabulary: ByteVocabulary) -> None:
        self._vocabulary = vocabulary
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._decode = self._decoder.decode

    def push(self, token_id: int) -> str:
        return self._decode(self._vocabulary.piece(token_id))

    def finish(self) -> str:
        return self._decode(b"", True)

    def num_held_before(self, token_id: int) -> int:
        # An unfinished character becomes one U+FFFD as soon as something else follows than its next byte.
        piece = self._vocabulary.piece(token_id)
        is_cut = bool(piece) and not 0x80 <= piece[0] <= 0xBF
        return int(is_cut and bool(self._decoder.getstate()[0]))

    def copy(self) -> "ByteDetokenizer":
        twin = ByteDetokenizer(self._vocabulary)
        twin._decoder.setstate(self._decoder.getstate())
        return twin


class PieceDetokenizer:
    """For piece vocabularies. A run of byte tokens is held until it ends: `tokenizers` reads the run as UTF-8 as a
    whole and, if any of it is ill-formed, replaces every byte of it."""

    __slots__ = ("_is_at_start", "_num_to_strip", "_run", "_separator", "_vocabulary")

    def __init__(self, vocabulary: PieceVocabulary, *, is_at_start: bool) -> None:
        self._vocabulary = vocabulary
        self._run = bytearray()
        self._is_at_start = is_at_start
        self._num_to_strip = vocabulary.rules.num_stripped if is_at_start else 0
        self._separator = vocabulary.rules.separator

    def push(self, token_id: int) -> str:
        piece = self._vocabulary.piece(token_id)
        if piece is None:
            return ""
        if isinstance(piece, int):
            self._run.append(piece)
            return ""
        text = self._end_run() if self._run else ""
        if self._is_at_start:
            self._is_at_start = False
            text += piece if text else self._vocabulary.first_piece(token_id)
        else:
            text += self._separator + piece
        return self._strip(text) if self._num_to_strip else text

    def finish(self) -> str:
        text = self._end_run() if self._run else ""
        return self._strip(text) if self._num_to_strip else text

    def num_held_before(self, token_id: int) -> int:
        if not self._run:
            return 0
        if isinstance(self._vocabulary.piece(token_id), str):  # it ends the run
            return len(self.copy().finish())
        try:
            return len(codecs.getincrementaldecoder("utf-8")().decode(bytes(self._run)))
        except UnicodeDecodeError:
            return len(self._run)

    def copy(self) -> "PieceDetokenizer":
        twin = copy.copy(self)
        twin._run = bytearray(self._run)
        return twin

    def _end_run(self) -> str:
        run = bytes(self._run)
        self._run.clear()
        try:
            return run.decode()
        except UnicodeDecodeError:
            return "\ufffd" * len(run)

    def _strip(self, text: str) -> str:
        character = self._vocabulary.rules.stripped
        while text and self._num_to_strip:
            if text[0] != character:
                self._num_to_strip = 0
                break
            text = text[1:]
            self._num_to_strip -= 1
        return text
