"""The floor: a server that does nothing but write, one chunk after another to every stream that asked.

    python -m front.bare_server NUM_BYTES NUM_CHUNKS

In each turn of the event loop each open stream gets one chunk of so many bytes, made beforehand, framing included: what
writing costs on this machine when nothing has to be parsed, computed or rendered. Prints its URL.
"""

import asyncio
import sys
from typing import cast

import uvloop

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_LAST = b"0\r\n\r\n"


def chunk_of(num_bytes: int) -> bytes:
    """An event of so many bytes, HTTP's framing included."""
    room = num_bytes - len(b"%x\r\n\r\n" % num_bytes)
    event = b'data: {"text":"' + b"x" * (room - 19) + b'"}\n\n'
    return b"%x\r\n%b\r\n" % (len(event), event)


class BareServer:
    """Writes to all open streams in turn."""

    def __init__(self, chunk: bytes, num_chunks: int) -> None:
        self._chunk = chunk
        self._num_chunks = num_chunks
        self._left: dict[asyncio.Transport, int] = {}

    def open(self, transport: asyncio.Transport) -> None:
        """A stream begins."""
        transport.write(_HEAD)
        if not self._left:
            asyncio.get_running_loop().call_soon(self._write)
        self._left[transport] = self._num_chunks

    def close(self, transport: asyncio.Transport) -> None:
        """A stream is over."""
        self._left.pop(transport, None)

    def _write(self) -> None:
        for transport, num_left in list(self._left.items()):
            transport.write(self._chunk)
            self._left[transport] = num_left - 1
            if num_left == 1:
                transport.write(_LAST)
                self.close(transport)
        if self._left:
            asyncio.get_running_loop().call_soon(self._write)


class _Connection(asyncio.Protocol):
    def __init__(self, server: BareServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by name

    def data_received(self, data: bytes) -> None:
        self._server.open(self._transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.close(self._transport)


async def _serve(server: BareServer) -> None:
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: _Connection(server), "127.0.0.1", 0, backlog=2048)
    print(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", flush=True)
    await listening.serve_forever()


def main() -> None:
    num_bytes, num_chunks = map(int, sys.argv[1:])
    uvloop.run(_serve(BareServer(chunk_of(num_bytes), num_chunks)))


if __name__ == "__main__":
    main()
