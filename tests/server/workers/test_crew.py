"""The workers as their parent looks after them: real processes, in front of an engine that is not there."""

import asyncio
import errno
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from no_engine import NoEngine, own_workers

from penstock_engine.client import ProcessClient
from penstock_server.settings import ServerConfig
from penstock_server.start import StartError, bind_queues
from penstock_server.workers import crew as crew_module
from penstock_server.workers.channel import ChannelClosed
from penstock_server.workers.crew import Crew
from penstock_server.workers.messages import AskIfDone, Begin, Done, Message
from penstock_server.workers.process import WorkerProcess

pytestmark = pytest.mark.anyio

WAIT_SECONDS = 60


def begin(folder: Path, *plugins: str) -> Begin:
    """What the workers of this server are told."""
    return Begin(
        name=b"",
        label="",
        config=ServerConfig(drain_timeout=WAIT_SECONDS),
        folder=str(folder),
        model_names=("tiny",),
        plugins=plugins,
        keys=("secret",),
        created=1,
    )


@asynccontextmanager
async def crew_of(first: Begin, size: int) -> AsyncIterator[tuple[Crew, NoEngine, str]]:
    """The crew, what it thinks is the engine, and its address."""
    listeners = bind_queues(ServerConfig(port=0), size)
    crew, engine = Crew(first, listeners), NoEngine()
    following = asyncio.create_task(crew.follow(cast(ProcessClient, cast(Any, engine))))
    try:
        yield crew, engine, f"http://127.0.0.1:{listeners[0].getsockname()[1]}"
    finally:
        await crew.kill()
        following.cancel()
        for listener in listeners:
            listener.close()


async def soon(look: Callable[[], bool]) -> None:
    """Wait until that is so, bounded."""

    async def watch() -> None:
        while not look():
            await asyncio.sleep(0)

    await asyncio.wait_for(watch(), WAIT_SECONDS)


async def test_workers_serve_and_finish(text_folder: Path) -> None:
    """A worker that starts while there is no engine says so, as the others do, and asks for the same keys."""
    async with crew_of(begin(text_folder), 2) as (crew, engine, url):
        await crew.begun()
        assert len(own_workers()) == 2
        async with httpx.AsyncClient(base_url=url, timeout=WAIT_SECONDS) as client:
            health = await client.get("/health")
            assert health.status_code == 503 and "there is no engine" in health.text
            models = await client.get("/v1/models", headers={"Authorization": "Bearer secret"})
            assert models.json()["data"][0]["created"] == 1
            assert (await client.get("/v1/models")).status_code == 401
        assert await crew.finish(WAIT_SECONDS, asyncio.Event())
        assert own_workers() == [] and sorted(engine.forgotten) == [b"api-1", b"api-2"]
        with socket.socket() as later, pytest.raises(ConnectionRefusedError):
            later.connect(("127.0.0.1", int(url.rpartition(":")[2])))


async def test_a_worker_that_ends_is_started_again_until_it_has_ended_too_often(
    text_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then its share of connections goes to those that are left; when none is, that is told."""
    monkeypatch.setattr(crew_module, "MAX_RESTARTS", 1)
    async with crew_of(begin(text_folder), 2) as (crew, engine, url):
        await crew.begun()
        first, second = own_workers()
        os.kill(first, signal.SIGKILL)
        await soon(lambda: len(engine.forgotten) == 1)
        await soon(lambda: len(crew.serving) == 2)
        assert second in own_workers() and first not in own_workers()
        (again,) = {*own_workers()} - {second}
        os.kill(again, signal.SIGKILL)
        await soon(lambda: len(engine.forgotten) == 2)
        async with httpx.AsyncClient(timeout=WAIT_SECONDS) as client:
            for _ in range(16):
                assert (await client.get(f"{url}/ready", headers={"Connection": "close"})).status_code == 503
        os.kill(second, signal.SIGKILL)
        await soon(lambda: len(engine.forgotten) == 3)
        await soon(lambda: len(crew.serving) == 1)
        for pid in own_workers():
            os.kill(pid, signal.SIGKILL)
        await asyncio.wait_for(crew.ended(), WAIT_SECONDS)
        assert own_workers() == []


class Hanging:
    """A worker, and its channel, that answers a few times and then no more."""

    def __init__(self, num_answers: int) -> None:
        self.channel = self
        self.num_answers = num_answers
        self.is_killed = False

    async def ask(self, question: Message, expected: type[Any], timeout: float) -> Message:
        assert isinstance(question, AskIfDone)
        if self.is_killed:
            raise ChannelClosed
        self.num_answers -= 1
        if self.num_answers < 0:
            raise TimeoutError
        return Done()

    async def kill(self) -> None:
        assert self.num_answers < 0
        self.is_killed = True


async def test_a_worker_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(crew_module, "SILENCE_SECONDS", 0)
    hanging = Hanging(num_answers=3)
    await crew_module.kill_when_silent(cast(WorkerProcess, cast(Any, hanging)), "worker 1")
    assert hanging.is_killed and "API worker 1 has been silent" in caplog.text


async def test_a_worker_that_cannot_start_keeps_the_server_from_starting(
    text_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its own words are in the log."""
    plugin = tmp_path / "breaks_workers.py"
    plugin.write_text("raise RuntimeError('not in a worker')\n")
    async with crew_of(begin(text_folder, str(plugin)), 1) as (crew, _, _url):
        with pytest.raises(StartError, match="API worker 1 ended with code 1 while starting"):
            await crew.begun()
    assert "not in a worker" in capfd.readouterr().err


async def test_a_machine_without_room_for_a_worker(text_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start waited for ever for a worker that nobody had started."""

    async def no_room(*arguments: object, **options: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(asyncio, "create_subprocess_exec", no_room)
    async with crew_of(begin(text_folder), 2) as (crew, _, _url):
        with pytest.raises(StartError, match=r"could not be started \(Resource temporarily unavailable\)"):
            await asyncio.wait_for(crew.begun(), WAIT_SECONDS)


async def test_a_crew_that_is_given_up_while_it_starts_leaves_nobody(text_folder: Path) -> None:
    async with crew_of(begin(text_folder), 2):
        await soon(lambda: len(own_workers()) == 2)
    assert own_workers() == []


async def test_a_worker_that_has_not_begun_to_serve_does_not_hold_up_the_end(text_folder: Path) -> None:
    async with crew_of(begin(text_folder), 1) as (crew, _, _url):
        await soon(lambda: len(own_workers()) == 1)
        assert await crew.finish(WAIT_SECONDS, asyncio.Event())
        assert own_workers() == []
