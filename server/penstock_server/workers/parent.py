"""The parent of several API workers: binds, loads, starts engine and workers, hears signals, and ends last.

It answers no requests itself. It holds the workers' listening sockets, so that what waits in the queue of one that
ends is accepted by the next one in its place.
"""

import asyncio
import contextlib
import logging
import socket
import time

from penstock_engine.client import ProcessClient
from penstock_engine.config import EngineConfig
from penstock_server.ending import Signals, first_of
from penstock_server.settings import ServerConfig
from penstock_server.start import Loaded, bind_queues, keys_of, load, start_with, url_of
from penstock_server.summary import summary
from penstock_server.workers.crew import Crew
from penstock_server.workers.messages import Begin

log = logging.getLogger("penstock")


async def serve_with_workers(engine_config: EngineConfig, server_config: ServerConfig) -> int:
    """Serve from `api_workers` processes until a signal.

    Returns the exit code: 0 after a drain, 128 + signal when it cut loading or draining short, 1 when all workers were
    lost.

    Raises:
        StartError
    """
    keys = keys_of(server_config)
    with contextlib.ExitStack() as closing:
        listeners = bind_queues(server_config, server_config.api_workers)
        for listener in listeners:
            closing.enter_context(listener)
        signals = closing.enter_context(Signals())
        url = url_of(listeners[0])
        parent = _Parent(engine_config, server_config, keys, listeners)
        try:
            starting = asyncio.create_task(parent.start())
            await first_of(starting, signals.first.wait())
            if not starting.done():
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
                return signals.exit_code
            crew = await starting
            log.info("Listening on %s", url)
            ended = asyncio.create_task(crew.ended())
            await first_of(ended, signals.first.wait())
            if ended.done():
                log.critical("no API worker is left")
                return 1
            has_drained = await crew.finish(server_config.drain_timeout, signals.second)
            log.info("Stopped")
            return 0 if has_drained else signals.exit_code
        finally:
            await parent.end()


class _Parent:
    """What has been started so far, to be ended whatever happens."""

    def __init__(
        self,
        engine_config: EngineConfig,
        server_config: ServerConfig,
        keys: tuple[str, ...],
        listeners: list[socket.socket],
    ) -> None:
        self._engine_config = engine_config
        self._server_config = server_config
        self._keys = keys
        self._listeners = listeners
        self._crew: Crew | None = None
        self._engine: ProcessClient | None = None
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> Crew:
        """The engine and the workers, in parallel: both take seconds or minutes to load.

        Raises:
            StartError
        """
        loaded = await load(self._engine_config, self._server_config)
        crew = self._crew = Crew(self._begin(loaded), self._listeners)
        starting = [asyncio.create_task(one) for one in (self._start_engine(loaded, crew), crew.begun())]
        try:
            await asyncio.gather(*starting)
        finally:
            for one in starting:
                one.cancel()
            await asyncio.gather(*starting, return_exceptions=True)
        return crew

    async def end(self) -> None:
        """The workers, then the engine."""
        if self._crew is not None:
            await self._crew.kill()
        if self._following is not None:
            self._following.cancel()
        if self._engine is not None:
            await self._engine.close()

    async def _start_engine(self, loaded: Loaded, crew: Crew) -> None:
        self._engine = await start_with(loaded, ProcessClient.start)
        self._following = asyncio.create_task(crew.follow(self._engine))
        url, num_workers = url_of(self._listeners[0]), len(self._listeners)
        log.info("%s", summary(self._engine.info, loaded.model, url, loaded.catalogue, num_workers))

    def _begin(self, loaded: Loaded) -> Begin:
        """What is the same for all workers."""
        return Begin(
            name=b"",
            label="",
            config=self._server_config,
            folder=str(loaded.folder),
            model_names=loaded.model.names,
            plugins=self._engine_config.plugin,
            keys=self._keys,
            created=int(time.time()),
        )
