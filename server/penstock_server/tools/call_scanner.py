"""`CallScanner`: reads one call, a JSON object like `{"name": "f", "arguments": {...}}`, as its text comes.

The arguments are given out as they are written, before the object has ended. Keys may come in any order; arguments that
come before the name wait for it.
"""

import json
from enum import Enum, auto

from penstock_server.text.pieces import CallArguments, CallBegun, Piece

ARGUMENTS = ("arguments", "parameters")


class _At(Enum):
    """Where in the object the next character stands."""

    OPENING = auto()
    KEY = auto()
    IN_KEY = auto()
    COLON = auto()
    VALUE = auto()
    IN_VALUE = auto()
    COMMA = auto()
    END = auto()


class CallScanner:
    """One object, number `index` among an answer's calls. Give it characters until `is_done` or `is_broken`."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._at = _At.OPENING
        self._key = ""
        self._value = ""  # of the key, as far as it has been read
        self._depth = 0  # inside the value
        self._in_string = self._is_escaped = False
        self._arguments = ""  # not given out yet
        self.name: str | None = None
        self.is_broken = False

    @property
    def is_done(self) -> bool:
        return self._at is _At.END

    def consume(self, text: str) -> tuple[int, list[Piece]]:
        """How many characters were read, all of them unless the object ended or broke; and what they told."""
        pieces: list[Piece] = []
        for count, character in enumerate(text):
            was_named = self.name is not None
            self._read(character)
            if self.name is not None and not was_named:
                pieces.append(CallBegun(self._index, self.name))
            if self.is_broken or self.is_done:
                return count + self.is_done, [*pieces, *self._argue()]
        return len(text), [*pieces, *self._argue()]

    def _argue(self) -> list[Piece]:
        if self.name is None or not self._arguments:
            return []
        arguments, self._arguments = self._arguments, ""
        return [CallArguments(self._index, arguments)]

    def _read(self, character: str) -> None:
        match self._at:
            case _At.IN_KEY:
                self._key += character
                if self._string_ends(character):
                    self._at = _At.COLON
            case _At.IN_VALUE:
                self._read_value(character)
            case _ if character.isspace():
                pass
            case _At.OPENING if character == "{":
                self._at = _At.KEY
            case _At.KEY if character == '"':
                self._at, self._key, self._in_string = _At.IN_KEY, '"', True
            case _At.KEY | _At.COMMA if character == "}":
                self._at = _At.END
            case _At.COLON if character == ":":
                self._at = _At.VALUE
            case _At.VALUE:
                self._at, self._key, self._value, self._depth = _At.IN_VALUE, _loaded(self._key), "", 0
                self._read_value(character)
            case _At.COMMA if character == ",":
                self._at = _At.KEY
            case _:
                self.is_broken = True

    def _read_value(self, character: str) -> None:
        ends_before = not self._in_string and self._depth == 0 and (character in ",}]" or character.isspace())
        if ends_before:
            self._end_value()
            self._read(character)
            return
        self._take(character)
        if self._in_string:
            if self._string_ends(character) and self._depth == 0:
                self._end_value()
        elif character == '"':
            self._in_string = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
            if self._depth == 0:
                self._end_value()

    def _string_ends(self, character: str) -> bool:
        if self._is_escaped:
            self._is_escaped = False
        elif character == "\\":
            self._is_escaped = True
        elif character == '"':
            self._in_string = False
            return True
        return False

    def _take(self, character: str) -> None:
        if self._key in ARGUMENTS:
            self._arguments += character
        else:
            self._value += character

    def _end_value(self) -> None:
        self._at = _At.COMMA
        if self._key == "name":
            name = _loaded(self._value)
            self.name, self.is_broken = (name, False) if name else (None, True)


def _loaded(text: str) -> str:
    """The string that this JSON text is; "" if it is none."""
    try:
        value = json.loads(text)
    except ValueError:
        return ""
    return value if isinstance(value, str) else ""
