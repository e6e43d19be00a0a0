"""`Vocabulary`: what each token id contributes to a text. One per tokenizer, filled as ids are met.

There are two kinds, because there are two ways a decoder turns tokens into text. In a byte-level vocabulary a token is
bytes, and the text is all bytes together read as UTF-8. In a piece vocabulary a token is characters; only byte-fallback
tokens (`<0xE4>`) are bytes, and a run of them is a text only as a whole. Both agree with `tokenizers` exactly, which
`text/detokenizer.py` relies on. Other decoders (CTC, WordPiece) belong to no decoder-only model and are refused.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import tokenizers

from penstock_server.text.errors import TokenizerError


@dataclass(slots=True)
class ByteVocabulary:
    """Byte-level BPE. `piece(id)` is the token's bytes, empty for a special token (it is never shown)."""

    lookup: Callable[[int], str | None]
    special_ids: frozenset[int]
    pieces: dict[int, bytes] = field(default_factory=dict)

    def piece(self, token_id: int) -> bytes:
        known = self.pieces.get(token_id)
        if known is None:
            known = self.pieces[token_id] = b"" if token_id in self.special_ids else self.own_bytes(token_id)
        return known

    def own_bytes(self, token_id: int) -> bytes:
        """The bytes that the token stands for, also of a special token; empty for an id without a token."""
        token = self.lookup(token_id)
        if token is None:
            return b""
        try:
            return bytes(map(_BYTE_OF_CHARACTER.__getitem__, token))
        except KeyError:  # an added token written in plain characters
            return token.encode()


@dataclass(frozen=True, slots=True)
class PieceRules:
    """How a piece vocabulary reads its tokens.

    Attributes:
        replacements: (pattern, content) applied to each token in order.
        has_byte_fallback: tokens like `<0xE4>` are bytes.
        num_stripped: how many leading `stripped` characters a text loses at its very start.
        first_drops: a character that the first token loses wherever it stands in it; "" for none.
        separator: stands between tokens.
    """

    replacements: tuple[tuple[str, str], ...] = ()
    has_byte_fallback: bool = False
    stripped: str = ""
    num_stripped: int = 0
    first_drops: str = ""
    separator: str = ""


@dataclass(slots=True)
class PieceVocabulary:
    """SentencePiece and its like. `piece(id)` is the token's text, an int for a byte, None for one never shown."""

    lookup: Callable[[int], str | None]
    special_ids: frozenset[int]
    rules: PieceRules
    pieces: dict[int, str | int | None] = field(default_factory=dict)

    def piece(self, token_id: int) -> str | int | None:
        if token_id not in self.pieces:
            self.pieces[token_id] = None if token_id in self.special_ids else self._read(token_id)
        return self.pieces[token_id]

    def first_piece(self, token_id: int) -> str:
        """The text of a token that is not a byte and opens a text."""
        token = self.lookup(token_id) or ""
        return self._replaced(token.replace(self.rules.first_drops, "") if self.rules.first_drops else token)

    def own_bytes(self, token_id: int) -> bytes:
        """The bytes that the token stands for, also of a special token; empty for an id without a token."""
        piece = self._read(token_id)
        if piece is None:
            return b""
        return bytes([piece]) if isinstance(piece, int) else piece.encode()

    def _read(self, token_id: int) -> str | int | None:
        token = self.lookup(token_id)
        if token is None:
            return None
        text = self._replaced(token)
        byte = _fallback_byte(text) if self.rules.has_byte_fallback else None
        return text if byte is None else byte

    def _replaced(self, token: str) -> str:
        for pattern, content in self.rules.replacements:
            token = token.replace(pattern, content)
        return token


Vocabulary = ByteVocabulary | PieceVocabulary


def showing_special(vocabulary: Vocabulary, shown: frozenset[int] | None = None) -> Vocabulary:
    """The same vocabulary, in whose texts these special tokens are written out; None: all of them."""
    hidden = frozenset() if shown is None else vocabulary.special_ids - shown
    if isinstance(vocabulary, ByteVocabulary):
        return replace(vocabulary, special_ids=hidden, pieces={})
    return replace(vocabulary, special_ids=hidden, pieces={})


def read_vocabulary(tokenizer: tokenizers.Tokenizer) -> Vocabulary:
    """The vocabulary of a tokenizer, by the decoder it names.

    Raises:
        TokenizerError: the decoder is none that decoder-only models use.
    """
    special_ids = frozenset(i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special)
    steps = _flat(json.loads(tokenizer.decoder.__getstate__())) if tokenizer.decoder is not None else []
    if [step["type"] for step in steps] == ["ByteLevel"]:
        return ByteVocabulary(tokenizer.id_to_token, special_ids)
    return PieceVocabulary(tokenizer.id_to_token, special_ids, _read_rules(steps))


def _flat(decoder: dict[str, Any]) -> list[dict[str, Any]]:
    if decoder["type"] == "Sequence":
        return [step for inner in decoder["decoders"] for step in _flat(inner)]
    return [decoder]


def _read_rules(steps: list[dict[str, Any]]) -> PieceRules:
    match steps:
        case []:
            return PieceRules(separator=" ")
        case [{"type": "Metaspace", "replacement": replacement, "prepend_scheme": scheme}]:
            return PieceRules(((replacement, " "),), first_drops="" if scheme == "never" else replacement)
    replacements: list[tuple[str, str]] = []
    has_byte_fallback = is_fused = False
    stripped, num_stripped = "", 0
    for step in steps:
        match step:
            case {"type": "Replace", "pattern": {"String": pattern}, "content": content} if not is_fused:
                replacements.append((pattern, content))
                if has_byte_fallback:
                    raise _unknown(step)
            case {"type": "ByteFallback"} if not is_fused:
                has_byte_fallback = True
            case {"type": "Fuse"}:
                is_fused = True
            case {"type": "Strip", "content": character, "start": start, "stop": 0} if is_fused and not num_stripped:
                stripped, num_stripped = character, start
            case _:
                raise _unknown(step)
    return PieceRules(tuple(replacements), has_byte_fallback, stripped, num_stripped)


def _unknown(step: dict[str, Any]) -> TokenizerError:
    return TokenizerError(f"tokenizer.json has a decoder that cannot be streamed: {json.dumps(step)}")


def _fallback_byte(token: str) -> int | None:
    # As `tokenizers` reads it: six bytes long, and the two in the middle are hexadecimal.
    if len(token) != 6 or not token.startswith("<0x") or not token.endswith(">"):
        return None
    try:
        return int(token[3:5], 16)
    except ValueError:
        return None


def _byte_of_character() -> dict[str, int]:
    # GPT-2's table (bytes_to_unicode): printable bytes are themselves, the others follow from U+0100 on.
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    table = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if chr(byte) not in table]
    return table | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTE_OF_CHARACTER = _byte_of_character()
