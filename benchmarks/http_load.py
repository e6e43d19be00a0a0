"""A light load on `/v1/completions`: streamed answers over kept connections, counted and timed.

Raw asyncio streams and no parsing while the clock runs, so that the client takes little of the machine that the
server needs. Knows no torch and no model: prompts are token ids.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

_LAST_CHUNK = b"\r\n0\r\n\r\n"


class LoadError(Exception):
    """The server answered something else than the stream that was asked for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One request's times, in seconds of `time.perf_counter`, and what the server counted."""

    sent: float
    first_token: float
    last_byte: float
    num_prompt_tokens: int
    num_tokens: int

    @property
    def time_to_first_token(self) -> float:
        return self.first_token - self.sent

    @property
    def time_per_token(self) -> float:
        """Mean seconds between tokens after the first."""
        return (self.last_byte - self.first_token) / max(self.num_tokens - 1, 1)


@dataclass(frozen=True, slots=True)
class LoadFigures:
    """What one load gave."""

    seconds: float
    answers: tuple[Answer, ...]

    @property
    def tokens_per_second(self) -> float:
        return sum(answer.num_tokens for answer in self.answers) / self.seconds


def run_load(url: str, model: str, prompts: Sequence[Sequence[int]], num_tokens: int, concurrency: int) -> LoadFigures:
    """Send every prompt, `concurrency` at a time, each asking for exactly `num_tokens` greedy tokens.

    Raises:
        LoadError: an answer was refused, broke off, or had another number of tokens.
    """
    requests = [_request(url, model, prompt, num_tokens) for prompt in prompts]
    answers, seconds = asyncio.run(_run(url, requests, concurrency))
    for answer, prompt in zip(answers, prompts, strict=True):
        if (answer.num_prompt_tokens, answer.num_tokens) != (len(prompt), num_tokens):
            raise LoadError(
                f"asked for {num_tokens} tokens after {len(prompt)}, "
                f"got {answer.num_tokens} after {answer.num_prompt_tokens}"
            )
    return LoadFigures(seconds, tuple(answers))


async def _run(url: str, requests: Sequence[bytes], concurrency: int) -> tuple[list[Answer], float]:
    parts = urlsplit(url)
    connections = [await asyncio.open_connection(parts.hostname, parts.port) for _ in range(concurrency)]
    answers: list[Answer | None] = [None] * len(requests)
    waiting = iter(enumerate(requests))

    async def work(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for i, request in waiting:
            answers[i] = await _exchange(reader, writer, request)
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(work(reader, writer) for reader, writer in connections))
    done = [answer for answer in answers if answer is not None]
    return done, max(answer.last_byte for answer in done) - start


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Answer:
    sent = time.perf_counter()
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200") or b"chunked" not in head.lower():
        raise LoadError(f"{head.decode(errors='replace')}{(await reader.read(2000)).decode(errors='replace')}")
    body = bytearray()
    first_token = 0.0
    while not body.endswith(_LAST_CHUNK):
        received = await reader.read(2**16)
        if not received:
            raise LoadError(f"the stream broke off after {bytes(body[-200:])!r}")
        body += received
        if not first_token and b"data:" in body:
            first_token = time.perf_counter()
    last_byte = time.perf_counter()
    usage = _usage(_without_chunks(bytes(body)))
    return Answer(sent, first_token, last_byte, usage["prompt_tokens"], usage["completion_tokens"])


def _request(url: str, model: str, prompt: Sequence[int], num_tokens: int) -> bytes:
    body = json.dumps(
        {
            "model": model,
            "prompt": list(prompt),
            "max_tokens": num_tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _without_chunks(body: bytes) -> bytes:
    """The payload of a body in HTTP's chunked coding (RFC 9112, section 7.1)."""
    payload, at = bytearray(), 0
    while True:
        line_end = body.index(b"\r\n", at)
        size = int(body[at:line_end].split(b";")[0], 16)
        if size == 0:
            return bytes(payload)
        payload += body[line_end + 2 : line_end + 2 + size]
        at = line_end + 2 + size + 2


def _usage(events: bytes) -> dict[str, Any]:
    """The usage that the last event before `[DONE]` carries."""
    lines = [line[5:].strip() for line in events.splitlines() if line.startswith(b"data:")]
    if lines[-1] != b"[DONE]":
        raise LoadError(f"the stream ended with {lines[-1]!r}")
    event = json.loads(lines[-2])
    usage = event.get("usage")
    if not isinstance(usage, dict):
        raise LoadError(f"no usage in {lines[-2]!r}")
    return usage
