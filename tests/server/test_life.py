"""Health, draining, and a whole server's life with its signals."""

import asyncio
import json
import logging
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
from fake_engine import FakeEngine, cycling, fake_info
from server_api import Api, listening, send

from penstock_decoding.grammar.vocabulary import Vocabulary
from penstock_engine.config import EngineConfig
from penstock_engine.errors import EngineStartError
from penstock_server.serve import serve
from penstock_server.settings import ServerConfig
from penstock_server.start import StartError, bind

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("path", ["/health", "/ready"])
async def test_health(api: Api, path: str) -> None:
    assert (await api.client.get(path)).json() == {"status": "ok"}
    api.engine.failure = "out of memory"
    response = await api.client.get(path)
    assert response.status_code == 503
    assert (
        response.json()["error"]["code"] == "engine_failed" and "out of memory" in response.json()["error"]["message"]
    )


async def test_draining_finishes_what_is_open_and_takes_no_more(api: Api) -> None:
    api.engine.hold()
    async with listening(api) as url, httpx.AsyncClient(base_url=url, timeout=20) as client:
        running = asyncio.create_task(
            client.post("/v1/completions", json={"model": "alias", "prompt": "x", "max_tokens": 2})
        )
        while not api.engine.streams:
            await asyncio.sleep(0)
        drain = asyncio.create_task(api.context.life.drain(20))
        await asyncio.sleep(0)
        refused = await client.post("/v1/completions", json={"model": "alias", "prompt": "x"})
        assert refused.status_code == 503 and refused.json()["error"]["code"] == "draining"
        ready = await client.get("/ready")
        assert ready.status_code == 503 and ready.json()["error"]["code"] == "draining"
        for path in ("/health", "/version", "/metrics"):
            assert (await client.get(path)).status_code == 200
        assert not drain.done()
        api.engine.release(2)
        assert (await running).status_code == 200
        assert await drain


async def test_a_drain_that_takes_too_long(api: Api) -> None:
    api.engine.hold()
    async with listening(api) as url:
        reader, writer = await send(url, stream=True)
        while not api.engine.streams:
            await asyncio.sleep(0)
        assert not await api.context.life.drain(0.01)
        await api.engine.close()
        # Told, not cut off.
        text = (await reader.readuntil(b"0\r\n\r\n")).decode()
        assert "event: error" in text and "service_unavailable_error" in text
        writer.close()


class Started:
    """A server as `penstock serve` runs it, over a fake engine, in this event loop."""

    def __init__(self, engine: FakeEngine, task: "asyncio.Task[int]", url: str) -> None:
        self.engine, self.task, self.url = engine, task, url


