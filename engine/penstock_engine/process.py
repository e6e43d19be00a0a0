"""The engine process: loads the model, then serves clients over a private ipc socket until it is told to stop.

Run as `python -m penstock_engine.process SOCKET` with a `Start` message on standard input. It owns the step
loop; between steps it takes in what clients sent, so that an abort frees its blocks before the next step. It ignores
SIGINT and SIGTERM, which a terminal or a service manager sends to the server as well: the server decides when to stop.
It never outlives the server: the kernel kills it when its parent dies, and it looks for its parent itself.
"""

import functools
import logging
import os
import sys
import time
from collections.abc import Callable

import msgspec
import zmq

from penstock_engine.build import build_engine
from penstock_engine.config import EngineInfo
from penstock_engine.engine import Engine, Failure
from penstock_engine.errors import EngineStartError, QueueFull, RequestFailed, RequestRefused
from penstock_engine.heap import settled_heap
from penstock_engine.messages import (
    ENCODER,
    TO_ENGINE,
    Abort,
    Accepted,
    Alive,
    Broken,
    Ended,
    Failed,
    FromEngine,
    Full,
    Gone,
    Hello,
    Ready,
    Refused,
    Start,
    Stop,
    Submit,
    ToEngine,
    pack_step,
    unpack_request,
)
from penstock_engine.outputs import StepOutput
from penstock_engine.parent import die_with_parent, leave_signals_to_parent
from penstock_engine.preparation import Preparation
from penstock_engine.request import GenerationRequest

HEARTBEAT_SECONDS = 1.0
# How often to look whether a request has become ready, when there is nothing else to do.
PREPARATION_MS = 2

_log = logging.getLogger(__name__)


