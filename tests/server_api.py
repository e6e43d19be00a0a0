"""`Api`: one app over one fake engine, in process or on loopback."""

import asyncio
import functools
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import httpx
import uvicorn
from fake_engine import FakeEngine, cycling

from penstock_server.app import create_app
from penstock_server.context import ServerContext
from penstock_server.http_protocol import HttpProtocol

MODEL = "org/tiny"


@dataclass
class Api:
    """One app over one fake engine."""

    engine: FakeEngine
    context: ServerContext
    client: httpx.AsyncClient

    def say(self, text: str, *, end: bool = True) -> None:
        """Every answer will be this text, then the end token if `end`."""
        tokens = self.encode(text) + ([self.eos_id] if end else [])
        self.engine.next_token = cycling(tokens)

    def encode(self, text: str) -> list[int]:
        return self.context.model.codec.tokenizer.encode(text)

    @property
    def eos_id(self) -> int:
        return self.engine.info.eos_token_ids[0]

    async def complete(self, **fields: object) -> httpx.Response:
        return await self.client.post("/v1/completions", json={"model": MODEL, "prompt": "Hello", **fields})

    async def chat(self, **fields: object) -> httpx.Response:
        messages = [{"role": "user", "content": "Hello"}]
        return await self.client.post("/v1/chat/completions", json={"model": MODEL, "messages": messages, **fields})


MakeApi = Callable[..., Api]


def events(body: str) -> list[tuple[str, Any]]:
    """Each server-sent event's kind and data; the end mark is left out."""
    told = []
    for block in body.strip().split("\n\n"):
        kind, _, data = block.rpartition("data: ")
        if data != "[DONE]":
            told.append((kind.strip().removeprefix("event: "), json.loads(data)))
    return told


def sent_events(text: str) -> list[dict[str, Any]]:
    """Each event's data; its kind is said twice, and alike."""
    told = []
    for block in text.strip().split("\n\n"):
        kind, data = block.split("\n")
        told.append(json.loads(data.removeprefix("data: ")))
        assert kind == f"event: {told[-1]['type']}"
    return told


@asynccontextmanager
async def listening(api: Api) -> AsyncIterator[str]:
    """The app on a loopback port, served by this event loop; gives its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    asked = api.context.config
    protocol = functools.partial(HttpProtocol, receive_timeout=asked.receive_timeout, send_timeout=asked.send_timeout)
    config = uvicorn.Config(
        create_app(api.context),
        http=cast(type[HttpProtocol], protocol),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
    )
    server = uvicorn.Server(config)
    # serve() but for the signal handlers, which belong to the test runner.
    task = asyncio.create_task(server._serve([listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        await task


async def send(url: str, **fields: object) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Post a completions request and leave the connection, with a small buffer, to the test."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=2**12)
    body = json.dumps({"model": MODEL, "prompt": "x", "max_tokens": 100, **fields})
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    writer.write(f"{head}\r\n\r\n{body}".encode())
    await writer.drain()
    return reader, writer
