"""One streamed request: send it, note when each chunk of the answer arrives, and say how it failed if it did.

The definitions are those of `vllm bench serve`: a chunk counts when it carries part of an answer, whatever its text;
usage comes from the stream's end. A time is that of the arrival of the bytes, before they are parsed.
"""

import asyncio
import time
from array import array
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from load.answer import Answer, Failure, FailureKind
from load.sse import EventReader, EventTooLong
from load.target import Target, error_message, read_body

_DONE = b"[DONE]"


class _Failed(Exception):
    def __init__(self, kind: FailureKind, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.failure = Failure(kind, message, status)


@dataclass(slots=True)
class _Stream:
    """What arrived so far."""

    chunk_times: "array[float]"
    usage: dict[str, Any] | None = None
    status: int | None = None


async def exchange(
    session: aiohttp.ClientSession, target: Target, body: bytes, index: int, arrived: float | None = None
) -> Answer:
    """Send one request and read its stream to the end. Failures are part of the answer; only cancellation is raised.

    `arrived`: when the load wanted it sent, if that was before now.
    """
    stream = _Stream(array("d"))
    failure = None
    sent = time.perf_counter()
    try:
        await _read(session, target, body, stream)
    except _Failed as failed:
        failure = failed.failure
    except TimeoutError:
        failure = Failure(FailureKind.TIMEOUT, "not finished in time", stream.status)
    except (aiohttp.ClientError, OSError) as error:
        kind = FailureKind.CONNECTION if stream.status is None else FailureKind.BROKEN_STREAM
        failure = Failure(kind, _described(error), stream.status)
    except asyncio.CancelledError:
        # A worker that stops cancels its requests and still wants to know how far they were.
        failure = Failure(FailureKind.INTERRUPTED, "the benchmark was stopped", stream.status)
    return Answer(
        index,
        sent if arrived is None else arrived,
        sent,
        time.perf_counter(),
        stream.chunk_times,
        _count(stream.usage, "prompt_tokens"),
        _count(stream.usage, "completion_tokens"),
        failure,
    )


async def _read(session: aiohttp.ClientSession, target: Target, body: bytes, stream: _Stream) -> None:
    async with session.post(target.url, data=body, headers=target.headers) as response:
        stream.status = response.status
        if response.status != 200:
            message = error_message(read_body(await response.content.read(2**16)))
            raise _Failed(FailureKind.REFUSED, message, response.status)
        if response.content_type != "text/event-stream":
            message = f"the answer is {response.content_type}, not a stream of events"
            raise _Failed(FailureKind.BROKEN_STREAM, message, 200)
        events = EventReader()
        is_done = False
        async for received in response.content.iter_any():
            now = time.perf_counter()
            try:
                payloads = events.feed(received)
            except EventTooLong as error:
                raise _Failed(FailureKind.BROKEN_STREAM, str(error), 200) from None
            for payload in payloads:
                if payload == _DONE:
                    is_done = True
                else:
                    _take(payload, now, target.is_chat, stream)
    if not is_done:
        raise _Failed(FailureKind.BROKEN_STREAM, "the stream ended without [DONE]", 200)
    if not stream.chunk_times:
        raise _Failed(FailureKind.NO_TOKENS, "the stream ended without a token", 200)


def _take(payload: bytes, now: float, is_chat: bool, stream: _Stream) -> None:
    try:
        event = orjson.loads(payload)
    except orjson.JSONDecodeError:
        raise _Failed(FailureKind.BROKEN_STREAM, f"an event is no JSON: {payload[:80]!r}", 200) from None
    if not isinstance(event, dict):
        raise _Failed(FailureKind.BROKEN_STREAM, f"an event is no object: {payload[:80]!r}", 200)
    if event.get("error"):
        raise _Failed(FailureKind.ERROR_EVENT, error_message(event), 200)
    choices = event.get("choices")
    if isinstance(choices, list) and choices and (not is_chat or carries_answer(choices[0])):
        stream.chunk_times.append(now)
    usage = event.get("usage")
    if isinstance(usage, dict):
        stream.usage = usage


def carries_answer(choice: object) -> bool:
    """Whether a chat chunk holds something generated. Its first chunk names the role and its last the reason."""
    delta = choice.get("delta") if isinstance(choice, dict) else None
    if not isinstance(delta, dict):
        return False
    if any(delta.get(name) for name in ("content", "reasoning", "reasoning_content", "tool_calls", "function_call")):
        return True
    # A token without text of its own, such as a special one.
    return delta.get("content") == "" and "role" not in delta


def _count(usage: dict[str, Any] | None, name: str) -> int | None:
    value = usage.get(name) if usage is not None else None
    return value if type(value) is int and value >= 0 else None


def _described(error: Exception) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
