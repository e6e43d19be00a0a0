"""The parent's life: whatever happens while it starts or serves, it ends with the right code and leaves nobody."""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from no_engine import NoEngine, own_workers

from penstock_decoding.grammar.vocabulary import Vocabulary
from penstock_engine.client import ProcessClient
from penstock_engine.config import EngineConfig
from penstock_engine.errors import EngineStartError
from penstock_server.serve import run
from penstock_server.settings import ServerConfig
from penstock_server.start import StartError
from penstock_server.workers import crew
from penstock_server.workers.parent import serve_with_workers

pytestmark = pytest.mark.anyio

WAIT_SECONDS = 60

Start = Callable[[EngineConfig, Vocabulary | None], Awaitable[object]]


@pytest.fixture
def config(text_folder: Path) -> EngineConfig:
    (text_folder / "config.json").write_text("{}")
    return EngineConfig(model=str(text_folder))


def serving(config: EngineConfig, start: Start, monkeypatch: pytest.MonkeyPatch) -> "asyncio.Task[int]":
    monkeypatch.setattr(ProcessClient, "start", start)
    return asyncio.create_task(serve_with_workers(config, ServerConfig(port=0, api_workers=2)))


async def until_there(num_workers: int) -> list[int]:
    async def watch() -> list[int]:
        while len(pids := own_workers()) < num_workers:
            await asyncio.sleep(0)
        return pids

    return await asyncio.wait_for(watch(), WAIT_SECONDS)


async def test_a_signal_while_loading(config: EngineConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled = asyncio.Event()

    async def never(asked: EngineConfig, vocabulary: Vocabulary | None) -> object:
        try:
            return await asyncio.Event().wait()
        finally:
            cancelled.set()

    task = serving(config, never, monkeypatch)
    await until_there(2)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await task == 128 + signal.SIGTERM
    assert cancelled.is_set() and own_workers() == []


async def test_an_engine_that_cannot_start(config: EngineConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(asked: EngineConfig, vocabulary: Vocabulary | None) -> object:
        await until_there(2)
        raise EngineStartError("config.json: unknown architecture\n'MambaForCausalLM'")

    with pytest.raises(StartError, match=r"^config\.json: unknown architecture 'MambaForCausalLM'$"):
        await serving(config, failing, monkeypatch)
    assert own_workers() == []


async def test_a_server_without_workers_ends(
    config: EngineConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With 1, so that whoever started it starts it again: an engine that nobody can ask is no server."""
    monkeypatch.setattr(crew, "MAX_RESTARTS", 0)
    engine = NoEngine()

    async def start(asked: EngineConfig, vocabulary: Vocabulary | None) -> object:
        return engine

    caplog.set_level(logging.INFO)
    task = serving(config, start, monkeypatch)

    async def watch() -> None:
        while not any(message.startswith("Listening on") for message in caplog.messages):
            await asyncio.sleep(0)

    await asyncio.wait_for(watch(), WAIT_SECONDS)
    assert ", 2 workers" in caplog.text
    for pid in await until_there(2):
        os.kill(pid, signal.SIGKILL)
    assert await task == 1
    assert engine.is_closed


def test_at_least_one_worker(config: EngineConfig) -> None:
    with pytest.raises(StartError, match="api_workers must be at least 1"):
        run(config, ServerConfig(port=0, api_workers=0))
