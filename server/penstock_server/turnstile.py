"""`Turnstile`: so many requests begin in one turn of the event loop, and the others wait in line.

To read and plan a request holds the loop up for most of a millisecond. A thousand that come at once would hold up every
running stream for all of that together; like this the streams go on in between.
"""

import asyncio
from collections import deque


class Turnstile:
    """Belongs to one event loop."""

    def __init__(self, per_turn: int) -> None:
        self._per_turn = self._num_left = per_turn
        self._line: deque[asyncio.Future[None]] = deque()
        self._is_planned = False

    async def enter(self) -> None:
        """Wait for one's turn; first come, first served."""
        loop = asyncio.get_running_loop()
        if not self._is_planned:
            self._is_planned = True
            loop.call_soon(self._turn)
        if self._num_left:
            self._num_left -= 1
            return
        place: asyncio.Future[None] = loop.create_future()
        self._line.append(place)
        await place

    def _turn(self) -> None:
        self._num_left = self._per_turn
        while self._line and self._num_left:
            place = self._line.popleft()
            if not place.done():  # else whoever waited has gone
                place.set_result(None)
                self._num_left -= 1
        self._is_planned = bool(self._line)
        if self._is_planned:
            asyncio.get_running_loop().call_soon(self._turn)
