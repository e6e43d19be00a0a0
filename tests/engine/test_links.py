"""Several clients of one engine process: each has its own requests, and one that is gone leaves nothing behind."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from checkpoints import write_checkpoint

from penstock_decoding.params import read_decoding
from penstock_engine.client import ProcessClient
from penstock_engine.config import EngineConfig
from penstock_engine.errors import EngineUnavailable
from penstock_engine.link import EngineLink, ProcessStream
from penstock_engine.request import GenerationRequest, StopConditions

pytestmark = pytest.mark.anyio

WAIT_SECONDS = 30
LONG = 100


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def owner(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessClient]:
    """Whoever started the engine."""
    folder = tmp_path_factory.mktemp("tiny")
    write_checkpoint(folder, "llama")
    config = EngineConfig(model=str(folder), dtype="float32", kv_cache_memory=2**20, max_rows=4, threads=1)
    client = await ProcessClient.start(config)
    yield client
    await client.close()


@asynccontextmanager
async def linked(owner: ProcessClient, name: bytes) -> AsyncIterator[EngineLink]:
    """Another client of the same engine, in whatever process."""
    link = EngineLink(name)
    await link.connect(owner.path)
    receiving = asyncio.create_task(link.receive())
    yield link
    receiving.cancel()
    await link.close()


def make_request(name: str, max_tokens: int = LONG, **fields: object) -> GenerationRequest:
    decoding = read_decoding({"seed": 1, **fields}, vocab_size=200)
    return GenerationRequest(name, (1, 2, 3, 4, 5), decoding, StopConditions(max_tokens))


async def tokens_of(stream: ProcessStream) -> list[int]:
    return [token.token_id async for output in stream for token in output.tokens]


async def first_output(stream: ProcessStream) -> None:
    async for _ in stream:
        return


async def until(condition: Callable[[], bool], owner: ProcessClient) -> None:
    """Wait for a state that the engine's next reports must show, bounded."""

    async def watch() -> None:
        while not condition():
            await owner.changed()

    await asyncio.wait_for(watch(), WAIT_SECONDS)


async def test_equal_handles_of_two_clients_are_two_requests(owner: ProcessClient) -> None:
    async with linked(owner, b"one") as one, linked(owner, b"other") as other:
        streams = [await link.submit(make_request("a", 8, temperature=t)) for link, t in ((one, 0.0), (other, 2.0))]
        first, second = await asyncio.gather(*map(tokens_of, streams))
        assert len(first) == len(second) == 8 and first != second
        assert first == await tokens_of(await owner.submit(make_request("b", 8, temperature=0.0)))


async def test_who_hears_no_tokens_hears_a_sign_of_life(owner: ProcessClient) -> None:
    """While one client's streams kept the engine talking, the others were told nothing at all: their figures stood
    still, and after two minutes they would have taken the engine for hung."""
    async with linked(owner, b"talking") as talking, linked(owner, b"silent") as silent:

        async def talk() -> None:
            while True:
                await tokens_of(await talking.submit(make_request("a", 20)))

        talk_on = asyncio.create_task(talk())
        before = silent.stats.num_steps
        await asyncio.wait_for(silent.changed(), WAIT_SECONDS)
        assert silent.stats.num_steps > before
        talk_on.cancel()


async def test_the_requests_of_a_client_that_is_gone_end(owner: ProcessClient) -> None:
    """Those of others go on."""
    async with linked(owner, b"gone") as gone, linked(owner, b"there") as there:
        await first_output(await gone.submit(make_request("a", n=2)))
        theirs = await there.submit(make_request("a"))
        owner.forget(b"gone")
        assert len(await tokens_of(theirs)) == LONG
        await until(lambda: owner.stats.num_running == owner.stats.num_blocks_in_use == 0, owner)


async def test_a_link_without_an_engine_says_so(tmp_path: Path) -> None:
    link = EngineLink(b"early")
    assert link.failure is not None
    with pytest.raises(EngineUnavailable, match="starting"):
        await link.submit(make_request("a"))
    await link.close()
    with pytest.raises(EngineUnavailable, match="shutting down"):
        await link.submit(make_request("a"))


async def test_a_request_that_cannot_be_packed_leaves_nothing(owner: ProcessClient) -> None:
    """As with a number of more than 64 bits for a plug-in that sets no bound. It stayed open, and a server that drains
    waited for it to its last second."""
    async with linked(owner, b"api-unpackable") as link:
        with pytest.raises(UnicodeEncodeError):
            await link.submit(dataclasses.replace(make_request("lone"), cache_salt="\ud800"))
        await asyncio.wait_for(link.idle(), WAIT_SECONDS)
