"""Many prompts read for one request, through an engine whose queue is short."""

import asyncio
from collections.abc import Sequence

import pytest
from fake_engine import FakeEngine, FakeStream, cycling, embedding_of, fake_info

from penstock_engine.errors import QueueFull
from penstock_engine.request import GenerationRequest, PromptReading
from penstock_server.readings import AskedPrompt, ReadPrompt, read_prompts, reading_requests

pytestmark = pytest.mark.anyio

READING = PromptReading(num_logprobs=1, pooling="last")


class ShortQueue(FakeEngine):
    """Has room for `room` requests at a time, whosever they are."""

    def __init__(self, room: int) -> None:
        super().__init__(fake_info(vocab_size=500), cycling([1]))
        self.room = room
        self.most_open = self.num_refused = 0

    async def submit(self, request: GenerationRequest) -> FakeStream:
        num_open = sum(not stream.is_over for stream in self.streams)
        if num_open >= self.room:
            self.num_refused += 1
            await asyncio.sleep(0)  # as long as the answer of another process takes, others go on
            raise QueueFull(num_open, 1)
        self.most_open = max(self.most_open, num_open + 1)
        return await super().submit(request)


def prompts(count: int) -> list[AskedPrompt]:
    return [AskedPrompt([i, i + 1], f"input.{i}") for i in range(count)]


async def read(engine: FakeEngine, asked: Sequence[AskedPrompt]) -> list[ReadPrompt]:
    requests = reading_requests("embd-1", asked, READING, priority=2, cache_salt="mine")
    return await read_prompts(requests, [one.param for one in asked], engine)


@pytest.mark.parametrize("room", [1, 2, 7, 1000])
async def test_each_gets_its_own_however_short_the_queue_is(room: int) -> None:
    """A list longer than the queue was refused, and would have been each time that it came again."""
    engine = ShortQueue(room)
    told = await read(engine, prompts(50))
    assert [one.embedding for one in told] == [embedding_of([i, i + 1], "last", 8) for i in range(50)]
    assert all(len(one.logprobs) == 1 for one in told)
    assert engine.most_open == min(room, 8)  # half of the fake's queue is for others
    assert (engine.num_refused > 0) == (room < 8)
    assert sorted(request.prompt for request in engine.requests) == [(i, i + 1) for i in range(50)]
    assert len({request.id for request in engine.requests}) == 50
    assert {(request.priority, request.cache_salt) for request in engine.requests} == {(2, "mine")}


async def test_a_queue_full_of_others_is_told() -> None:
    engine = ShortQueue(1)
    engine.hold()
    await engine.submit(reading_requests("other", prompts(1), READING)[0])
    with pytest.raises(QueueFull):
        await read(engine, prompts(20))
    assert len(engine.requests) == 1


async def test_nothing_is_left_when_nobody_waits() -> None:
    engine = ShortQueue(100)
    engine.hold()
    reading = asyncio.create_task(read(engine, prompts(20)))
    while len(engine.streams) < 8:
        await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert [stream.aborted for stream in engine.streams] == [[None]] * 8
