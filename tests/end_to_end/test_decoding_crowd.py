"""Every strategy and every processor in one batch on the demo model: each request gets what it would get alone."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from decoding_requests import PROCESSORS, STRATEGIES, Told, content, requests
from real_server import Served

from penstock_decoding import processors, strategies

pytestmark = pytest.mark.anyio
NUM_REQUESTS = 64


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def test_no_strategy_and_no_processor_is_missing() -> None:
    """What is added to the tables is added to the crowd."""
    assert set(STRATEGIES) == set(strategies.STRATEGIES)
    assert set(PROCESSORS) == set(processors.PROCESSORS)


async def test_64_requests_of_every_kind_equal_their_solo_answers(demo: Served, alone: dict[str, Told]) -> None:
    """All at once, some of them twice, every other one streamed: the answers, ends and scores that they have alone."""
    named = [*requests().items()]
    crowd = [*named, *named[: NUM_REQUESTS - len(named)]]
    async with httpx.AsyncClient(base_url=demo.url, timeout=120, limits=httpx.Limits(max_connections=None)) as client:

        async def whole(body: dict[str, Any]) -> Told:
            reply = await client.post("/v1/completions", json={"model": "demo", **body})
            assert reply.status_code == 200, (body, reply.text)
            return content(reply.json())

        async def streamed(body: dict[str, Any]) -> Told:
            choices: dict[int, dict[str, Any]] = {}
            asked = {"model": "demo", **body, "stream": True}
            async with client.stream("POST", "/v1/completions", json=asked) as reply:
                async for line in reply.aiter_lines():
                    assert not line.startswith("event: error"), body
                    if line.startswith("data: {"):
                        for choice in json.loads(line[6:])["choices"]:
                            own = choices.setdefault(choice["index"], {"index": choice["index"], "text": ""})
                            text = own["text"] + choice["text"]
                            own |= choice | {"text": text}
            return content({"choices": list(choices.values())})

        together = await asyncio.gather(*((streamed if i % 2 else whole)(body) for i, (_, body) in enumerate(crowd)))
    assert len(together) == NUM_REQUESTS
    for (name, _), crowded in zip(crowd, together, strict=True):
        assert crowded == alone[name], name
    # The strategies and processors did something: hardly any two of the kinds gave the same.
    assert len({repr(answers) for answers in alone.values()}) > len(alone) * 0.9