class EngineService:
    """The step loop between a socket and an engine. Requests are named in the engine by client and handle."""

    def __init__(self, socket: "zmq.Socket[bytes]", engine: Engine, info: EngineInfo) -> None:
        self._socket = socket
        self._engine = engine
        self._info = info
        self._origin: dict[str, tuple[bytes, int]] = {}
        self._preparing: dict[str, tuple[bytes, int, Preparation]] = {}
        self._last_sent: dict[bytes, float] = {}  # for each client there is
        self._is_stopping = False

    def run(self) -> None:
        """Until a client says `Stop` or the parent process is gone."""
        parent = os.getppid()
        while not self._is_stopping and os.getppid() == parent:
            self._receive(timeout_ms=self._idle_ms())
            self._take_prepared()
            if self._engine.has_work:
                self._emit(self._engine.step())
            self._beat()

    def send_broken(self, message: str) -> None:
        """Tell every client that the engine ends."""
        for client in self._last_sent:
            self._send(client, Broken(message))

    def _beat(self) -> None:
        """A sign of life to each client that has heard nothing for a while, whatever the others hear."""
        silent_since = time.monotonic() - HEARTBEAT_SECONDS
        for client, last_sent in self._last_sent.items():
            if last_sent <= silent_since:
                self._send(client, Alive(self._engine.stats))

    def _idle_ms(self) -> int:
        """How long there is nothing to do but to listen."""
        if self._engine.has_work:
            return 0
        return PREPARATION_MS if self._preparing else int(HEARTBEAT_SECONDS * 1000)

    def _receive(self, timeout_ms: int) -> None:
        while self._socket.poll(timeout_ms):
            client, payload = self._socket.recv_multipart()
            self._handle(client, TO_ENGINE.decode(payload))
            timeout_ms = 0

    def _handle(self, client: bytes, message: ToEngine) -> None:
        match message:
            case Submit():
                # What a client sent before it was gone may come after the news of that.
                if client in self._last_sent:
                    self._reply(client, message.handle, lambda: self._submit(client, message))
            case Abort():
                if self._abort(_request_id(client, message.handle), message.choice):
                    self._send(client, Ended(message.handle))
            case Hello():
                self._last_sent[client] = 0.0
                self._send(client, Ready(self._info))
            case Gone():
                self._forget(message.client)
            case Stop():
                self._is_stopping = True

    def _abort(self, request_id: str, choice: int | None) -> bool:
        """Whether that ended the request."""
        if self._preparing.pop(request_id, None):
            return True
        if self._engine.abort(request_id, choice):
            del self._origin[request_id]
            return True
        return False

    def _forget(self, gone: bytes) -> None:
        self._last_sent.pop(gone, None)
        preparing = [request_id for request_id, (client, _, _) in self._preparing.items() if client == gone]
        for request_id in [*preparing, *(key for key, (client, _) in self._origin.items() if client == gone)]:
            self._abort(request_id, None)

    def _submit(self, client: bytes, message: Submit) -> bool:
        """Queue the request; False if something has to be made ready first."""
        request = unpack_request(message, _request_id(client, message.handle), self._engine.catalogue)
        preparation = self._engine.prepare(request)
        if preparation is None:
            self._add(client, message.handle, request)
            return True
        self._preparing[request.id] = client, message.handle, preparation
        return False

    def _take_prepared(self) -> None:
        """Queue the requests that have become ready."""
        done = [request_id for request_id, (_, _, preparation) in self._preparing.items() if preparation.is_done]
        for request_id in done:
            client, handle, preparation = self._preparing.pop(request_id)
            self._reply(client, handle, functools.partial(self._add_prepared, client, handle, preparation))

    def _add_prepared(self, client: bytes, handle: int, preparation: Preparation) -> bool:
        preparation.finish()
        self._add(client, handle, preparation.request)
        return True

    def _add(self, client: bytes, handle: int, request: GenerationRequest) -> None:
        self._engine.add(request)
        self._origin[request.id] = client, handle

    def _reply(self, client: bytes, handle: int, take: Callable[[], bool]) -> None:
        """Say what becomes of a request that is taken, unless that is still open."""
        try:
            if take():
                self._send(client, Accepted(handle))
        except RequestRefused as refused:
            self._send(client, Refused(handle, refused.param, refused.message))
        except QueueFull as full:
            self._send(client, Full(handle, full.num_waiting, full.retry_after))
        except RequestFailed as failed:
            self._send(client, Failed(handle, str(failed)))
        except Exception as error:
            # A plug-in's parameters can raise when they are made again here. Nothing has been queued by then.
            _log.exception("a request could not be taken")
            told = f"the engine could not take the request: {type(error).__name__}"
            self._send(client, Failed(handle, told))

    def _emit(self, outputs: list[tuple[str, StepOutput | Failure]]) -> None:
        by_client: dict[bytes, list[tuple[int, StepOutput]]] = {}
        for request_id, output in outputs:
            client, handle = self._origin[request_id]
            if isinstance(output, Failure):
                del self._origin[request_id]
                self._send(client, Failed(handle, output.message))
            else:
                if output.is_last:
                    del self._origin[request_id]
                by_client.setdefault(client, []).append((handle, output))
        for client, own in by_client.items():
            self._send(client, pack_step(own, self._engine.stats))

    def _send(self, client: bytes, message: FromEngine) -> None:
        if client in self._last_sent:
            self._socket.send_multipart([client, ENCODER.encode(message)])
            self._last_sent[client] = time.monotonic()


def main() -> int:
    """Load, serve, and say why if that fails."""
    leave_signals_to_parent()
    die_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    start = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Start)
    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.LINGER, 1000)
    socket.bind(f"ipc://{sys.argv[1]}")
    try:
        return _serve(socket, start)
    finally:
        socket.close()
        context.term()


def _serve(socket: "zmq.Socket[bytes]", start: Start) -> int:
    try:
        engine, info = build_engine(start.config, vocabulary=start.vocabulary)
    except EngineStartError as error:
        client, _ = socket.recv_multipart()  # its Hello
        socket.send_multipart([client, ENCODER.encode(Broken(str(error)))])
        return 1
    service = EngineService(socket, engine, info)
    try:
        with settled_heap():
            service.run()
    except Exception as error:
        _log.exception("the step loop failed")
        service.send_broken(f"the step loop failed: {type(error).__name__}: {error}")
        return 1
    return 0


def _request_id(client: bytes, handle: int) -> str:
    return f"{client.hex()}:{handle}"


if __name__ == "__main__":
    sys.exit(main())
