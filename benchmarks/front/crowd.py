"""A crowd of streams: so many requests at once, each over a connection of its own, whose chunks are counted.

    python -m front.crowd URL MODEL

Reads rounds from standard input, a JSON object a line (`Round`), and answers each with another (`RoundFigures`). It
parses no JSON of the server's and wakes no task up while the clock runs: what it is to measure spends a few
microseconds on a chunk, and so must it.
"""

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import cast
from urllib.parse import urlsplit

import uvloop

# What begins an event with a choice in it, and what ends a body in HTTP's chunked coding (RFC 9112, section 7.1).
_CHUNK = b"data: {"
_END = b"\r\n0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Round:
    """What to ask for, of how many at once, and how often again, each time when all answers have ended."""

    num_streams: int
    num_tokens: int
    repeats: int = 1


@dataclass(frozen=True, slots=True)
class RoundFigures:
    """What one round gave. `first_chunks`: seconds from each request to its first chunk, in ascending order."""

    seconds: float
    num_chunks: int
    num_bytes: int
    num_reads: int
    load_seconds: float
    first_chunks: tuple[float, ...]


class CrowdError(Exception):
    """A stream was refused, or broke off."""


class _Stream(asyncio.Protocol):
    """One connection, on which one answer after the other is read."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by name
        self.num_chunks = self.num_bytes = self.num_reads = 0
        self.first_chunks: list[float] = []
        self._over: asyncio.Future[None] | None = None

    def ask(self, request: bytes) -> "asyncio.Future[None]":
        """Send a request; the future is done when its answer has ended."""
        self._awaits_head = self._awaits_chunk = True
        self._tail = b""
        self._asked = time.perf_counter()
        self._over = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._over

    def data_received(self, data: bytes) -> None:
        if self._awaits_head and not data.startswith(b"HTTP/1.1 200"):
            self._fail(data[:2000].decode(errors="replace"))
        self._awaits_head = False
        self.num_reads += 1
        self.num_bytes += len(data)
        # A read can end within what is looked for.
        seen = self._tail + data
        num_chunks = seen.count(_CHUNK)
        self.num_chunks += num_chunks
        if num_chunks and self._awaits_chunk:
            self._awaits_chunk = False
            self.first_chunks.append(time.perf_counter() - self._asked)
        if seen.endswith(_END) and self._over is not None and not self._over.done():
            self._over.set_result(None)
        self._tail = seen[-len(_CHUNK) + 1 :]

    def connection_lost(self, error: Exception | None) -> None:
        self._fail("the connection was closed")

    def close(self) -> None:
        self._transport.close()

    def _fail(self, why: str) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_exception(CrowdError(why))


async def crowd(url: str, model: str, round_: Round) -> RoundFigures:
    """One round. The connections are made before the clock runs.

    Raises:
        CrowdError
    """
    parts = urlsplit(url)
    assert parts.hostname is not None and parts.port is not None, "a URL with a port"
    loop = asyncio.get_running_loop()
    streams = []
    for _ in range(round_.num_streams):
        _, stream = await loop.create_connection(_Stream, parts.hostname, parts.port)
        streams.append(stream)
    request = request_for(parts.netloc, model, round_.num_tokens)
    began, load_began = time.perf_counter(), time.process_time()
    try:
        for _ in range(round_.repeats):
            await asyncio.gather(*[stream.ask(request) for stream in streams])
    finally:
        for stream in streams:
            stream.close()
    return RoundFigures(
        seconds=time.perf_counter() - began,
        num_chunks=sum(stream.num_chunks for stream in streams),
        num_bytes=sum(stream.num_bytes for stream in streams),
        num_reads=sum(stream.num_reads for stream in streams),
        load_seconds=time.process_time() - load_began,
        first_chunks=tuple(sorted(first for stream in streams for first in stream.first_chunks)),
    )


def request_for(host: str, model: str, num_tokens: int) -> bytes:
    """A request for a streamed completion of exactly so many greedy tokens."""
    fields = {"prompt": "Say hello.", "max_tokens": num_tokens, "ignore_eos": True, "temperature": 0, "stream": True}
    body = json.dumps({"model": model, **fields}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def main() -> None:
    url, model = sys.argv[1:]
    for line in sys.stdin:
        try:
            told = asdict(uvloop.run(crowd(url, model, Round(**json.loads(line)))))
        except (CrowdError, OSError) as error:
            told = {"error": str(error)}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
