"""Parts to test the chat client without a terminal: a screen that remembers, and an API that answers as it is told."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import httpx2
from scripted_api import chunk

from penstock_chat.chat import Chat
from penstock_chat.commands.table import run_line
from penstock_chat.connection import Connection
from penstock_chat.conversation import Exchange, Setup
from penstock_chat.endpoint import read_endpoint
from penstock_chat.errors import ChatError
from penstock_chat.receive import Received

Result = TypeVar("Result")
Handler = Callable[[httpx2.Request], httpx2.Response]

URL = "http://server.test"


def run(work: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(asyncio.wait_for(work, 30))


class RecordingView:
    def __init__(self) -> None:
        self.text = ""
        self.thought = ""
        self.is_closed = False
        self.on_text: Callable[[], None] = lambda: None

    def add(self, text: str) -> None:
        self.text += text
        self.on_text()

    def think(self, text: str) -> None:
        self.thought += text

    def close(self) -> None:
        self.is_closed = True


class RecordingScreen:
    """What was shown, in order: `lines` of notes and errors, `views` of replies."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.views: list[RecordingView] = []
        self.received: list[Received] = []
        self.titles: list[tuple[str, str]] = []
        self.on_text: Callable[[], None] = lambda: None

    def note(self, text: str) -> None:
        self.lines.append(text)

    def error(self, text: str) -> None:
        self.lines.append(f"error: {text}")

    def exchange(self, number: int, exchange: Exchange) -> None:
        self.lines.append(f"{number} > {exchange.question} | {exchange.reply.text}")

    def table(self, rows: Sequence[tuple[str, str]]) -> None:
        self.lines += [f"{name}: {meaning}" for name, meaning in rows]

    def reply(self) -> RecordingView:
        self.views.append(RecordingView())
        self.views[-1].on_text = self.on_text
        return self.views[-1]

    def replies(self, titles: tuple[str, str]) -> tuple[RecordingView, RecordingView]:
        self.titles.append(titles)
        return self.reply(), self.reply()

    def figures(self, received: Received, title: str = "") -> None:
        self.received.append(received)


def connection_to(handler: Handler, key: str | None = None) -> Connection:
    return Connection(read_endpoint(URL, key), transport=httpx2.MockTransport(handler))


def stream_of(*events: bytes, error: Exception | None = None, end: bytes = b"data: [DONE]\n\n") -> httpx2.Response:
    """A streamed 200; with `error` it breaks after the events."""

    async def parts() -> AsyncIterator[bytes]:
        for event in events:
            yield event
        if error is not None:
            raise error
        yield end

    return httpx2.Response(200, headers={"Content-Type": "text/event-stream; charset=utf-8"}, content=parts())


class EchoApi:
    """A handler whose replies say what they were asked with, so that equal requests give equal replies.

    Attributes:
        bodies: what was asked.
        failures: responses that the next requests get instead.
        seed: of requests without one; the next has the next number.
    """

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.failures: list[httpx2.Response] = []
        self.seed = 100

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/models"):
            return httpx2.Response(200, json={"object": "list", "data": [{"id": "echo"}, {"id": "other"}]})
        body = json.loads(request.content)
        self.bodies.append(body)
        if self.failures:
            return self.failures.pop(0)
        seed = body.get("seed")
        if seed is None:
            seed, self.seed = self.seed, self.seed + 1
        text = f"{body['model']} hears {body['messages'][-1]['content']} at {body.get('temperature')} with {seed}"
        words = re.findall(r"\S+ ?", text)
        chunks = [chunk(word, seed=seed) for word in words]
        return stream_of(*chunks, chunk(finish_reason="stop"), chunk(usage={"completion_tokens": 42}))


class Typist:
    """Types lines into a chat that has no terminal."""

    def __init__(self, handler: Handler) -> None:
        self.screen = RecordingScreen()
        self._handler = handler
        self._setup = Setup("echo")
        self.on_chat: Callable[[Chat], None] = lambda chat: None

    def type(self, *lines: str) -> Chat:
        """The chat after these lines, typed into a new one."""

        async def session() -> Chat:
            connection = connection_to(self._handler)
            self.chat = chat = Chat(connection, self.screen, self._setup, ("echo", "other"))
            self.on_chat(chat)
            try:
                for line in lines:
                    chat.stop.clear()
                    try:
                        await run_line(chat, line)
                    except ChatError as error:
                        self.screen.error(error.message)
            finally:
                await connection.close()
            return chat

        return run(session())
