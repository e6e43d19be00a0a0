"""`receive`: one request from its first byte to its end, however it ends: the reply, its figures, and the failure."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from penstock_chat.chunks import Chunk
from penstock_chat.conversation import Conversation, Ending, Reply, Setup, request_body
from penstock_chat.errors import ServerError

Result = TypeVar("Result")


class Source(Protocol):
    """Where replies come from: a `Connection`, or a fake."""

    def stream(self, body: dict[str, Any]) -> AsyncGenerator[Chunk, None]: ...


class ReplyView(Protocol):
    """Shows one reply while it comes."""

    def add(self, text: str) -> None: ...

    def think(self, text: str) -> None: ...

    def close(self) -> None:
        """No more will come; also after a failure of any kind."""
        ...


@dataclass(frozen=True, slots=True)
class Figures:
    """What a reply took.

    Attributes:
        num_tokens: by the server's count, None if it gave none, as for a reply that was stopped.
        num_chunks: pieces that came with text; most servers send one per token.
        first_seconds: from the request to the first piece, None if none came.
        rest_seconds: from the first piece to the last one.
    """

    num_tokens: int | None = None
    num_chunks: int = 0
    first_seconds: float | None = None
    rest_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Received:
    """What came of a request.

    Attributes:
        reply: None if it failed or was stopped before any text came.
        failure: why it broke off, None if it did not.
    """

    reply: Reply | None
    figures: Figures
    failure: ServerError | None = None


async def receive(
    source: Source,
    conversation: Conversation,
    question: str,
    setup: Setup,
    view: ReplyView,
    stop: asyncio.Event,
    clock: Callable[[], float] = time.perf_counter,
) -> Received:
    """Ask, and show the reply until it ends or `stop` is set, which ends the request as well. The view is closed."""
    incoming = _Incoming(view, clock)
    failure: ServerError | None = None
    ending: Ending = "finished"
    try:
        if not await unless_stopped(stop, incoming.read(source, request_body(conversation, question, setup))):
            ending = "stopped"
    except ServerError as error:
        ending, failure = "broken", error
    finally:
        view.close()
    reply = None
    if incoming.text or ending == "finished":
        seed = incoming.seed if incoming.seed is not None else _set_seed(setup)
        reason = incoming.finish_reason if ending == "finished" else None
        reply = Reply(incoming.text, setup, seed, reason, ending)
    return Received(reply, incoming.figures(), failure)


async def unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """True if `work` ended by itself; False if it was cancelled because of `stop`."""
    task = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            return True
        return False
    finally:
        stopping.cancel()
        task.cancel()
        # Leaves only when the connection is closed, so that the next request finds the server idle.
        await asyncio.wait({task})


class _Incoming:
    """A reply under way."""

    def __init__(self, view: ReplyView, clock: Callable[[], float]) -> None:
        self._view, self._clock = view, clock
        self._parts: list[str] = []
        self._begun = clock()
        self._first: float | None = None
        self._last = self._begun
        self._num_chunks = 0
        self._num_tokens: int | None = None
        self.seed: int | None = None
        self.finish_reason: str | None = None

    @property
    def text(self) -> str:
        return "".join(self._parts)

    async def read(self, source: Source, body: dict[str, Any]) -> None:
        async with aclosing(source.stream(body)) as chunks:
            async for chunk in chunks:
                self._take(chunk)

    def figures(self) -> Figures:
        if self._first is None:
            return Figures(self._num_tokens, self._num_chunks)
        return Figures(self._num_tokens, self._num_chunks, self._first - self._begun, self._last - self._first)

    def _take(self, chunk: Chunk) -> None:
        if chunk.text or chunk.thought:
            self._last = self._clock()
            self._first = self._last if self._first is None else self._first
            self._num_chunks += 1
        if chunk.thought:
            self._view.think(chunk.thought)
        if chunk.text:
            self._parts.append(chunk.text)
            self._view.add(chunk.text)
        self.seed = chunk.seed if chunk.seed is not None else self.seed
        self.finish_reason = chunk.finish_reason or self.finish_reason
        self._num_tokens = chunk.num_tokens if chunk.num_tokens is not None else self._num_tokens


def _set_seed(setup: Setup) -> int | None:
    seed = setup.settings.get("seed")
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else None
