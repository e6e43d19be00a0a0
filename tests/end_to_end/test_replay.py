"""The same request and seed give the same answers: again, after preemption, and in process."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from decoding_requests import Told, content, requests
from real_server import Served, serving

from penstock_engine.config import EngineConfig
from penstock_engine.llm import LLM, Result
from penstock_server.serve import DEMO_MODEL
from penstock_server.text.codec import TextCodec

pytestmark = pytest.mark.anyio

MOST_COPIES = 6


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def cramped() -> Iterator[Served]:
    """A server whose KV cache holds little more than its largest request."""
    with serving("demo", "--kv-cache-memory", "2MiB", "--max-model-len", "128") as served:
        yield served


async def test_preempted_and_in_process(cramped: Served, alone: dict[str, Told]) -> None:
    """Alone on one server is the yardstick. Then all at once where the cache is too small for them, so that searches
    and samples are taken off and computed again; then in process, in one batch."""
    async with httpx.AsyncClient(
        base_url=cramped.url, timeout=120, limits=httpx.Limits(max_connections=None)
    ) as client:

        async def answer(body: dict[str, Any]) -> Told:
            reply = await client.post("/v1/completions", json={"model": "demo", **body})
            assert reply.status_code == 200, (body, reply.text)
            return content(reply.json())

        bodies = requests()
        # Whether large ones meet in the cache is a matter of how fast they come: more are asked until they have.
        for num_copies in range(1, MOST_COPIES + 1):
            asked = [(name, body) for name, body in bodies.items() for _ in range(num_copies)]
            together = await asyncio.gather(*(answer(body) for _, body in asked))
            assert together == [alone[name] for name, _ in asked]
            if cramped.metrics()["penstock_engine_preemptions_total"] > 0:
                break
    assert cramped.metrics()["penstock_engine_preemptions_total"] > 0
    assert in_process() == alone


async def test_again_with_a_warm_cache(demo: Served, alone: dict[str, Told]) -> None:
    """Asked once more, when the prompts' blocks are found in the cache."""
    async with httpx.AsyncClient(base_url=demo.url, timeout=120) as client:
        for name in ("beam", "stochastic_beam", "constrained_beam", "sample", "mirostat", "grammar", "dry"):
            reply = await client.post("/v1/completions", json={"model": "demo", **requests()[name]})
            assert content(reply.json()) == alone[name], name


def in_process() -> dict[str, Told]:
    """What each kind of request gives without a server, all in one batch."""
    llm = LLM(EngineConfig(model=str(DEMO_MODEL)), tokenizer=TextCodec.load(DEMO_MODEL))
    bodies = requests()
    results = llm.generate(
        [body["prompt"] for body in bodies.values()],
        [{"decoding": body["decoding"], "seed": body["seed"]} for body in bodies.values()],
        max_tokens=[body["max_tokens"] for body in bodies.values()],
        progress=False,
    )
    return {name: told(result) for name, result in zip(bodies, results, strict=True)}


def told(result: Result) -> Told:
    """A result as `content` tells a reply."""
    return [(i, answer.text, answer.finish_reason, answer.score) for i, answer in enumerate(result.answers)]
