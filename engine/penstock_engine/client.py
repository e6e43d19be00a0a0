"""`ProcessClient`: starts the engine process and speaks with it; asyncio streams, one per request.

It watches the process: when that ends unasked, every open stream gets `EngineUnavailable`, `failure` says why, and the
process is started again, unless it keeps ending.
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
from collections.abc import AsyncIterator
from pathlib import Path

import zmq
import zmq.asyncio

from penstock_decoding.grammar.vocabulary import Vocabulary
from penstock_engine.config import EngineConfig, EngineInfo, EngineStats
from penstock_engine.errors import (
    EngineError,
    EngineStartError,
    EngineUnavailable,
    QueueFull,
    RequestFailed,
    RequestRefused,
)
from penstock_engine.messages import (
    ENCODER,
    FROM_ENGINE,
    Abort,
    Accepted,
    Alive,
    Broken,
    Ended,
    Failed,
    FromEngine,
    Full,
    Hello,
    Ready,
    Refused,
    Start,
    Stepped,
    Stop,
    ToEngine,
    pack_request,
    unpack_step,
)
from penstock_engine.outputs import StepOutput
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


class ProcessStream:
    """One accepted request's outputs. Made by `ProcessClient.submit`."""

    def __init__(self, client: "ProcessClient", handle: int) -> None:
        self._client = client
        self._handle = handle
        self._outputs: asyncio.Queue[StepOutput | EngineError | None] = asyncio.Queue()

    async def __aiter__(self) -> AsyncIterator[StepOutput]:
        while True:
            output = await self._outputs.get()
            if output is None:
                return
            if isinstance(output, EngineError):
                raise output
            yield output
            if output.is_last:
                return

    def abort(self, choice: int | None = None) -> None:
        """Stop one answer, or all."""
        self._client.send(Abort(self._handle, choice))

    def put(self, output: StepOutput | EngineError | None) -> None:
        """What the engine sent; None ends the stream."""
        self._outputs.put_nowait(output)


