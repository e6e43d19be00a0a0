"""`StopStrings`: finds stop strings in a text that arrives in pieces.

Knows nothing of tokens. Invariants: what it lets through does not depend on how the text is cut into pieces, never
holds a stop string or a part of the one that matched (unless told to include that one), and lags behind by at most the
longest suffix that could still begin one. The match that is complete first wins; of two complete at the same character,
the longer.
"""

from collections.abc import Sequence

from penstock_server.text.pieces import num_begun


class StopStrings:
    """The state of one text. Once one has `matched`, nothing more is let through."""

    __slots__ = ("_held", "_is_included", "_stops", "matched")

    def __init__(self, stops: Sequence[str], *, is_included: bool = False) -> None:
        """`stops` are not empty strings. `is_included`: the one that matches is let through, as the last."""
        self._stops = tuple(stops)
        self._is_included = is_included
        self._held = ""
        self.matched: str | None = None

    @property
    def is_matched(self) -> bool:
        return self.matched is not None

    def push(self, text: str) -> str:
        """The text that is certainly not part of a stop string, now that `text` follows."""
        if self.is_matched or not text:
            return ""
        seen = self._held + text
        matches = [(at + len(stop), at) for stop in self._stops if (at := seen.find(stop)) >= 0]
        if matches:
            end, start = min(matches)
            self.matched = seen[start:end]
            self._held = ""
            return seen[: end if self._is_included else start]
        num_held = max((num_begun(seen, stop) for stop in self._stops), default=0)
        cut = len(seen) - num_held
        self._held = seen[cut:]
        return seen[:cut]

    def release(self) -> str:
        """The text still held, now that no more follows."""
        held, self._held = self._held, ""
        return held
