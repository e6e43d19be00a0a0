"""How outputs get from the engine's socket to whoever reads a stream: at once, in order, and in turns."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import zmq
import zmq.asyncio
from fake_engine import fake_info

from penstock_decoding.params import read_decoding
from penstock_engine.client_protocol import Delivered
from penstock_engine.config import EngineStats
from penstock_engine.errors import RequestFailed
from penstock_engine.link import EngineLink, ProcessStream
from penstock_engine.messages import ENCODER, Accepted, Ready, pack_step
from penstock_engine.outputs import Finish, StepOutput, TokenOutput
from penstock_engine.request import GenerationRequest, StopConditions

pytestmark = pytest.mark.anyio

NUM_STEPS = 2000


def step(token_id: int, *, is_last: bool = False) -> StepOutput:
    finish = Finish.LENGTH if is_last else Finish.OPEN
    return StepOutput((TokenOutput(0, token_id, finish),), is_last)


@pytest.fixture
async def stream() -> AsyncIterator[ProcessStream]:
    link = EngineLink()
    yield ProcessStream(link, 0)
    link.end()


async def test_what_came_before_is_delivered_first(stream: ProcessStream) -> None:
    given: list[Delivered] = [step(1), step(2), step(3), RequestFailed("broken")]
    for item in given[:2]:
        stream.put(item)
    taken: list[Delivered] = []
    stream.deliver_to(taken.append)
    assert taken == given[:2]
    for item in given[2:]:
        stream.put(item)
        assert taken[-1] is item, "with nobody to be woken up"
    assert taken == given


@pytest.mark.parametrize("last", [None, RequestFailed("broken"), step(9, is_last=True)])
async def test_iterating_gives_the_same(last: Delivered, stream: ProcessStream) -> None:
    for item in (step(1), step(2), last):
        stream.put(item)
    got: list[StepOutput] = []
    told: Exception | None = None
    try:
        async for output in stream:
            got.append(output)
    except RequestFailed as failed:
        told = failed
    assert got == [step(1), step(2), *([last] if isinstance(last, StepOutput) else [])]
    assert told is (last if isinstance(last, Exception) else None)


@asynccontextmanager
async def scripted_engine(path: Path) -> AsyncIterator[tuple[EngineLink, "zmq.asyncio.Socket"]]:
    """A link to an engine's socket behind which the test is."""
    with zmq.asyncio.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.bind(f"ipc://{path}")
        link = EngineLink(b"reader")
        connecting = asyncio.create_task(link.connect(path))
        await socket.recv_multipart()
        await socket.send_multipart([b"reader", ENCODER.encode(Ready(fake_info(500)))])
        await connecting
        receiving = asyncio.create_task(link.receive())
        yield link, socket
        receiving.cancel()
        await link.close()


async def test_an_engine_that_is_ahead_leaves_others_their_turns(tmp_path: Path) -> None:
    """While messages waited, receiving them never let go of the event loop: with an engine faster than its client, no
    byte was written and no request taken until it had nothing more to say."""
    async with scripted_engine(tmp_path / "socket") as (link, socket):
        decoding = read_decoding({"temperature": 0}, vocab_size=500)
        submitting = asyncio.create_task(link.submit(GenerationRequest("a", (1,), decoding, StopConditions(NUM_STEPS))))
        await socket.recv_multipart()
        outputs = [step(i, is_last=i == NUM_STEPS - 1) for i in range(NUM_STEPS)]
        steps = [pack_step([(0, output)], EngineStats()) for output in outputs]
        for message in (Accepted(0), *steps):
            await socket.send_multipart([b"reader", ENCODER.encode(message)])
        stream = await submitting
        taken: list[Delivered] = []
        stream.deliver_to(taken.append)
        seen = set()
        while len(taken) < NUM_STEPS:
            seen.add(len(taken))
            await asyncio.sleep(0)
        assert taken == outputs
        assert len(seen) > 2
