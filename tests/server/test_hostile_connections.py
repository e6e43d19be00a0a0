"""Connections that do what no good client does: the server answers or closes, and keeps nothing for them."""

import asyncio
import gzip
import json
import logging
import re
from collections.abc import Callable
from typing import Any, cast

import pytest
import uvicorn
from server_api import MODEL, Api, MakeApi, events, listening, send
from uvicorn.server import ServerState

from penstock_server.http_protocol import HttpProtocol

pytestmark = pytest.mark.anyio

# What a slow machine may take; a test that gets there fails.
SECONDS = 20
BODY = json.dumps({"model": MODEL, "prompt": "x", "max_tokens": 2}).encode()


def request(body: bytes = BODY, *headers: str, version: str = "1.1", length: int | None = None) -> bytes:
    head = [
        f"POST /v1/completions HTTP/{version}",
        "Host: x",
        "Content-Type: application/json",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


async def connect(url: str, wire: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(wire)
    await writer.drain()
    return reader, writer


async def told(url: str, wire: bytes) -> tuple[bytes, bytes]:
    """Head and body of all that comes until the server closes."""
    reader, writer = await connect(url, wire)
    head, _, body = (await asyncio.wait_for(reader.read(), SECONDS)).partition(b"\r\n\r\n")
    writer.close()
    return head, body


async def submitted(api: Api, count: int = 1) -> None:
    while len(api.engine.streams) < count:
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    "wire", [b"GET /hea", b"GET /health HTTP/1.1\r\nHost: x\r\nX-A: ", request()[:-1], request(length=len(BODY) + 1)]
)
async def test_a_request_that_does_not_come(make_api: MakeApi, wire: bytes) -> None:
    """Half a head or half a body held its connection, and with half a body its place among the open requests, for as
    long as the client liked."""
    api = make_api(receive_timeout=0.2)
    async with listening(api) as url:
        head, body = await told(url, wire)
        assert head.startswith(b"HTTP/1.1 408 ") and json.loads(body)["error"]["code"] == "request_timeout"
        assert await api.context.life.drain(SECONDS)


async def test_a_connection_without_a_request_is_closed(make_api: MakeApi) -> None:
    async with listening(make_api(receive_timeout=0.2)) as url:
        assert await told(url, b"") == (b"", b"")


@pytest.mark.parametrize("after", [b"", b"\r\n", b"GET /hea"])
async def test_an_answer_may_take_longer_than_a_request(make_api: MakeApi, after: bytes) -> None:
    """Also when something comes after the request: the end of a line that some clients add, or a part of the next."""
    api = make_api(receive_timeout=0.2)
    api.engine.hold()
    async with listening(api) as url:
        reader, writer = await connect(url, request() + after)
        await submitted(api)
        await told(url, b"GET /")  # begun later, and out of time
        api.engine.release(2)
        assert await asyncio.wait_for(reader.readline(), SECONDS) == b"HTTP/1.1 200 OK\r\n"
        writer.close()


@pytest.mark.parametrize("is_stream", [False, True])
async def test_leaving_with_requests_in_the_pipeline(api: Api, is_stream: bool) -> None:
    """Only the last of them was told that the client had gone; the one being answered ran on to its end."""
    api.engine.hold()
    body = json.dumps({"model": MODEL, "prompt": "x", "max_tokens": 50, "stream": is_stream}).encode()
    async with listening(api) as url:
        _, writer = await connect(url, request(body) + request(body) + request(body))
        await submitted(api)
        writer.close()
        await asyncio.wait_for(api.engine.streams[0].end.wait(), SECONDS)
        assert await api.context.life.drain(SECONDS)
    assert [stream.aborted for stream in api.engine.streams] == [[None]]


@pytest.mark.parametrize("is_stream", [False, True])
async def test_what_is_not_http_cuts_into_no_answer(api: Api, is_stream: bool) -> None:
    """A 400 for what followed a request was written at once: the client took it for the answer to that request, or for
    a part of it."""
    api.engine.hold()
    async with listening(api) as url:
        reader, writer = await send(url, stream=is_stream)
        await submitted(api)
        api.engine.release(1)
        got = await asyncio.wait_for(reader.readuntil(b"data: "), SECONDS) if is_stream else b""
        writer.write(b"nonsense\r\n\r\n")
        got += await asyncio.wait_for(reader.read(), SECONDS)
        assert got.count(b"HTTP/1.1 ") == int(is_stream) and b"invalid_http" not in got
        writer.close()
        assert await api.context.life.drain(SECONDS)
    assert api.engine.streams[0].aborted == [None]


async def test_older_http_knows_no_chunks(api: Api) -> None:
    """The sizes of the chunks stood between the events: HTTP/1.0 has no such framing, nor do its clients undo it."""
    api.say("one two three")
    body = json.dumps({"model": MODEL, "prompt": "x", "max_tokens": 20, "stream": True}).encode()
    async with listening(api) as url:
        head, stream = await told(url, request(body, version="1.0"))
        assert b"transfer-encoding" not in head.lower()
        assert stream.endswith(b"data: [DONE]\n\n")
        said = "".join(data["choices"][0]["text"] for _, data in events(stream.decode()))
        assert said == "one two three"
        head, whole = await told(url, request(version="1.0"))
        assert f"content-length: {len(whole)}".encode() in head and json.loads(whole)["choices"]


async def test_older_http_knows_no_answer_before_the_answer(api: Api) -> None:
    """The "100 Continue" that uvicorn wrote was taken for the head of the reply: the real head, and the chunks that it
    announces, went to the client as they were."""
    body = json.dumps({"model": MODEL, "prompt": "x", "max_tokens": 2, "stream": True}).encode()
    async with listening(api) as url:
        head, stream = await told(url, request(body, "Expect: 100-continue", version="1.0"))
    assert head.startswith(b"HTTP/1.1 200 ") and b"transfer-encoding" not in head.lower()
    assert stream.startswith(b"data: ") and stream.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("is_stream", [False, True])
async def test_who_does_not_read_one_answer_gets_no_other(make_api: MakeApi, is_stream: bool) -> None:
    """Only the events of a stream had to be taken in time: a request behind an answer that nobody read waited for its
    first byte for as long as the client liked, and kept a server that drains from ending."""
    api = make_api(send_timeout=0.2, max_model_len=10**6)
    many = json.dumps({"model": MODEL, "prompt": "x", "max_tokens": 50_000, "ignore_eos": True, "logprobs": 5}).encode()
    body = json.dumps({"model": MODEL, "prompt": "x", "max_tokens": 2, "stream": is_stream}).encode()
    async with listening(api) as url:
        _, writer = await send(url, max_tokens=1)
        writer.write(request(many) + request(body))
        await submitted(api, 3)
        assert await api.context.life.drain(SECONDS)
        writer.close()


async def test_an_answer_that_nobody_reads_is_not_kept(make_api: MakeApi, caplog: pytest.LogCaptureFixture) -> None:
    """The server had closed the connection, which is to wait for the client to take what is left: it waited for ever,
    with megabytes for each such connection."""
    api = make_api(send_timeout=0.2, max_model_len=10**6)
    many = json.dumps({"model": MODEL, "prompt": "x", "max_tokens": 50_000, "ignore_eos": True, "logprobs": 5}).encode()
    caplog.set_level(logging.INFO, "penstock.server")
    async with listening(api) as url:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=2**12)
        writer.write(request(many, "Connection: close"))
        async with asyncio.timeout(SECONDS):
            while "stopped reading" not in caplog.text:
                await asyncio.sleep(0)
        with pytest.raises(asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            (length,) = re.findall(rb"content-length: (\d+)", head)
            await reader.readexactly(int(length))
        writer.close()


def test_who_reads_slowly_is_not_who_stopped() -> None:
    """The time was that for all that waited: whoever took megabytes bit by bit was cut off amid reading."""
    transport, timers = _Transport(), _Timers()
    config = uvicorn.Config(_no_app, lifespan="off")
    protocol = HttpProtocol(config, ServerState(), {}, cast(asyncio.AbstractEventLoop, timers), send_timeout=60)
    protocol.connection_made(transport)
    transport.num_waiting = 100_000
    protocol.pause_writing()
    for num_waiting in (99_999, 70_000):
        transport.num_waiting = num_waiting
        timers.run()
        assert not transport.is_cut
    timers.run()
    assert transport.is_cut


def test_who_has_taken_all_is_not_waited_for() -> None:
    """uvicorn's timer of an idle connection outlives one that its client has reset: with that, the client was said to
    have stopped reading."""
    transport, timers = _Transport(), _Timers()
    config = uvicorn.Config(_no_app, lifespan="off")
    protocol = HttpProtocol(config, ServerState(), {}, cast(asyncio.AbstractEventLoop, timers), send_timeout=60)
    protocol.connection_made(transport)
    protocol.connection_lost(ConnectionResetError())
    protocol.timeout_keep_alive_handler()
    timers.run()
    assert not transport.is_cut


async def test_leaving_in_the_middle_of_a_body(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """It was logged as a fault of the server, with a traceback, as often as anybody liked."""
    async with listening(api) as url:
        reader, writer = await connect(url, request()[:-3])
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), SECONDS) == b""
        writer.close()
        assert await api.context.life.drain(SECONDS)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert 'status="499"' in api.context.metrics.render().decode()


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip", "x-anything"])
async def test_an_encoded_body_is_refused_by_name(api: Api, encoding: str) -> None:
    """It was said to be no valid UTF-8."""
    async with listening(api) as url:
        wire = request(gzip.compress(BODY), f"Content-Encoding: {encoding}", "Connection: close")
        head, body = await told(url, wire)
        error = json.loads(body)["error"]
        assert (
            head.startswith(b"HTTP/1.1 400 ") and error["code"] == "invalid_encoding" and encoding in error["message"]
        )
        head, _ = await told(url, request(BODY, "Content-Encoding: identity", "Connection: close"))
        assert head.startswith(b"HTTP/1.1 200 ")


