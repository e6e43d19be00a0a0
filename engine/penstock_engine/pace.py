"""`Pace`: how fast requests finish, to tell a refused client when to come back."""

import math
import time

SMOOTHING = 0.1
LONGEST_WAIT = 60


class Pace:
    """An exponential mean of the seconds between finished requests."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._interval = 1.0

    def finished(self) -> None:
        """One request has just ended."""
        now = time.monotonic()
        if self._last is not None:
            self._interval += SMOOTHING * (now - self._last - self._interval)
        self._last = now

    def seconds_for(self, num_requests: int) -> int:
        """Whole seconds in which about so many requests end, at least 1."""
        return min(max(math.ceil(self._interval * num_requests), 1), LONGEST_WAIT)
