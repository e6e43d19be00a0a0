"""`EventStream`: server-sent events as an HTTP response. What is pushed is written in the same turn of the event loop.

A push wakes no task up: where our HTTP protocol serves, the bytes go straight to the connection (`WRITE`). While that
takes no more, they wait here, and go out together as soon as it does. Invariant: what was pushed goes out in order,
whole, and before the end, or the client has gone.
"""

import asyncio
import contextvars
from collections.abc import Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from penstock_server.http_protocol import WRITE

PING = b": ping\n\n"

# Caches keep no copy, and nginx holds nothing back to send it in larger pieces.
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

_Write = Callable[[bytes], bool]


class EventStream(Response):
    """One stream, for one call. `begin` is called when the status is on its way: pushing makes sense from then on."""

    def __init__(self, begin: Callable[[], None], *, ping_interval: float) -> None:
        """`ping_interval`: seconds of silence before a comment says that the server is there; 0: never."""
        super().__init__(headers=_HEADERS, media_type="text/event-stream")
        # The length of what is to come is not known, and not that of nothing.
        del self.headers["content-length"]
        self._loop = asyncio.get_running_loop()
        self._begin = begin
        self._ping_interval = ping_interval
        self._write: _Write = _refuse
        self._pending: list[bytes] = []
        self._is_flushing = False
        self._context = contextvars.copy_context()
        self._is_ended = False
        # What the sender waits for while it has nothing to send, and nothing that it sends is on its way.
        self._wanted: asyncio.Future[None] | None = None
        self._spoke_at = 0.0
        self._pinging: asyncio.TimerHandle | None = None

    def push(self, events: bytes) -> None:
        """Send these events, with whatever else is pushed in this turn of the event loop."""
        if not events:
            return
        self._pending.append(events)
        if self._wanted is not None and not self._is_flushing:
            self._is_flushing = True
            self._loop.call_soon(self._flush, context=self._context)

    def end(self) -> None:
        """Nothing follows what was pushed."""
        self._is_ended = True
        self._wake()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Returns when all is sent or the client has gone."""
        sending = asyncio.create_task(self._send(scope, send))
        gone = asyncio.create_task(_disconnect(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                await sending
        finally:
            self._wanted = None
            if self._pinging is not None:
                self._pinging.cancel()
            sending.cancel()
            gone.cancel()
            await asyncio.gather(sending, gone, return_exceptions=True)

    async def _send(self, scope: Scope, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        self._write = scope.get("extensions", {}).get(WRITE, {}).get("write", _refuse)
        self._spoke_at = self._loop.time()
        self._plan_ping()
        self._begin()
        is_last = False
        while not is_last:
            if not self._pending and not self._is_ended:
                self._wanted = self._loop.create_future()
                await self._wanted
            events, self._pending, is_last = b"".join(self._pending), [], self._is_ended
            await send({"type": "http.response.body", "body": events, "more_body": not is_last})
            self._spoke_at = self._loop.time()

    def _flush(self) -> None:
        self._is_flushing = False
        if self._wanted is None:
            return  # the sender takes it all
        if self._write(b"".join(self._pending)):
            self._pending.clear()
            self._spoke_at = self._loop.time()
        else:
            self._wake()

    def _wake(self) -> None:
        if self._wanted is not None:
            self._wanted.set_result(None)
            self._wanted = None

    def _plan_ping(self) -> None:
        if self._ping_interval:
            now, due = self._loop.time(), self._spoke_at + self._ping_interval
            self._pinging = self._loop.call_at(due if due > now else now + self._ping_interval, self._ping)

    def _ping(self) -> None:
        # If there is something to send, it waits for a client that would not read a ping either.
        if self._wanted is not None and self._loop.time() >= self._spoke_at + self._ping_interval:
            self.push(PING)
        self._plan_ping()


def _refuse(events: bytes) -> bool:
    return False


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
