"""The engine in its own process: streams, aborts, faults, restarts, and an end whatever happens to whom."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from checkpoints import write_checkpoint

from penstock_decoding.params import read_decoding
from penstock_engine.client import ProcessClient
from penstock_engine.config import EngineConfig
from penstock_engine.errors import EngineStartError, EngineUnavailable, QueueFull, RequestRefused
from penstock_engine.llm import LLM
from penstock_engine.outputs import Finish
from penstock_engine.request import GenerationRequest, StopConditions

pytestmark = pytest.mark.anyio

WAIT_SECONDS = 30


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> EngineConfig:
    folder = tmp_path_factory.mktemp("tiny")
    write_checkpoint(folder, "llama")
    return EngineConfig(model=str(folder), dtype="float32", kv_cache_memory=2**20, max_queue=4, max_rows=4, threads=1)


@pytest.fixture
async def client(config: EngineConfig) -> AsyncIterator[ProcessClient]:
    client = await ProcessClient.start(config)
    yield client
    await client.close()


def make_request(name: str, seed: int, *, max_tokens: int = 8, **fields: object) -> GenerationRequest:
    """A prompt of its own for each seed; never ends before max_tokens."""
    decoding = read_decoding({"seed": seed, **fields}, vocab_size=200)
    return GenerationRequest(name, (1 + seed, 2, 3, 4, 5), decoding, StopConditions(max_tokens))


async def collect(client: ProcessClient, request: GenerationRequest) -> list[tuple[int, int]]:
    """All (answer, token) pairs of a request."""
    stream = await client.submit(request)
    return [(token.choice, token.token_id) async for output in stream for token in output.tokens]


async def until(condition: Callable[[], bool], client: ProcessClient) -> None:
    """Wait for a state that the engine's next reports must show, bounded."""

    async def watch() -> None:
        while not condition():
            await client.changed()

    await asyncio.wait_for(watch(), WAIT_SECONDS)


async def test_streams_equal_the_engine_in_process(client: ProcessClient, config: EngineConfig) -> None:
    """Several requests at once, each with n answers, token for token as `LLM` gives them."""
    requests = [make_request(str(i), i, n=2, temperature=0.9) for i in range(4)]
    streamed = await asyncio.gather(*(collect(client, request) for request in requests))
    for request, pairs in zip(requests, streamed, strict=True):
        fields = {"seed": request.decoding.seed, "n": 2, "temperature": 0.9}
        (result,) = LLM(config).generate([request.prompt], fields, max_tokens=8, ignore_eos=True, progress=False)
        assert [[t for c, t in pairs if c == choice] for choice in range(2)] == [a.token_ids for a in result.answers]


async def test_refusals_reach_the_one_who_asked(client: ProcessClient) -> None:
    """A request that can never fit and one too many both raise at submit; the engine goes on."""
    with pytest.raises(RequestRefused) as refused:
        await client.submit(make_request("long", 1, max_tokens=10**6))
    assert refused.value.param == "max_tokens"
    streams, errors = [], []
    for i in range(24):
        try:
            streams.append(await client.submit(make_request(str(i), i, max_tokens=100)))
        except QueueFull as full:
            errors.append(full)
    assert errors and all(error.retry_after >= 1 for error in errors)
    for stream in streams:
        stream.abort()
    assert len(await collect(client, make_request("after", 1))) == 8


async def test_abort_ends_the_stream_and_frees_the_blocks(client: ProcessClient) -> None:
    """One answer of two, then the other: the stream ends by itself, and no block stays in use."""
    stream = await client.submit(make_request("a", 1, n=2, max_tokens=100))
    seen: list[set[int]] = []
    async for output in stream:
        seen.append({token.choice for token in output.tokens})
        if len(seen) == 2:
            stream.abort(0)
        if {1} in seen:
            stream.abort(1)
    assert seen[0] == {0, 1} and seen[-1] == {1}
    await until(lambda: client.stats.num_blocks_in_use == 0 and client.stats.num_running == 0, client)


async def test_a_cancelled_submit_leaves_nothing_behind(client: ProcessClient) -> None:
    """The caller is gone before the engine has answered: its request is aborted all the same."""
    tasks = [asyncio.create_task(client.submit(make_request(str(i), i, max_tokens=100))) for i in range(3)]
    await asyncio.sleep(0)  # let them send
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.wait_for(client.idle(), WAIT_SECONDS)
    await until(lambda: client.stats.num_blocks_in_use == 0 and client.stats.num_waiting == 0, client)


async def test_a_killed_engine_fails_its_streams_and_comes_back(client: ProcessClient) -> None:
    """Open streams get an error at once, then a new process serves again."""
    stream = await client.submit(make_request("a", 1, max_tokens=100))
    killed = client.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    with pytest.raises(EngineUnavailable, match="ended"):
        async for _ in stream:
            pass
    await until(lambda: client.failure is None, client)
    assert client.pid != killed
    assert len(await collect(client, make_request("b", 2))) == 8


async def test_close_lets_open_requests_finish(config: EngineConfig) -> None:
    """With a drain timeout the open request ends by itself; new ones are refused meanwhile; the process is gone."""
    client = await ProcessClient.start(config)
    stream = await client.submit(make_request("a", 1, max_tokens=50))
    closing = asyncio.create_task(client.close(drain_timeout=WAIT_SECONDS))
    outputs = [output async for output in stream]
    assert outputs[-1].tokens[-1].finish == Finish.LENGTH
    await closing
    with pytest.raises(EngineUnavailable):
        await client.submit(make_request("b", 2))
    pid = client.pid
    assert pid is not None and not _is_running(pid)
    await client.close()


async def test_close_without_drain_fails_open_requests(config: EngineConfig) -> None:
    """They are told, not left hanging."""
    client = await ProcessClient.start(config)
    stream = await client.submit(make_request("a", 1, max_tokens=100))
    await client.close()
    with pytest.raises(EngineUnavailable, match="shutting down"):
        async for _ in stream:
            pass


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "/nowhere/at/all"}, "/nowhere/at/all"),
        ({"max_model_len": 10**6}, "max_model_len"),
        ({"kv_cache_memory": 5}, "KV cache"),
        ({"max_batch_tokens": 2}, "max_batch_tokens"),
    ],
)
async def test_a_start_that_fails_says_why(config: EngineConfig, change: dict[str, object], words: str) -> None:
    """The cause in one message, and no process left."""
    with pytest.raises(EngineStartError, match=words):
        await ProcessClient.start(replace(config, **change))  # type: ignore[arg-type]


_START_AND_PRINT = """
import asyncio, sys
import msgspec
from penstock_engine.client import ProcessClient
from penstock_engine.config import EngineConfig

async def main():
    client = await ProcessClient.start(msgspec.json.decode(sys.argv[1], type=EngineConfig))
    print(client.pid, "torch" in sys.modules, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_the_engine_never_outlives_its_server_and_torch_stays_out_of_it(config: EngineConfig) -> None:
    """A server that is killed outright takes its engine process with it; the client's process never loads torch."""
    server = subprocess.Popen(
        [sys.executable, "-c", _START_AND_PRINT, msgspec.json.encode(config).decode()],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    with server.stdout:
        pid, has_torch = server.stdout.readline().split()
    assert has_torch == "False"
    watch = os.pidfd_open(int(pid))
    server.kill()
    server.wait()
    ended, _, _ = select.select([watch], [], [], WAIT_SECONDS)
    os.close(watch)
    assert ended, "the engine process is still there"


def _is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
