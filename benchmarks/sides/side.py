"""What every side of an offline comparison can do, and the terms on which it is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Terms:
    """What is the same for all sides. Lengths in tokens.

    `max_rows`: answers computed together at most. `max_length`: prompt and answer together. `cache_tokens`: room for
    keys and values, of the sides that set it aside beforehand.
    """

    dtype: str
    threads: int
    max_rows: int
    max_length: int
    cache_tokens: int


class Side(Protocol):
    """A way of answering many prompts. Greedy; no token ends an answer before its length."""

    def load(self, folder: str, terms: Terms) -> dict[str, Any]:
        """Load the checkpoint and say how: versions, attention, number of parameters."""
        ...

    def answer(self, prompts: Sequence[Sequence[int]], lengths: Sequence[int]) -> list[list[int]]:
        """Answers of exactly these lengths, in the order of the prompts."""
        ...

    def unload(self) -> None:
        """Let the checkpoint go, so that another one can be loaded."""
        ...