async def test_an_encoded_transfer_is_refused_by_name(api: Api) -> None:
    wire = request(b"0\r\n\r\n", "Transfer-Encoding: gzip, chunked", "Connection: close")
    wire = wire.replace(b"Content-Length: 5\r\n", b"")
    async with listening(api) as url:
        head, body = await told(url, wire)
    assert head.startswith(b"HTTP/1.1 400 ") and json.loads(body)["error"]["code"] == "invalid_encoding"


class _Transport(asyncio.Transport):
    """`num_waiting`: bytes that its client has not taken."""

    num_waiting = 0
    is_cut = False

    def is_closing(self) -> bool:
        return self.is_cut

    def close(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.num_waiting

    def abort(self) -> None:
        self.is_cut = True


class _Timers:
    """An event loop whose next timer is due when the test says so."""

    def __init__(self) -> None:
        self._planned: list[asyncio.TimerHandle] = []

    def call_later(self, delay: float, call: Callable[..., None], *args: Any) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(delay, call, args, cast(asyncio.AbstractEventLoop, self))
        self._planned.append(handle)
        return handle

    def get_debug(self) -> bool:
        return False

    def run(self) -> None:
        planned, self._planned = self._planned, []
        for handle in planned:
            handle._run()


async def _no_app(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("nothing is asked")
