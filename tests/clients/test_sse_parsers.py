"""Two parsers of server-sent events that know nothing of each other read the same, and all that was said.

httpx-sse goes by lines, sseclient-py by blocks of bytes. What the model has to say is full of what a parser might take
for the end of a line or of an event.
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from real_server import Served

httpx_sse = pytest.importorskip("httpx_sse", reason="the package httpx-sse is not installed")
sseclient = pytest.importorskip("sseclient", reason="the package sseclient-py is not installed")

HARD = "a\nb\r\nc\rd: e\n\ndata: x\n\nevent: done\n:ping\n\x85\u2028\u2029\ufeff🙂 é 漢\x00\x1c\x1e "
SAY = {"decoding": {"strategy": "sample", "chain": [{"grammar": {"choice": [HARD]}}]}}
USER = [{"role": "user", "content": "Hello"}]
STREAMS: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "x", "max_tokens": 400, "stream_options": {"include_usage": True}, **SAY},
    "/v1/chat/completions": {"messages": USER, "stream_options": {"include_usage": True}, **SAY},
    "/v1/responses": {"input": "Hello", **SAY},
    "/v1/messages": {"messages": USER, "max_tokens": 400, **SAY},
}


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    return (content[i : i + size] for i in range(0, len(content), size))


def by_httpx_sse(content: bytes, size: int) -> list[tuple[str, str]]:
    headers = {"Content-Type": "text/event-stream"}
    reply = httpx.Response(200, headers=headers, stream=_Pieces(content, size))
    return [(event.event, event.data) for event in httpx_sse.EventSource(reply).iter_sse()]


class _Pieces(httpx.SyncByteStream):
    """A body that comes in pieces of some size."""

    def __init__(self, content: bytes, size: int) -> None:
        self._content, self._size = content, size

    def __iter__(self) -> Iterator[bytes]:
        return pieces(self._content, self._size)


def by_sseclient(content: bytes, size: int) -> list[tuple[str, str]]:
    return [(event.event, event.data) for event in sseclient.SSEClient(pieces(content, size)).events()]


def text_of(events: list[tuple[str, str]]) -> str:
    said = ""
    for kind, data in events:
        if data == "[DONE]":
            continue
        told = json.loads(data)
        assert kind == told.get("type", "message")
        if kind == "message":
            for choice in told["choices"]:
                said += choice["text"] if "text" in choice else choice["delta"].get("content", "")
        elif kind in ("response.output_text.delta", "content_block_delta"):
            said += told["delta"] if isinstance(told["delta"], str) else told["delta"]["text"]
    return said


@pytest.mark.parametrize(("route", "fields"), STREAMS.items())
def test_parsers_agree(demo: Served, route: str, fields: dict[str, Any]) -> None:
    reply = httpx.post(f"{demo.url}{route}", json={"model": "demo", "stream": True, **fields}, timeout=60)
    assert reply.status_code == 200, reply.text
    for size in (len(reply.content), 1, 7):
        read = by_httpx_sse(reply.content, size)
        assert read == by_sseclient(reply.content, size)
        assert text_of(read) == HARD
