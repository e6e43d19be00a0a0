"""Many clients at once on the demo model: each gets what it would get alone, and whoever leaves leaves nothing."""

import asyncio
import json
import random
from typing import Any

import httpx
import pytest
from real_server import Served

pytestmark = pytest.mark.anyio
NUM_CLIENTS = 64
PROMPTS = (
    "Once upon a time",
    "One sunny morning, a little fox named",
    "What is 3 plus 4?",
    "Once upon a time, in a small house at the edge of the wood, there lived",
)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def mixed_request(index: int) -> dict[str, Any]:
    """A completion request unlike its neighbours."""
    rng = random.Random(index)
    return {
        "model": "demo",
        "prompt": rng.choice(PROMPTS),
        "max_tokens": rng.randrange(10, 60),
        "seed": index,
        "temperature": rng.choice([0, 0.5, 0.8, 1.0, 1.4]),
        "top_p": rng.choice([1, 0.95, 0.7]),
        "top_k": rng.choice([0, 0, 20, 5]),
        "min_p": rng.choice([0, 0, 0.05]),
        "n": rng.choice([1, 1, 1, 2, 3]),
        "repetition_penalty": rng.choice([1, 1, 1.2]),
        "presence_penalty": rng.choice([0, 0, 0.5]),
        "frequency_penalty": rng.choice([0, 0, 0.3]),
        "logit_bias": rng.choice([{}, {"100": 5, "101": -100}]),
        "logprobs": rng.choice([None, None, 2]),
        "stop": rng.choice([None, None, ".", ["and", "the "]]),
        "min_tokens": rng.choice([0, 0, 8]),
        "ignore_eos": rng.choice([False, True]),
    }


def content(reply: dict[str, Any]) -> list[tuple[object, ...]]:
    """What an answer says, without its id and time."""
    return [(choice["index"], choice["text"], choice["finish_reason"]) for choice in reply["choices"]]


async def test_each_of_64_mixed_requests_equals_its_solo_answer(demo: Served) -> None:
    """All at once, then one by one: the same text and the same ends, streamed or not."""
    async with httpx.AsyncClient(base_url=demo.url, timeout=120, limits=httpx.Limits(max_connections=None)) as client:

        async def answer(index: int) -> list[tuple[object, ...]]:
            reply = await client.post("/v1/completions", json=mixed_request(index))
            assert reply.status_code == 200, reply.text
            return content(reply.json())

        together = await asyncio.gather(*(answer(index) for index in range(NUM_CLIENTS)))
        alone = [await answer(index) for index in range(NUM_CLIENTS)]
        assert together == alone

        async def streamed(index: int) -> list[tuple[object, ...]]:
            texts: dict[int, str] = {}
            ends: dict[int, object] = {}
            body = {**mixed_request(index), "stream": True}
            async with client.stream("POST", "/v1/completions", json=body) as reply:
                async for line in reply.aiter_lines():
                    if line.startswith("data: {"):
                        for choice in json.loads(line[6:])["choices"]:
                            texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
                            ends[choice["index"]] = choice["finish_reason"] or ends.get(choice["index"])
            return [(index, texts[index], ends[index]) for index in sorted(texts)]

        assert await asyncio.gather(*(streamed(index) for index in range(NUM_CLIENTS))) == together


async def test_clients_that_leave_mid_stream_leave_no_block_behind(demo: Served) -> None:
    """32 of 64 hang up after a few tokens; the others finish, and the pool is whole again."""
    async with httpx.AsyncClient(base_url=demo.url, timeout=120, limits=httpx.Limits(max_connections=None)) as client:

        async def read(index: int) -> int:
            body = {"model": "demo", "prompt": PROMPTS[index % 4], "max_tokens": 200, "seed": index, "stream": True}
            num_events = 0
            async with client.stream("POST", "/v1/completions", json={**body, "ignore_eos": True}) as reply:
                async for line in reply.aiter_lines():
                    num_events += line.startswith("data: {")
                    if index % 2 and num_events == 5:
                        return num_events
            return num_events

        counts = await asyncio.gather(*(read(index) for index in range(NUM_CLIENTS)))
    assert all(count == 5 for count in counts[1::2])
    assert all(count > 5 for count in counts[::2])
    await until_idle(demo)


async def test_a_client_that_leaves_before_its_whole_reply_is_noticed(demo: Served) -> None:
    """A reply that is not streamed: the client closes its socket while waiting, and the request ends."""
    body = json.dumps({"model": "demo", "prompt": "Once", "max_tokens": 900, "ignore_eos": True}).encode()
    host, port = demo.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()
    while demo.metrics()["penstock_engine_requests_running"] == 0:
        await asyncio.to_thread(demo.metrics)
    writer.close()
    await writer.wait_closed()
    await until_idle(demo)


async def until_idle(served: Served) -> None:
    """Wait until the metrics show an empty engine; the runner's own time limit bounds it."""
    async with asyncio.timeout(60):
        while True:
            metrics = await asyncio.to_thread(served.metrics)
            if metrics["penstock_engine_requests_running"] == metrics["penstock_engine_kv_blocks_in_use"] == 0:
                return
