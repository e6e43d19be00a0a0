"""`Life`: whether new requests are taken, and whether any are open."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Life:
    """Serving, then draining, once. Belongs to one event loop."""

    def __init__(self) -> None:
        self.is_draining = False
        self._num_open = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def open_request(self) -> Iterator[None]:
        """Counts a request as open while the block runs."""
        self._num_open += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._num_open -= 1
            if not self._num_open:
                self._idle.set()

    async def drain(self, timeout: float) -> bool:
        """Take no new requests and wait for the open ones; False if some are still open after `timeout` seconds."""
        self.is_draining = True
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except TimeoutError:
            return False
        return True
