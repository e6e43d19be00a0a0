"""What an answer in a chat is made of: text, reasoning, and calls of tools; and the parser that tells them apart.

A parser gets an answer's text in pieces and gives pieces of its parts. Invariant: what it gives, joined, does not
depend on how the text was cut.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Content:
    """More of what is said."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """More of what is thought."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegun:
    """A call of a tool; the answer's calls are numbered from 0."""

    call: int
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """More of a call's arguments, the text of a JSON object."""

    call: int
    text: str


Piece = Content | Reasoning | CallBegun | CallArguments


class AnswerParser(Protocol):
    """One answer's parts, as its text comes."""

    def push(self, text: str) -> list[Piece]:
        """What is certain now."""
        ...

    def finish(self) -> list[Piece]:
        """What was held back, now that no more text follows."""
        ...


class PlainParser:
    """For models that only speak: all of it is content."""

    def push(self, text: str) -> list[Piece]:
        return [Content(text)] if text else []

    def finish(self) -> list[Piece]:
        return []


def num_begun(text: str, mark: str) -> int:
    """Length of the longest suffix of `text` that is a proper prefix of `mark`."""
    at = text.find(mark[0], max(0, len(text) - len(mark) + 1))
    while at >= 0:
        if mark.startswith(text[at:]):
            return len(text) - at
        at = text.find(mark[0], at + 1)
    return 0
