"""`unless_gone`: work for a client that is given up as soon as the client has gone."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from starlette.requests import Request

T = TypeVar("T")

# nginx's code for a request whose client has gone; nobody reads it but the log and the metrics.
CLIENT_CLOSED_REQUEST = 499


async def unless_gone(request: Request, work: Coroutine[None, None, T]) -> T | None:
    """What the work gives, or None as soon as the client has gone; the work is cancelled then."""
    doing = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait({doing, gone}, return_when=asyncio.FIRST_COMPLETED)
        return await doing if doing.done() else None
    finally:
        doing.cancel()
        gone.cancel()
        await asyncio.gather(doing, gone, return_exceptions=True)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
