"""The engine process: loads the model, then serves clients over a private ipc socket until it is told to stop.

Run as `python -m penstock_engine.process SOCKET` with the `EngineConfig` as JSON on standard input. It owns the step
loop; between steps it takes in what clients sent, so that an abort frees its blocks before the next step. It ignores
SIGINT and SIGTERM, which a terminal or a service manager sends to the server as well: the server decides when to stop.
It never outlives the server: the kernel kills it when its parent dies, and it looks for its parent itself.
"""

import ctypes
import logging
import os
import signal
import sys
import time

import msgspec
import zmq

from penstock_engine.build import build_engine
from penstock_engine.config import EngineConfig, EngineInfo
from penstock_engine.engine import Engine, Failure
from penstock_engine.errors import EngineStartError, QueueFull, RequestRefused
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
    Hello,
    Ready,
    Refused,
    Stop,
    Submit,
    ToEngine,
    pack_step,
    unpack_request,
)
from penstock_engine.outputs import StepOutput

HEARTBEAT_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1

_log = logging.getLogger(__name__)


class EngineService:
    """The step loop between a socket and an engine. Requests are named in the engine by client and handle."""

    def __init__(self, socket: "zmq.Socket[bytes]", engine: Engine, info: EngineInfo) -> None:
        self._socket = socket
        self._engine = engine
        self._info = info
        self._origin: dict[str, tuple[bytes, int]] = {}
        self._clients: set[bytes] = set()
        self._is_stopping = False
        self._last_sent = 0.0

    def run(self) -> None:
        """Until a client says `Stop` or the parent process is gone."""
        parent = os.getppid()
        while not self._is_stopping and os.getppid() == parent:
            self._receive(timeout_ms=0 if self._engine.has_work else int(HEARTBEAT_SECONDS * 1000))
            if self._engine.has_work:
                self._emit(self._engine.step())
            if time.monotonic() - self._last_sent >= HEARTBEAT_SECONDS:
                self._send_all(Alive(self._engine.stats))

    def send_broken(self, message: str) -> None:
        """Tell every client that the engine ends."""
        self._send_all(Broken(message))

    def _receive(self, timeout_ms: int) -> None:
        while self._socket.poll(timeout_ms):
            client, payload = self._socket.recv_multipart()
            self._handle(client, TO_ENGINE.decode(payload))
            timeout_ms = 0

    def _handle(self, client: bytes, message: ToEngine) -> None:
        match message:
            case Submit():
                self._send(client, self._submit(client, message))
            case Abort():
                request_id = _request_id(client, message.handle)
                if self._engine.abort(request_id, message.choice):
                    del self._origin[request_id]
                    self._send(client, Ended(message.handle))
            case Hello():
                self._clients.add(client)
                self._send(client, Ready(self._info))
            case Stop():
                self._is_stopping = True

    def _submit(self, client: bytes, message: Submit) -> FromEngine:
        request_id = _request_id(client, message.handle)
        try:
            self._engine.add(unpack_request(message, request_id))
        except RequestRefused as refused:
            return Refused(message.handle, refused.param, refused.message)
        except QueueFull as full:
            return Full(message.handle, full.num_waiting, full.retry_after)
        self._origin[request_id] = client, message.handle
        return Accepted(message.handle)

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

    def _send_all(self, message: FromEngine) -> None:
        for client in self._clients:
            self._send(client, message)
        self._last_sent = time.monotonic()

    def _send(self, client: bytes, message: FromEngine) -> None:
        self._socket.send_multipart([client, ENCODER.encode(message)])
        self._last_sent = time.monotonic()


def main() -> int:
    """Load, serve, and say why if that fails."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _die_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    config = msgspec.json.decode(sys.stdin.buffer.read(), type=EngineConfig)
    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.LINGER, 1000)
    socket.bind(f"ipc://{sys.argv[1]}")
    try:
        return _serve(socket, config)
    finally:
        socket.close()
        context.term()


def _serve(socket: "zmq.Socket[bytes]", config: EngineConfig) -> int:
    try:
        engine, info = build_engine(config)
    except EngineStartError as error:
        client, _ = socket.recv_multipart()  # its Hello
        socket.send_multipart([client, ENCODER.encode(Broken(str(error)))])
        return 1
    service = EngineService(socket, engine, info)
    try:
        service.run()
    except Exception as error:
        _log.exception("the step loop failed")
        service.send_broken(f"the step loop failed: {type(error).__name__}: {error}")
        return 1
    return 0


def _request_id(client: bytes, handle: int) -> str:
    return f"{client.hex()}:{handle}"


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
