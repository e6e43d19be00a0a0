"""What parent and worker say to each other arrives whole, in order, and is answered, or fails when one is gone."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from penstock_server.workers.channel import Channel, ChannelClosed
from penstock_server.workers.messages import AskIfDone, Done, Find, Found, Keep, Message

pytestmark = pytest.mark.anyio


class End:
    """One end of a channel; answers a `Find` with what was kept, once `gate` is open."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.kept: dict[str, bytes] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.serving = asyncio.create_task(channel.serve(self.told, self.asked))

    def told(self, message: Message) -> None:
        assert isinstance(message, Keep)
        self.kept[message.response_id] = message.response

    async def asked(self, message: Message) -> Message:
        if isinstance(message, AskIfDone):
            return Done()
        assert isinstance(message, Find)
        await self.gate.wait()
        response = self.kept.get(message.response_id)
        return Found(None if response is None else (response, b""))


@asynccontextmanager
async def two_ends() -> AsyncIterator[tuple[End, End]]:
    ends = [End(await Channel.open(end)) for end in socket.socketpair()]
    yield ends[0], ends[1]
    for end in ends:
        end.channel.close()
    await asyncio.gather(*(end.serving for end in ends))


async def test_what_is_told_stands_before_what_is_asked_later() -> None:
    """Also when it is long, and in both directions at once."""
    long = bytes(range(256)) * 2**13  # 2 MiB, more than a socket holds
    async with two_ends() as (one, other):
        for end in (one, other):
            end.channel.tell(Keep("a", long, b""))
        for found in await asyncio.gather(*(end.channel.ask(Find("a"), Found) for end in (one, other))):
            assert found.stored == (long, b"")


async def test_a_question_that_takes_time_holds_up_no_other() -> None:
    async with two_ends() as (one, other):
        other.gate.clear()
        slow = asyncio.create_task(one.channel.ask(Find("a"), Found))
        await one.channel.ask(AskIfDone(), Done)
        assert not slow.done()
        other.gate.set()
        assert (await slow).stored is None


async def test_nobody_waits_for_an_answer_of_who_is_gone() -> None:
    async with two_ends() as (one, other):
        other.gate.clear()
        asking = asyncio.create_task(one.channel.ask(Find("a"), Found))
        await one.channel.ask(AskIfDone(), Done)
        other.channel.close()
        with pytest.raises(ChannelClosed):
            await asking
        await one.serving
        with pytest.raises(ChannelClosed):
            await one.channel.ask(AskIfDone(), Done)
        one.channel.tell(Keep("a", b"", b""))  # goes nowhere


async def test_an_answer_that_comes_too_late_is_nobodys() -> None:
    async with two_ends() as (one, other):
        other.gate.clear()
        with pytest.raises(TimeoutError):
            await one.channel.ask(Find("a"), Found, timeout=0.01)
        other.gate.set()
        await one.channel.ask(AskIfDone(), Done)
