"""Grammars in the engine process: made ready there, refused from there, and given up when whoever asked has gone."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from checkpoints import VOCAB_SIZE, write_checkpoint

from penstock_decoding.grammar.vocabulary import Vocabulary
from penstock_decoding.params import read_decoding
from penstock_engine.client import ProcessClient
from penstock_engine.config import EngineConfig
from penstock_engine.errors import QueueFull, RequestRefused
from penstock_engine.request import GenerationRequest, StopConditions

pytestmark = pytest.mark.anyio

END = 1
WAIT_SECONDS = 30
VOCABULARY = Vocabulary((b"", b"", *(bytes([byte]) for byte in range(ord("0"), ord("z") + 1))))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[ProcessClient]:
    write_checkpoint(tmp_path, "llama")
    config = EngineConfig(model=str(tmp_path), dtype="float32", kv_cache_memory=2**20, max_queue=4, threads=1)
    client = await ProcessClient.start(config, VOCABULARY)
    yield client
    await client.close()


def make_request(name: str, **fields: object) -> GenerationRequest:
    decoding = read_decoding({"seed": 1, **fields}, vocab_size=VOCAB_SIZE)
    return GenerationRequest(name, (5, 6, 7), decoding, StopConditions(20, (END,)))


def slow(index: int) -> GenerationRequest:
    """A grammar that takes the compiler a good part of a second, each a different one."""
    rules = "\n".join(f"R{i}: R{i + 1} R{i + 1}" for i in range(60))
    return make_request(f"slow {index}", guided_grammar=f'start: R0\n{rules}\nR60: "{index}"')


async def text_of(client: ProcessClient, request: GenerationRequest) -> bytes:
    stream = await client.submit(request)
    tokens = [token.token_id async for output in stream for token in output.tokens]
    assert tokens.pop() == END
    return b"".join(VOCABULARY.tokens[token] for token in tokens)


async def test_the_vocabulary_has_arrived(client: ProcessClient) -> None:
    """An answer keeps to its grammar, so the process knows the tokens' bytes."""
    assert await text_of(client, make_request("x", guided_choice=["cat", "horse"])) in (b"cat", b"horse")
    with pytest.raises(RequestRefused, match="invalid regex") as caught:
        await client.submit(make_request("y", guided_regex="("))
    assert caught.value.param == "grammar.regex"


async def test_whoever_has_gone_is_forgotten(client: ProcessClient) -> None:
    """A request given up while its grammar is compiled leaves nothing open, and others go on meanwhile."""
    asked = asyncio.create_task(client.submit(slow(0)))
    await asyncio.sleep(0)
    asked.cancel()
    assert await text_of(client, make_request("x", guided_choice=["cat"])) == b"cat"
    with pytest.raises(asyncio.CancelledError):
        await asked
    await asyncio.wait_for(client.idle(), WAIT_SECONDS)


async def test_only_so_many_are_made_ready_at_once(client: ProcessClient) -> None:
    """Those that wait to be made ready are bounded as the queue is, and each is told in the end."""
    outcomes = await asyncio.gather(*(client.submit(slow(i)) for i in range(8)), return_exceptions=True)
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds.count(QueueFull) == 4 and kinds.count(RequestRefused) == 4
    assert await text_of(client, make_request("x", guided_choice=["cat"])) == b"cat"
