"""`Painter`: paints again after changes, but never so often that painting takes the time that reading needs."""

import asyncio
from collections.abc import Callable

# As often as an eye can tell apart, and at most a quarter of the time.
_LEAST_SECONDS = 0.04
_REST_PER_WORK = 3.0


class Painter:
    """Calls `paint` soon after each `changed`, many changes at once. `close` paints a last time, then never again."""

    def __init__(self, paint: Callable[[], None]) -> None:
        self._paint = paint
        self._loop = asyncio.get_running_loop()
        self._next = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._failure: Exception | None = None

    def changed(self) -> None:
        """
        Raises:
            Exception: what `paint` raised before; it ran where nobody could be told.
        """
        if self._failure is not None:
            raise self._failure
        if self._timer is None:
            self._timer = self._loop.call_at(max(self._next, self._loop.time()), self._run)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._paint()

    def _run(self) -> None:
        self._timer = None
        begun = self._loop.time()
        try:
            self._paint()
        except Exception as error:
            self._failure = error
        ended = self._loop.time()
        self._next = ended + max(_LEAST_SECONDS, _REST_PER_WORK * (ended - begun))