class ProcessClient:
    """A running engine process. Made by `start`; ended by `close`."""

    def __init__(self, config: EngineConfig, vocabulary: Vocabulary | None = None) -> None:
        self._config = config
        self._vocabulary = vocabulary
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="penstock-"))  # mode 0700: nobody else can reach the socket
        except OSError as error:
            raise EngineStartError(f"no temporary folder for the engine's socket: {error}") from None
        self._context = zmq.asyncio.Context()
        self._next_handle = 0
        self._answers: dict[int, asyncio.Future[Accepted]] = {}
        self._streams: dict[int, ProcessStream] = {}
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._restarts: list[float] = []
        self._stats = EngineStats()
        self._changed = asyncio.Event()
        self._failure: str | None = "the engine is starting"
        self._is_closing = False
        self._last_heard = 0.0
        self._info: EngineInfo | None = None
        self._process: Process | None = None
        self._socket: zmq.asyncio.Socket | None = None
        self._supervisor: asyncio.Task[None] | None = None

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
            await client._end_process()
            client._clean_up()
            raise
        client._supervisor = asyncio.create_task(client._supervise())
        return client

    @property
    def info(self) -> EngineInfo:
        assert self._info is not None, "start() sets it before anyone has the client"
        return self._info

    @property
    def stats(self) -> EngineStats:
        return self._stats

    @property
    def failure(self) -> str | None:
        return self._failure

    @property
    def pid(self) -> int | None:
        """The engine process."""
        return self._process.pid if self._process else None

    async def submit(self, request: GenerationRequest) -> ProcessStream:
        """Queue a request; returns once the engine has taken it.

        Raises:
            RequestRefused, QueueFull, RequestFailed, EngineUnavailable
        """
        if self._is_closing:
            raise EngineUnavailable("the server is shutting down")
        if self._failure is not None:
            raise EngineUnavailable(self._failure)
        handle = self._next_handle
        self._next_handle += 1
        stream = self._streams[handle] = ProcessStream(self, handle)
        self._is_idle.clear()
        answer = self._answers[handle] = asyncio.get_running_loop().create_future()
        self.send(pack_request(handle, request))
        try:
            await answer
        except asyncio.CancelledError:
            self.send(Abort(handle, None))
            raise
        finally:
            self._answers.pop(handle, None)
        return stream

    async def changed(self) -> None:
        """Wait for the next report of `stats`: at most about a second while the engine is well."""
        await self._changed.wait()

    async def idle(self) -> None:
        """Wait until no request is open."""
        await self._is_idle.wait()

    def send(self, message: ToEngine) -> None:
        """Send without waiting: the socket has no high-water mark. Nothing is sent to an engine that is gone."""
        if self._socket is not None and not self._socket.closed:
            self._socket.send(ENCODER.encode(message))

    async def close(self, drain_timeout: float = 0.0) -> None:
        """Refuse new requests, let open ones finish for up to `drain_timeout` seconds, then end the engine.

        Open streams then raise `EngineUnavailable`. Closing again does nothing.
        """
        self._is_closing = True
        if self._context.closed:
            return
        if drain_timeout > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_idle.wait(), drain_timeout)
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
        self._fail("the server is shutting down")
        await self._end_process()
        self._clean_up()

    async def _launch(self) -> None:
        path = self._folder / secrets.token_hex(8)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "penstock_engine.process",
            str(path),
            stdin=PIPE,
            start_new_session=True,
            env={**THREAD_POLICY, **os.environ},
        )
        assert self._process.stdin is not None, "stdin is a pipe"
        self._process.stdin.write(ENCODER.encode(Start(self._config, self._vocabulary)))
        self._process.stdin.close()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(f"ipc://{path}")
        self.send(Hello())
        ended = asyncio.create_task(self._process.wait())
        first = asyncio.ensure_future(self._socket.recv())
        await asyncio.wait({ended, first}, return_when=asyncio.FIRST_COMPLETED)
        if not first.done():
            # The process may have said why before it ended.
            await asyncio.wait({first}, timeout=0.5)
        ended.cancel()
        if not first.done():
            first.cancel()
            raise EngineStartError(f"the engine process ended with code {self._process.returncode} while starting")
        match FROM_ENGINE.decode(first.result()):
            case Ready(info):
                self._info = info
                self._failure = None
                self._report(EngineStats(num_blocks=info.num_blocks))
            case Broken(message):
                raise EngineStartError(message)
            case other:
                raise EngineStartError(f"the engine process answered with {type(other).__name__}")

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
                _log.critical("%s", self._failure)
                return
            _log.warning("starting the engine again")
            try:
                await self._launch()
            except EngineStartError as error:
                self._fail(f"the engine could not be started again: {error}")
                _log.critical("%s", self._failure)
                return

    async def _run_until_broken(self) -> str:
        """Receive until the engine is gone; returns why."""
        watching = [
            asyncio.create_task(watch) for watch in (self._receive(), self._wait_for_end(), self._wait_for_silence())
        ]
        try:
            done, _ = await asyncio.wait(watching, return_when=asyncio.FIRST_COMPLETED)
            return min(done, key=watching.index).result()
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)

    async def _receive(self) -> str:
        assert self._socket is not None, "launched"
        while True:
            message = FROM_ENGINE.decode(await self._socket.recv())
            self._last_heard = time.monotonic()
            if isinstance(message, Broken):
                return message.message
            self._dispatch(message)

    async def _wait_for_end(self) -> str:
        assert self._process is not None, "launched"
        return f"the engine process ended with code {await self._process.wait()}"

    async def _wait_for_silence(self) -> str:
        # A step is bounded by the token budget, so even a busy engine has something to say far more often than this.
        self._last_heard = time.monotonic()
        while (left := self._last_heard + SILENCE_SECONDS - time.monotonic()) > 0:
            await asyncio.sleep(left)
        return f"the engine process has been silent for {SILENCE_SECONDS:.0f} s"

    def _dispatch(self, message: FromEngine) -> None:
        match message:
            case Stepped():
                self._report(message.stats)
                for handle, output in unpack_step(message):
                    stream = self._streams.get(handle)
                    if stream is not None:
                        stream.put(output)
                        if output.is_last:
                            self._forget(handle)
            case Alive(stats):
                self._report(stats)
            case Accepted(handle):
                self._answer(handle, message)
            case Refused(handle, param, text):
                self._answer(handle, RequestRefused(param, text))
            case Full(handle, num_waiting, retry_after):
                self._answer(handle, QueueFull(num_waiting, retry_after))
            case Failed(handle, text) if handle in self._answers and not self._answers[handle].done():
                self._answer(handle, RequestFailed(text))
            case Failed(handle, text):
                self._finish(handle, RequestFailed(text))
            case Ended(handle):
                self._finish(handle, None)
            case _:
                raise AssertionError(f"unexpected {type(message).__name__}")

    def _answer(self, handle: int, answer: Accepted | EngineError) -> None:
        if isinstance(answer, EngineError):
            self._forget(handle)
        future = self._answers.get(handle)
        if future is None or future.done():
            return  # whoever asked has gone, and an abort is on its way
        if isinstance(answer, EngineError):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    def _finish(self, handle: int, last: EngineError | None) -> None:
        if handle in self._streams:
            self._streams[handle].put(last)
            self._forget(handle)

    def _forget(self, handle: int) -> None:
        self._streams.pop(handle, None)
        if not self._streams:
            self._is_idle.set()

    def _report(self, stats: EngineStats) -> None:
        self._stats = stats
        self._changed.set()
        self._changed = asyncio.Event()

    def _fail(self, reason: str) -> None:
        """No request can be taken any more; whoever waits for one is told why."""
        self._failure = reason
        error = EngineUnavailable(reason)
        for handle in list(self._answers):
            self._answer(handle, error)
        for handle in list(self._streams):
            self._finish(handle, error)

    async def _end_process(self) -> None:
        """Ask the process to stop; kill it if it does not."""
        if self._process is not None and self._process.returncode is None:
            self.send(Stop())
            try:
                await asyncio.wait_for(self._process.wait(), STOP_SECONDS if self._info else 0.0)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        if self._socket is not None:
            self._socket.close()

    def _clean_up(self) -> None:
        self._context.term()
        shutil.rmtree(self._folder, ignore_errors=True)
