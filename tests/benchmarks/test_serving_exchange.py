"""One request: what is measured of a stream, and every way in which it can fail, against servers that misbehave."""

import asyncio
import json
from collections.abc import Iterator

import aiohttp
import pytest
from aiohttp import web
from load.answer import Answer, FailureKind
from load.exchange import carries_answer, exchange
from load.sse import MAX_EVENT_BYTES, EventReader, EventTooLong
from load.target import Target, error_message
from loopback_app import loopback

CHUNK = b'data: {"choices":[{"index":0,"text":"a"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":9}}\n\n'
DONE = b"data: [DONE]\n\n"
ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
WORD = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
REASON = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'

STREAMS = {
    "good": [b": ping\n\n", CHUNK, CHUNK, USAGE, DONE],
    "merged": [CHUNK + CHUNK + CHUNK, USAGE + DONE],
    "split": [CHUNK[:9], CHUNK[9:] + CHUNK[:20], CHUNK[20:], DONE],
    "crlf": [CHUNK.replace(b"\n", b"\r\n"), DONE.replace(b"\n", b"\r\n")],
    "chat": [ROLE, WORD, WORD, REASON, USAGE, DONE],
    "usage-with-chunks": [CHUNK.replace(b"]}\n", b'],"usage":{"prompt_tokens":2,"completion_tokens":1}}\n'), DONE],
    "no-usage": [CHUNK, CHUNK, DONE],
    "bad-usage": [CHUNK, b'data: {"choices":[],"usage":{"prompt_tokens":-4,"completion_tokens":"9"}}\n\n', DONE],
    "unfinished": [CHUNK, CHUNK],
    "no-tokens": [USAGE, DONE],
    "role-only": [ROLE, REASON, DONE],
    "error": [CHUNK, b'data: {"error":{"message":"the engine died","type":"server_error"}}\n\n', DONE],
    "no-json": [CHUNK, b"data: {oops\n\n", DONE],
    "no-object": [b"data: [1]\n\n", DONE],
}


async def _stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for part in STREAMS[request.match_info["name"]]:
        await response.write(part)
        await asyncio.sleep(0)
    return response


async def _refuse(request: web.Request) -> web.StreamResponse:
    await request.read()
    return web.json_response({"error": {"message": "too many\n requests"}}, status=429)


async def _answer_whole(request: web.Request) -> web.StreamResponse:
    return web.json_response({"choices": [{"text": "a"}]})


async def _cut_before_status(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def _cut_in_stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(CHUNK)
    assert request.transport is not None
    request.transport.abort()
    return response


async def _hang(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(CHUNK)
    await asyncio.sleep(60)
    return response


async def _endless_line(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for _ in range(MAX_EVENT_BYTES // 2**20 + 2):
        await response.write(b"x" * 2**20)
    return response


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    app = web.Application()
    for path, handler in (
        ("refused", _refuse),
        ("whole", _answer_whole),
        ("cut-before-status", _cut_before_status),
        ("cut-in-stream", _cut_in_stream),
        ("hang", _hang),
        ("endless-line", _endless_line),
        ("{name}", _stream),
    ):
        app.router.add_post(f"/{path}/v1/completions", handler)
        app.router.add_post(f"/{path}/v1/chat/completions", handler)
    with loopback(app) as root:
        yield root


def ask(base: str, endpoint: str = "completions", timeout: float = 20.0) -> Answer:
    async def run() -> Answer:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout)) as session:
            return await exchange(session, Target(base, endpoint, "m"), b"{}", 5)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "num_chunks", "num_tokens"),
    [
        ("good", 2, 9),
        ("merged", 3, 9),
        ("split", 2, None),
        ("crlf", 1, None),
        ("usage-with-chunks", 1, 1),
        ("no-usage", 2, None),
        ("bad-usage", 1, None),
    ],
)
def test_a_whole_stream(url: str, name: str, num_chunks: int, num_tokens: int | None) -> None:
    answer = ask(f"{url}/{name}")
    assert answer.failure is None
    assert len(answer.chunk_times) == num_chunks
    assert answer.num_output_tokens == num_tokens
    assert answer.index == 5
    assert answer.arrived == answer.sent <= answer.chunk_times[0] <= answer.chunk_times[-1] <= answer.finished


