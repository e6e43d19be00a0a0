"""Reading a request's body: no further than the limit, and a large one off the event loop."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request

from penstock_server.errors import BadRequest, BodyTooLarge

Body = TypeVar("Body")

# Parsing and checking run at tens of MB/s: a larger body would hold up every stream for milliseconds.
_LARGE = 64 * 1024

# What these headers may say. Nothing is unpacked: a few bytes of gzip can be gigabytes of JSON.
_ENCODINGS = {"content-encoding": "identity", "transfer-encoding": "chunked"}


async def read_body(request: Request, max_bytes: int, read: Callable[[bytes], Body]) -> Body:
    """The body of a JSON request, as `read` makes it of the bytes.

    Raises:
        BadRequest: it says it is something else than JSON, or encoded, or what `read` raises.
        ClientDisconnect: the client went away before it had sent all.
        BodyTooLarge: it is longer than `max_bytes`; no more than that was kept.
    """
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise BadRequest("the Content-Type must be application/json", code="invalid_content_type")
    for name, plain in _ENCODINGS.items():
        encoding = request.headers.get(name, plain).strip().lower()
        if encoding != plain:
            raise BadRequest(f"the body must be sent as it is, not as {encoding!r}", code="invalid_encoding")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise _too_large(max_bytes)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    return await read_bytes(bytes(body), read)


async def read_bytes(body: bytes, read: Callable[[bytes], Body]) -> Body:
    """What `read` makes of the bytes, off the event loop if they are many."""
    return await asyncio.to_thread(read, body) if len(body) > _LARGE else read(body)


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {max_bytes} bytes", headers={"Connection": "close"})
