"""`EngineLink`: one client's end of the engine process's socket: requests out, outputs in; asyncio streams.

It knows nothing of processes: whoever started the engine says where its socket is (`connect`) and that it is gone
(`fail`). Invariant: however the engine ends, every open stream gets an error, and every submit an answer.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import zmq
import zmq.asyncio

from penstock_engine.client_protocol import Delivered
from penstock_engine.config import EngineInfo, EngineStats
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
    Stepped,
    ToEngine,
    pack_request,
    unpack_step,
)
from penstock_engine.outputs import StepOutput
from penstock_engine.request import GenerationRequest

# How long a client that is behind the engine goes on handing out before it lets what it handed out be written. Several
# steps then leave in one piece, which takes a system call and not as many as there were steps.
TURN_SECONDS = 0.002


class ProcessStream:
    """One accepted request's outputs. Made by `EngineLink.submit`."""

    def __init__(self, link: "EngineLink", handle: int) -> None:
        self._link = link
        self._handle = handle
        self._came: list[Delivered] = []
        self._take: Callable[[Delivered], None] = self._came.append

    def deliver_to(self, take: Callable[[Delivered], None]) -> None:
        """See `RequestStream.deliver_to`."""
        self._take = take
        for item in self._came:
            take(item)

    async def __aiter__(self) -> AsyncIterator[StepOutput]:
        outputs: asyncio.Queue[Delivered] = asyncio.Queue()
        self.deliver_to(outputs.put_nowait)
        while True:
            output = await outputs.get()
            if output is None:
                return
            if isinstance(output, Exception):
                raise output
            yield output
            if output.is_last:
                return

    def abort(self, choice: int | None = None) -> None:
        """Stop one answer, or all."""
        self._link.send(Abort(self._handle, choice))

    def put(self, item: Delivered) -> None:
        """What the engine sent; None ends the stream."""
        self._take(item)


class EngineLink:
    """An `EngineClient`. Starts without an engine: `failure` says so, until `connect` found one.

    Attributes:
        last_heard: when the engine last said anything, on the monotonic clock, in seconds.
    """

    def __init__(self, name: bytes = b"") -> None:
        """`name`: what the engine is to call this client, one that no client of it had before; empty: it chooses."""
        self.last_heard = 0.0
        self._name = name
        self._context = zmq.asyncio.Context()
        self._socket: zmq.asyncio.Socket | None = None
        self._info: EngineInfo | None = None
        self._stats = EngineStats()
        self._changed = asyncio.Event()
        self._failure: str | None = "the engine is starting"
        self._is_closing = False
        self._next_handle = 0
        self._answers: dict[int, asyncio.Future[Accepted]] = {}
        self._streams: dict[int, ProcessStream] = {}
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    @property
    def info(self) -> EngineInfo:
        assert self._info is not None, "expected, or told by the engine, before anyone has the link"
        return self._info

    @property
    def stats(self) -> EngineStats:
        return self._stats

    @property
    def failure(self) -> str | None:
        return self._failure

    def expect(self, info: EngineInfo) -> None:
        """What was told of an engine that has been there and may come again, for who asks of it before."""
        self._info = info

    async def connect(self, path: Path) -> EngineInfo:
        """Wait until the engine behind this socket has loaded its model, and take it.

        Raises:
            EngineStartError: what the engine says kept it from starting.
        """
        self.disconnect()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.setsockopt(zmq.LINGER, 0)
        if self._name:
            self._socket.setsockopt(zmq.ROUTING_ID, self._name)
        self._socket.connect(f"ipc://{path}")
        self.send(Hello())
        match FROM_ENGINE.decode(await self._socket.recv()):
            case Ready(info):
                self._info = info
                self._failure = None
                self._report(EngineStats(num_blocks=info.num_blocks))
                return info
            case Broken(message):
                raise EngineStartError(message)
            case other:
                raise EngineStartError(f"the engine process answered with {type(other).__name__}")

    async def receive(self) -> str:
        """Hand out what the engine sends, until it says why it ends; returns that."""
        assert self._socket is not None, "connected"
        in_turn_since = 0.0
        while True:
            message = FROM_ENGINE.decode(await self._socket.recv())
            self.last_heard = time.monotonic()
            if isinstance(message, Broken):
                return message.message
            self._dispatch(message)
            # While there is a message, `recv` does not wait, and nothing else on this event loop would have its turn.
            if time.monotonic() - in_turn_since > TURN_SECONDS:
                await asyncio.sleep(0)
                in_turn_since = time.monotonic()

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
        self.send(pack_request(handle, request))  # before anything is kept for it: some plug-in's value may not pack
        stream = self._streams[handle] = ProcessStream(self, handle)
        self._is_idle.clear()
        answer = self._answers[handle] = asyncio.get_running_loop().create_future()
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

    def fail(self, reason: str) -> None:
        """No request can be taken any more; whoever waits for one is told why."""
        self._failure = reason
        error = EngineUnavailable(reason)
        for handle in list(self._answers):
            self._answer(handle, error)
        for handle in list(self._streams):
            self._finish(handle, error)

    async def close(self, drain_timeout: float = 0.0) -> None:
        """Refuse new requests, let open ones finish for up to `drain_timeout` seconds, then fail them.

        The engine goes on. Closing again does nothing.
        """
        await self.drain(drain_timeout)
        self.fail("the server is shutting down")
        self.end()

    async def drain(self, timeout: float) -> None:
        """Refuse new requests, and wait up to `timeout` seconds for the open ones to finish."""
        self._is_closing = True
        if timeout > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_idle.wait(), timeout)

    def end(self) -> None:
        """Give up the socket, and the thread that serves it, for good."""
        self.disconnect()
        self._context.term()

    def disconnect(self) -> None:
        """Give up the socket of an engine that is gone; what is sent until the next `connect` goes nowhere."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

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
