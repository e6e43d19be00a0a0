"""`AnswerText`: one answer's tokens to its visible text: detokeniser, then stop strings."""

import copy
from collections.abc import Sequence

from penstock_server.text.detokenizer import Detokenizer
from penstock_server.text.stop_strings import StopStrings


class AnswerText:
    """One answer's text as it grows.

    `num_characters` counts all decoded characters, also those held back or cut off by a stop string. Stop strings are
    looked for only in what follows the first `min_tokens` tokens.
    """

    __slots__ = ("_detokenizer", "_num_unwatched", "_stops", "num_characters")

    def __init__(
        self, detokenizer: Detokenizer, stop: Sequence[str] = (), min_tokens: int = 0, *, includes_stop: bool = False
    ) -> None:
        self._detokenizer = detokenizer
        self._stops = StopStrings(stop, is_included=includes_stop) if stop else None
        self._num_unwatched = min_tokens if stop else 0
        self.num_characters = 0

    @property
    def is_stopped(self) -> bool:
        """A stop string has matched."""
        return self._stops is not None and self._stops.is_matched

    @property
    def stopped_by(self) -> str | None:
        """The stop string that has matched."""
        return None if self._stops is None else self._stops.matched

    def offset_of(self, token_id: int) -> int:
        """Where this token's part of the text would begin, should it come next."""
        return self.num_characters + self._detokenizer.num_held_before(token_id)

    def push_one(self, token_id: int) -> str:
        """The visible text that this token settles; may be empty."""
        text = self._detokenizer.push(token_id)
        self.num_characters += len(text)
        if self._stops is None:
            return text
        if self._num_unwatched:
            self._num_unwatched -= 1
            return text
        return self._stops.push(text)

    def push(self, token_ids: Sequence[int]) -> tuple[str, bool]:
        """The visible text that these tokens settle, and whether a stop string has matched; the rest is not read."""
        pieces = []
        for token_id in token_ids:
            pieces.append(self.push_one(token_id))
            if self.is_stopped:
                break
        return "".join(pieces), self.is_stopped

    def peek(self, token_ids: Sequence[int]) -> str:
        """The text that would follow if these tokens did, up to a stop string; nothing is changed by asking."""
        twin = copy.copy(self)
        twin._detokenizer = self._detokenizer.copy()
        twin._stops = copy.copy(self._stops)
        text, is_stopped = twin.push(token_ids)
        return text if is_stopped or twin._stops is None else text + twin._stops.release()

    def finish(self) -> str:
        """The text still held back, now that no token follows. Nothing after a stop string has matched.

        The rest of an unfinished character may itself complete a stop string: then `is_stopped` turns true.
        """
        rest = self._detokenizer.finish()
        self.num_characters += len(rest)
        if self._stops is None:
            return rest
        return self._stops.push(rest) + self._stops.release()
