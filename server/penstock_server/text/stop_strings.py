"""`StopStrings`: finds stop strings in a text that arrives in pieces.

Knows nothing of tokens. Invariants: what it lets through does not depend on how the text is cut into pieces, never
holds a stop string or a part of the one that matched, and lags behind by at most the longest suffix that could still
begin one. The match that is complete first wins; of two complete at the same character, the longer.
"""

from collections.abc import Sequence


class StopStrings:
    """The state of one text. Once `is_matched`, nothing more is let through."""

    __slots__ = ("_held", "_stops", "is_matched")

    def __init__(self, stops: Sequence[str]) -> None:
        """`stops` are not empty strings."""
        self._stops = tuple(stops)
        self._held = ""
        self.is_matched = False

    def push(self, text: str) -> str:
        """The text that is certainly not part of a stop string, now that `text` follows."""
        if self.is_matched or not text:
            return ""
        seen = self._held + text
        matches = [(at + len(stop), at) for stop in self._stops if (at := seen.find(stop)) >= 0]
        if matches:
            self.is_matched = True
            self._held = ""
            return seen[: min(matches)[1]]
        num_held = max((_num_begun(seen, stop) for stop in self._stops), default=0)
        cut = len(seen) - num_held
        self._held = seen[cut:]
        return seen[:cut]

    def release(self) -> str:
        """The text still held, now that no more follows."""
        held, self._held = self._held, ""
        return held


def _num_begun(text: str, stop: str) -> int:
    """Length of the longest suffix of `text` that is a proper prefix of `stop`."""
    at = text.find(stop[0], max(0, len(text) - len(stop) + 1))
    while at >= 0:
        if stop.startswith(text[at:]):
            return len(text) - at
        at = text.find(stop[0], at + 1)
    return 0
