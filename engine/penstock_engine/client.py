"""`ProcessClient`: starts the engine process, and is its client through an `EngineLink`.

It watches the process: when that ends unasked, every open stream gets `EngineUnavailable`, `failure` says why, and the
process is started again, unless it keeps ending. Other processes may have links to the same engine: `path` and
`turned` are for whoever looks after those.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from pathlib import Path

from penstock_decoding.grammar.vocabulary import Vocabulary
from penstock_engine.config import EngineConfig, EngineInfo, EngineStats
from penstock_engine.errors import EngineStartError
from penstock_engine.link import EngineLink, ProcessStream
from penstock_engine.messages import ENCODER, Gone, Start, Stop
from penstock_engine.request import GenerationRequest

STOP_SECONDS = 5.0
SILENCE_SECONDS = 120.0
MAX_RESTARTS = 3
RESTART_WINDOW_SECONDS = 300.0

# How long OpenMP's threads spin at a barrier before they sleep. By default it is so long that all of them stall for
# whole time slices when another process wants a core: a decode step of the demo model took 404 ms on two busy cores,
# against 7 ms with threads that never spin. But those cost 38 ms instead of 24 ms a step of a 135M model on idle cores.
# 20000 rounds, some 50 us, bridge the gaps between two operations: 24 ms idle, 1.5 times the sleepers' time when busy.
THREAD_POLICY = {"GOMP_SPINCOUNT": "20000"}

_log = logging.getLogger(__name__)


class ProcessClient:
    """A running engine process. Made by `start`; ended by `close`."""

    def __init__(self, config: EngineConfig, vocabulary: Vocabulary | None = None) -> None:
        self._config = config
        self._vocabulary = vocabulary
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="penstock-"))  # mode 0700: nobody else can reach the socket
        except OSError as error:
            raise EngineStartError(f"no temporary folder for the engine's socket: {error}") from None
        self._link = EngineLink()
        self._path: Path | None = None
        self._turned = asyncio.Event()
        self._restarts: list[float] = []
        self._process: Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._is_closed = False

    @classmethod
    async def start(cls, config: EngineConfig, vocabulary: Vocabulary | None = None) -> "ProcessClient":
        """Start the process and wait until the model is loaded. `vocabulary`: as for `Engine`.

        Raises:
            EngineStartError: says why it could not start.
        """
        client = cls(config, vocabulary)
        try:
            await client._launch()
        except BaseException:
            await client._end_process(at_once=True)
            client._clean_up()
            raise
        client._supervisor = asyncio.create_task(client._supervise())
        return client

    @property
    def info(self) -> EngineInfo:
        return self._link.info

    @property
    def stats(self) -> EngineStats:
        return self._link.stats

    @property
    def failure(self) -> str | None:
        return self._link.failure

    @property
    def pid(self) -> int | None:
        """The engine process."""
        return self._process.pid if self._process else None

    @property
    def path(self) -> Path:
        """The socket of the engine that is there, or was last, for the links of other processes."""
        assert self._path is not None, "start() sets it before anyone has the client"
        return self._path

    async def submit(self, request: GenerationRequest) -> ProcessStream:
        """Queue a request; returns once the engine has taken it.

        Raises:
            RequestRefused, QueueFull, RequestFailed, EngineUnavailable
        """
        return await self._link.submit(request)

    async def changed(self) -> None:
        """Wait for the next report of `stats`: at most about a second while the engine is well."""
        await self._link.changed()

    async def turned(self) -> None:
        """Wait for the next change of `failure`: the engine has gone, or another one is there."""
        await self._turned.wait()

    async def idle(self) -> None:
        """Wait until no request of this client is open."""
        await self._link.idle()

    def forget(self, name: bytes) -> None:
        """The process whose link had this name is gone: whatever it has open ends."""
        self._link.send(Gone(name))

    async def close(self, drain_timeout: float = 0.0) -> None:
        """Refuse new requests, let open ones finish for up to `drain_timeout` seconds, then end the engine.

        Open streams then raise `EngineUnavailable`. Closing again does nothing.
        """
        if self._is_closed:
            return
        await self._link.drain(drain_timeout)
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
        self._fail("the server is shutting down")
        await self._end_process()
        self._clean_up()

    async def _launch(self) -> None:
        self._path = self._folder / secrets.token_hex(8)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "penstock_engine.process",
            str(self._path),
            stdin=PIPE,
            start_new_session=True,
            env={**THREAD_POLICY, **os.environ},
        )
        assert self._process.stdin is not None, "stdin is a pipe"
        self._process.stdin.write(ENCODER.encode(Start(self._config, self._vocabulary)))
        self._process.stdin.close()
        ended = asyncio.create_task(self._process.wait())
        connecting = asyncio.create_task(self._link.connect(self._path))
        try:
            await asyncio.wait({ended, connecting}, return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                # The process may have said why before it ended.
                await asyncio.wait({connecting}, timeout=0.5)
            if not connecting.done():
                told = f"the engine process ended with code {self._process.returncode} while starting"
                raise EngineStartError(told)
            await connecting
        finally:
            ended.cancel()
            connecting.cancel()
        self._turn()

    async def _supervise(self) -> None:
        while True:
            reason = await self._run_until_broken()
            _log.error("%s", reason)
            self._fail(reason)
            await self._end_process()
            now = time.monotonic()
            self._restarts = [at for at in self._restarts if now - at < RESTART_WINDOW_SECONDS] + [now]
            if len(self._restarts) > MAX_RESTARTS:
                self._fail(f"the engine failed {MAX_RESTARTS + 1} times within minutes; last: {reason}")
                _log.critical("%s", self.failure)
                return
            _log.warning("starting the engine again")
            try:
                await self._launch()
            except EngineStartError as error:
                self._fail(f"the engine could not be started again: {error}")
                _log.critical("%s", self.failure)
                return

    async def _run_until_broken(self) -> str:
        """Receive until the engine is gone; returns why."""
        watching = [
            asyncio.create_task(watch)
            for watch in (self._link.receive(), self._wait_for_end(), self._wait_for_silence())
        ]
        try:
            done, _ = await asyncio.wait(watching, return_when=asyncio.FIRST_COMPLETED)
            return min(done, key=watching.index).result()
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)

    async def _wait_for_end(self) -> str:
        assert self._process is not None, "launched"
        return f"the engine process ended with code {await self._process.wait()}"

    async def _wait_for_silence(self) -> str:
        # A step is bounded by the token budget, so even a busy engine has something to say far more often than this.
        self._link.last_heard = time.monotonic()
        while (left := self._link.last_heard + SILENCE_SECONDS - time.monotonic()) > 0:
            await asyncio.sleep(left)
        return f"the engine process has been silent for {SILENCE_SECONDS:.0f} s"

    def _fail(self, reason: str) -> None:
        self._link.fail(reason)
        self._turn()

    def _turn(self) -> None:
        self._turned.set()
        self._turned = asyncio.Event()

    async def _end_process(self, *, at_once: bool = False) -> None:
        """Ask the process to stop; kill it if it does not."""
        if self._process is not None and self._process.returncode is None:
            self._link.send(Stop())
            try:
                await asyncio.wait_for(self._process.wait(), 0.0 if at_once else STOP_SECONDS)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        self._link.disconnect()

    def _clean_up(self) -> None:
        self._is_closed = True
        self._link.end()
        shutil.rmtree(self._folder, ignore_errors=True)
