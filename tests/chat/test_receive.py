"""One reply from its first byte to its end, however it ends."""

import asyncio
import itertools
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from chat_parts import RecordingView, run

from penstock_chat.chunks import Chunk
from penstock_chat.conversation import Conversation, Reply, Setup
from penstock_chat.errors import Broken
from penstock_chat.receive import Figures, Received, receive

SETUP = Setup("m", None, {"temperature": 0.5})


class Scripted:
    """Gives these chunks, then `end`: nothing, an error, or silence for ever."""

    def __init__(self, *chunks: Chunk, end: Exception | str | None = None) -> None:
        self._chunks, self._end = chunks, end
        self.is_closed = False

    async def stream(self, body: dict[str, Any]) -> AsyncGenerator[Chunk, None]:
        try:
            for chunk in self._chunks:
                yield chunk
            if isinstance(self._end, Exception):
                raise self._end
            if self._end is not None:
                await asyncio.Event().wait()
        finally:
            self.is_closed = True


def received(source: Scripted, setup: Setup = SETUP, stops_at: str | None = None) -> tuple[Received, RecordingView]:
    view = RecordingView()

    async def work() -> Received:
        stop = asyncio.Event()
        if stops_at is not None:
            view.on_text = lambda: stop.set() if view.text == stops_at else None
            if not stops_at:
                stop.set()
        ticks = itertools.count()
        return await receive(source, Conversation(), "q", setup, view, stop, lambda: float(next(ticks)))

    result = run(work())
    assert view.is_closed and source.is_closed
    return result, view


def test_a_reply() -> None:
    source = Scripted(
        Chunk("a", seed=7), Chunk(thought="t"), Chunk("b"), Chunk(finish_reason="length"), Chunk(num_tokens=9)
    )
    result, view = received(source)
    assert result == Received(Reply("ab", SETUP, 7, "length"), Figures(9, 3, 1.0, 2.0))
    assert (view.text, view.thought) == ("ab", "t")


def test_an_empty_reply_is_a_reply() -> None:
    result, _ = received(Scripted(Chunk(finish_reason="stop")))
    assert result == Received(Reply("", SETUP, None, "stop"), Figures())


@pytest.mark.parametrize(("seed", "known"), [(7, 7), (None, None), ("7", None), (True, None)])
def test_the_seed_that_was_set_where_the_server_says_none(seed: object, known: int | None) -> None:
    result, _ = received(Scripted(Chunk("a")), Setup("m", None, {"seed": seed}))
    assert result.reply is not None and result.reply.seed == known


def test_what_had_come_before_a_failure_is_kept() -> None:
    error = Broken("gone")
    result, _ = received(Scripted(Chunk("ab"), Chunk("c", finish_reason="stop"), end=error))
    assert result.failure is error
    assert result.reply == Reply("abc", SETUP, None, None, "broken")


def test_a_failure_before_any_text_is_no_reply() -> None:
    result, _ = received(Scripted(Chunk(), end=Broken("gone")))
    assert result.reply is None and result.failure is not None


def test_stopped() -> None:
    result, _ = received(Scripted(Chunk("a"), Chunk("b"), end="silence"), stops_at="ab")
    assert result.reply == Reply("ab", SETUP, None, None, "stopped")
    assert result.failure is None


def test_stopped_before_any_text() -> None:
    result, _ = received(Scripted(Chunk(), end="silence"), stops_at="")
    assert result == Received(None, Figures())


def test_a_view_that_fails_ends_the_request() -> None:
    """A closed pipe: what is shown to nobody need not be generated."""
    source, view = Scripted(Chunk("a"), Chunk("b"), end="silence"), RecordingView()

    def broken() -> None:
        raise BrokenPipeError

    view.on_text = broken
    with pytest.raises(BrokenPipeError):
        run(receive(source, Conversation(), "q", SETUP, view, asyncio.Event()))
    assert view.is_closed and source.is_closed