@asynccontextmanager
async def started(folder: Path, caplog: pytest.LogCaptureFixture, **config: object) -> AsyncIterator[Started]:
    engine = FakeEngine(fake_info(vocab_size=500, eos_token_ids=(1,)), cycling([65]))

    async def start_engine(asked: EngineConfig, vocabulary: Vocabulary | None) -> FakeEngine:
        assert (asked.model, asked.revision) == (str(folder), None)
        return engine

    caplog.set_level(logging.INFO)
    (folder / "config.json").write_text("{}")
    server_config = ServerConfig(port=0, **config)  # type: ignore[arg-type]  # a test's fields
    task = asyncio.create_task(serve(EngineConfig(model=str(folder)), server_config, start_engine))
    while (
        listening := re.search(r"^Listening on (http://127\.0\.0\.1:\d+)$", "\n".join(caplog.messages), re.M)
    ) is None:
        assert not task.done(), task.exception()
        await asyncio.sleep(0)
    try:
        yield Started(engine, task, listening[1])
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_servers_life(text_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with started(text_folder, caplog, drain_timeout=20.0) as server:
        block = next(message for message in caplog.messages if message.startswith("Penstock "))
        for told in (
            "FakeForCausalLM, 1.23M parameters",
            "float32 (as asked) on cpu, reference kernels",
            "1024 tokens",
        ):
            assert told in block
        name = text_folder.name
        async with httpx.AsyncClient(base_url=server.url, timeout=20) as client:
            assert (await client.get("/v1/models")).json()["data"][0]["id"] == name
            server.engine.hold()
            body = {"model": name, "prompt": "x", "max_tokens": 1}
            running = asyncio.create_task(client.post("/v1/completions", json=body))
            while not server.engine.streams:
                await asyncio.sleep(0)
            os.kill(os.getpid(), signal.SIGTERM)
            while (await client.get("/ready")).status_code != 503:
                pass
            server.engine.release()
            assert (await running).json()["choices"][0]["finish_reason"] == "length"
        assert await server.task == 0
        assert server.engine.is_closed


async def test_a_second_signal_ends_at_once(text_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with started(text_folder, caplog, drain_timeout=1000.0) as server:
        server.engine.hold()
        _, writer = await send(server.url, model=text_folder.name)
        while not server.engine.streams:
            await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        while not any(message.startswith("Draining") for message in caplog.messages):
            await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGINT)
        assert await asyncio.wait_for(server.task, 10) == 128 + signal.SIGINT
        writer.close()


async def test_a_signal_while_loading(text_folder: Path) -> None:
    loading, cancelled = asyncio.Event(), asyncio.Event()

    async def start_engine(asked: EngineConfig, vocabulary: Vocabulary | None) -> FakeEngine:
        loading.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError("never")

    (text_folder / "config.json").write_text("{}")
    task = asyncio.create_task(serve(EngineConfig(model=str(text_folder)), ServerConfig(port=0), start_engine))
    await loading.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    assert await task == 128 + signal.SIGTERM and cancelled.is_set()


async def never(asked: EngineConfig, vocabulary: Vocabulary | None) -> FakeEngine:
    raise AssertionError("the engine is not started")


async def failing(asked: EngineConfig, vocabulary: Vocabulary | None) -> FakeEngine:
    raise EngineStartError("config.json: unknown architecture\n'MambaForCausalLM'")


def without_tokenizer(folder: Path) -> str:
    (folder / "config.json").write_text("{}")
    return str(folder)


def with_tokenizer(folder: Path) -> str:
    from small_tokenizers import byte_level, write_text_folder

    return without_tokenizer(write_text_folder(folder, byte_level()))


@pytest.mark.parametrize(
    ("source", "start_engine", "told"),
    [
        (lambda folder: str(folder / "nothing"), never, "there is no folder"),
        (without_tokenizer, never, "no tokenizer.json"),
        (with_tokenizer, failing, "unknown architecture 'MambaForCausalLM'"),
    ],
)
async def test_what_keeps_a_server_from_starting_is_one_line(
    tmp_path: Path, source: Callable[[Path], str], start_engine: Callable[[EngineConfig], object], told: str
) -> None:
    with pytest.raises(StartError, match=told) as raised:
        await serve(EngineConfig(model=source(tmp_path)), ServerConfig(port=0), start_engine)  # type: ignore[arg-type]  # one never returns
    assert "\n" not in str(raised.value)


async def test_the_demo_model_has_no_revisions() -> None:
    with pytest.raises(StartError, match="no revisions"):
        await serve(EngineConfig(model="demo", revision="v1"), ServerConfig(port=0), never)


async def test_a_port_in_use_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"cannot listen on 127.0.0.1 port {port}: .*in use"):
            await serve(EngineConfig(model=str(tmp_path)), ServerConfig(port=port), never)


@pytest.mark.parametrize("config", [ServerConfig(port=70_000), ServerConfig(host="203.0.113.1")])
async def test_an_address_that_is_not_ours(config: ServerConfig) -> None:
    with pytest.raises(StartError, match="cannot listen on"):
        bind(config).close()


async def test_request_lines_are_logged_when_asked_for(text_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with (
        started(text_folder, caplog, log_requests=True) as server,
        httpx.AsyncClient(base_url=server.url) as client,
    ):
        body = {"model": text_folder.name, "prompt": "x", "max_tokens": 3, "seed": 9}
        reply = (
            await client.post("/v1/completions", content=json.dumps(body), headers={"Content-Type": "application/json"})
        ).json()
    line = next(message for message in caplog.messages if message.startswith("POST /v1/completions 200"))
    assert f"{reply['id']} prompt=1 generated=3 seed=9" in line