def test_chat_counts_chunks_that_carry_something(url: str) -> None:
    answer = ask(f"{url}/chat", "chat")
    assert answer.failure is None and len(answer.chunk_times) == 2


@pytest.mark.parametrize(
    ("name", "kind", "status", "message"),
    [
        ("refused", FailureKind.REFUSED, 429, "too many requests"),
        ("whole", FailureKind.BROKEN_STREAM, 200, "the answer is application/json, not a stream"),
        ("cut-before-status", FailureKind.CONNECTION, None, "Server"),
        ("cut-in-stream", FailureKind.BROKEN_STREAM, 200, "ClientPayloadError"),
        ("unfinished", FailureKind.BROKEN_STREAM, 200, "without [DONE]"),
        ("no-tokens", FailureKind.NO_TOKENS, 200, "without a token"),
        ("error", FailureKind.ERROR_EVENT, 200, "the engine died"),
        ("no-json", FailureKind.BROKEN_STREAM, 200, "an event is no JSON: b'{oops'"),
        ("no-object", FailureKind.BROKEN_STREAM, 200, "an event is no object"),
        ("endless-line", FailureKind.BROKEN_STREAM, 200, "an event has more than"),
    ],
)
def test_failures_are_told_apart(url: str, name: str, kind: FailureKind, status: int | None, message: str) -> None:
    failure = ask(f"{url}/{name}").failure
    assert failure is not None
    assert (failure.kind, failure.status) == (kind, status)
    assert message in failure.message


def test_a_role_without_an_answer_is_no_token(url: str) -> None:
    failure = ask(f"{url}/role-only", "chat").failure
    assert failure is not None and failure.kind is FailureKind.NO_TOKENS


def test_a_stream_that_stalls_times_out_with_what_came(url: str) -> None:
    answer = ask(f"{url}/hang", timeout=0.3)
    assert answer.failure is not None and answer.failure.kind is FailureKind.TIMEOUT
    assert len(answer.chunk_times) == 1


def test_nobody_there_is_a_connection_failure() -> None:
    failure = ask("http://127.0.0.1:1").failure
    assert failure is not None and failure.kind is FailureKind.CONNECTION and "Connect" in failure.message


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"delta": {"content": "a"}}, True),
        ({"delta": {"reasoning_content": "a"}}, True),
        ({"delta": {"tool_calls": [{}]}}, True),
        ({"delta": {"content": ""}}, True),
        ({"delta": {"role": "assistant", "content": ""}}, False),
        ({"delta": {}}, False),
        ({}, False),
        ("x", False),
    ],
)
def test_what_carries_an_answer(choice: object, expected: bool) -> None:
    assert carries_answer(choice) is expected


def test_events_are_read_whatever_the_pieces() -> None:
    text = b": ping\n\ndata: one\n\ndata:two\r\n\r\nevent: x\ndata: a\ndata: b\n\n\n\ndata: last\n\n"
    expected = [b"one", b"two", b"a\nb", b"last"]
    for size in range(1, len(text) + 1):
        reader = EventReader()
        pieces = [text[i : i + size] for i in range(0, len(text), size)]
        assert [payload for piece in pieces for payload in reader.feed(piece)] == expected
    with pytest.raises(EventTooLong):
        EventReader().feed(b"data: " + b"x" * MAX_EVENT_BYTES)


@pytest.mark.parametrize(
    "body", [{"error": {"message": "no"}}, {"error": "no"}, {"message": "no"}, {"detail": "no"}, "no", " no\n"]
)
def test_messages_of_errors_of_every_shape(body: object) -> None:
    assert error_message(body) == "no"
    assert len(error_message(json.dumps(["x" * 9999]))) < 310
