"""`EventStream`: what is pushed leaves at once, in order, whole, whether or not the connection can be written to."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.types import Message

from penstock_server.event_stream import PING, EventStream
from penstock_server.http_protocol import WRITE

pytestmark = pytest.mark.anyio


class Connection:
    """An ASGI connection that a test reads. `takes`: whether it can be written to without waiting."""

    def __init__(self) -> None:
        self.takes = True
        self.wrote: list[tuple[str, bytes]] = []  # (by which way, bytes)
        self.gate = asyncio.Event()
        self.gate.set()
        self.gone = asyncio.Event()
        self.ended = asyncio.Event()

    def write(self, body: bytes) -> bool:
        if self.takes:
            self.wrote.append(("write", body))
        return self.takes

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            await self.gate.wait()
            self.wrote.append(("send", message["body"]))
            if not message.get("more_body", False):
                self.ended.set()

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    def serve(self, stream: EventStream, extensions: dict[str, Any] | None = None) -> "asyncio.Task[None]":
        given = {WRITE: {"write": self.write}} if extensions is None else extensions
        return asyncio.create_task(stream({"type": "http", "extensions": given}, self.receive, self.send))

    @property
    def body(self) -> bytes:
        return b"".join(body for _, body in self.wrote)


def open_stream(begin: Callable[[], None], ping_interval: float = 0) -> EventStream:
    return EventStream(begin, ping_interval=ping_interval)


async def begun(connection: Connection, **timing: float) -> tuple[EventStream, "asyncio.Task[None]"]:
    has_begun = asyncio.Event()
    stream = open_stream(has_begun.set, **timing)
    task = connection.serve(stream)
    await has_begun.wait()
    await turns()
    return stream, task


async def turns(count: int = 3) -> None:
    """Let all that is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_one_turn_pushes_leaves_in_one_write() -> None:
    connection = Connection()
    stream, task = await begun(connection)
    stream.push(b"data: 1\n\n")
    stream.push(b"data: 2\n\n")
    await turns()
    assert connection.wrote == [("write", b"data: 1\n\ndata: 2\n\n")]
    stream.push(b"data: 3\n\n")
    stream.end()
    await task
    assert connection.wrote[1:] == [("send", b"data: 3\n\n")], "what comes with the end leaves with it"


async def test_what_is_pushed_while_it_begins_is_sent() -> None:
    connection = Connection()
    stream = open_stream(lambda: stream.push(b"data: first\n\n"))
    task = connection.serve(stream)
    await turns()
    stream.push(b"data: second\n\n")
    stream.end()
    await task
    assert connection.body == b"data: first\n\ndata: second\n\n"


@pytest.mark.parametrize("extensions", [{}, None])
async def test_a_full_connection_gets_what_waits_in_one_piece_and_in_order(extensions: dict[str, Any] | None) -> None:
    """Without the extension every byte goes through `send`, as on any other ASGI server."""
    connection = Connection()
    connection.takes = False
    has_begun = asyncio.Event()
    stream = open_stream(has_begun.set)
    task = connection.serve(stream, extensions)
    await has_begun.wait()
    await turns()
    connection.gate.clear()
    for i in range(4):
        stream.push(b"data: %d\n\n" % i)
        await turns()
    assert connection.wrote == []
    connection.takes = True  # room again, but what waits comes first
    stream.push(b"data: 4\n\n")
    await turns()
    assert connection.wrote == []
    connection.gate.set()
    await turns(6)
    stream.end()
    await task
    assert connection.body == b"".join(b"data: %d\n\n" % i for i in range(5))
    assert len([body for _, body in connection.wrote if body]) == 2, "the first, and all that came while it waited"


async def test_nothing_is_not_written() -> None:
    """An empty chunk would end the body: the client would take the next one for another response."""
    connection = Connection()
    stream, task = await begun(connection)
    stream.push(b"")
    await turns()
    assert connection.wrote == []
    stream.end()
    await task


async def test_a_client_that_goes_ends_it() -> None:
    connection = Connection()
    stream, task = await begun(connection, ping_interval=1000)
    connection.gone.set()
    await task
    stream.push(b"data: late\n\n")
    stream.end()
    await turns()
    assert connection.wrote == []


async def test_pings_come_in_silence_only() -> None:
    connection = Connection()
    stream, task = await begun(connection, ping_interval=0.02)
    while not connection.wrote:
        await asyncio.sleep(0)
    assert connection.wrote == [("write", PING)]
    # Half the interval after a ping something is said: the next ping is due a whole interval after that.
    loop = asyncio.get_running_loop()
    said = loop.time() + 0.01
    while loop.time() < said:
        await asyncio.sleep(0)
    stream.push(b"data: 1\n\n")
    await turns()
    spoke = loop.time()
    while connection.wrote[-1][1] != PING:
        await asyncio.sleep(0)
    assert loop.time() - spoke >= 0.019
    stream.end()
    await task


async def test_no_ping_is_added_to_what_a_client_does_not_take() -> None:
    """A reader that stood still for a minute would find nothing but pings at the end of its buffer."""
    connection = Connection()
    connection.takes = False
    stream, task = await begun(connection, ping_interval=0.001)
    connection.gate.clear()
    stream.push(b"data: 1\n\n")
    until = asyncio.get_running_loop().time() + 0.02
    while asyncio.get_running_loop().time() < until:
        await asyncio.sleep(0)
    connection.gate.set()
    stream.end()
    await task
    assert connection.body.endswith(b"data: 1\n\n")
