"""A client that goes away ends its request in the engine, at once, streaming or not."""

import asyncio
import json

import pytest
from server_api import MODEL, Api, listening, send

from penstock_server.answers import Answers

pytestmark = pytest.mark.anyio


async def submitted(api: Api, count: int = 1) -> None:
    while len(api.engine.streams) < count:
        await asyncio.sleep(0)


TWO: dict[str, object] = {"prompt": ["a", "b"]}


@pytest.mark.parametrize("fields", [{}, {"stream": True}, {"n": 3}, TWO, TWO | {"stream": True}])
@pytest.mark.parametrize("num_steps", [0, 2])
async def test_going_away_aborts(api: Api, fields: dict[str, object], num_steps: int) -> None:
    api.engine.hold()
    async with listening(api) as url:
        reader, writer = await send(url, **fields)
        await submitted(api)
        api.engine.release(num_steps)
        if num_steps and "stream" in fields:
            await reader.readuntil(b"data: ")
        writer.close()
        for stream in api.engine.streams:
            await asyncio.wait_for(stream.end.wait(), 10)
        assert [stream.aborted for stream in api.engine.streams] == [[None]] * len(api.engine.streams)
    assert "penstock_aborted_requests_total 1.0" in api.context.metrics.render().decode()


async def test_a_storm_of_disconnects_leaves_nothing_open(api: Api) -> None:
    api.engine.hold()
    async with listening(api) as url:
        connections = [await send(url, stream=i % 2 == 0) for i in range(20)]
        await submitted(api, 20)
        for _, writer in connections:
            writer.close()
        for stream in api.engine.streams:
            await asyncio.wait_for(stream.end.wait(), 10)
    assert await api.context.life.drain(10)


async def test_gone_before_the_first_byte(api: Api) -> None:
    """The events' generator never starts then, so its own cleanup would never run."""
    from penstock_server.plan import plan_completion
    from penstock_server.replies.completion import CompletionLayout
    from penstock_server.respond import AnswerStream
    from penstock_server.schemas.read import read_completion

    body = read_completion(json.dumps({"model": MODEL, "prompt": "x", "stream": True}).encode())
    plan = await plan_completion(body, api.context.model, api.engine.info)
    answers = await Answers.submit(plan, api.engine, api.context.model, api.context.metrics)
    layout = CompletionLayout(plan, api.context.model.codec.tokenizer, "fp")

    async def gone(message: object) -> None:
        raise OSError("the connection is gone")

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    with pytest.raises(OSError, match="gone"):
        await AnswerStream(answers, layout, api.context)({"type": "http", "method": "POST"}, receive, gone)
    assert api.engine.streams[0].aborted == [None]


async def test_a_finished_request_is_not_aborted(api: Api) -> None:
    await api.complete(stream=True)
    await api.complete()
    assert [stream.aborted for stream in api.engine.streams] == [[], []]
