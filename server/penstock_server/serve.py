"""One server's life: bind, load, listen, drain, end.

The port is bound first, so that one already in use is told before minutes of loading. The first SIGTERM or SIGINT
drains: new requests get a 503 while open ones finish, for `drain_timeout` seconds; a second signal ends at once.
"""

import asyncio
import contextlib
import dataclasses
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Self

import uvicorn
import uvloop

from penstock_decoding.catalogue import SHIPPED, Catalogue
from penstock_decoding.errors import PluginError
from penstock_decoding.grammar.vocabulary import Vocabulary
from penstock_decoding.plugins import load_plugins
from penstock_engine.client import ProcessClient
from penstock_engine.client_protocol import EngineClient
from penstock_engine.config import EngineConfig, EngineInfo
from penstock_engine.errors import EngineStartError
from penstock_models.hub import HubError, resolve_folder
from penstock_server.app import create_app
from penstock_server.context import ServerContext
from penstock_server.http_protocol import HttpProtocol
from penstock_server.keys import read_keys
from penstock_server.model import ServedModel
from penstock_server.settings import ServerConfig, SettingsError
from penstock_server.text.errors import TextError
from penstock_server.version import VERSION

log = logging.getLogger("penstock")

DEMO_MODEL = Path(__file__).parent / "demo_model"

# How long connections get to take their last bytes once nothing is generated any more.
CLOSE_SECONDS = 5

# Longer than the clients' pools keep an idle connection, so that it is they who close it.
KEEP_ALIVE_SECONDS = 75

_ENDING = (signal.SIGTERM, signal.SIGINT)

StartEngine = Callable[[EngineConfig, Vocabulary | None], Awaitable[EngineClient]]


class StartError(Exception):
    """The server could not start; the message is the cause, in one line."""


def run(engine_config: EngineConfig, server_config: ServerConfig) -> int:
    """Serve until a signal; returns the exit code.

    Raises:
        StartError
    """
    logging.basicConfig(level=server_config.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # what it says at info is said here already
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve(engine_config, server_config, ProcessClient.start))


async def serve(engine_config: EngineConfig, server_config: ServerConfig, start_engine: StartEngine) -> int:
    """Serve until a signal; returns the exit code: 0 after a drain, 128 + signal when it cut loading or draining short.

    Raises:
        StartError
    """
    try:
        keys = read_keys(server_config)
    except SettingsError as error:
        raise StartError(str(error)) from None
    with contextlib.closing(bind(server_config)) as listener, Signals() as signals:
        loading = asyncio.create_task(_load(engine_config, server_config, start_engine))
        await _first_of(loading, signals.first.wait())
        if not loading.done():
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            return signals.exit_code
        model, client, catalogue = await loading
        try:
            context = ServerContext.make(client, model, server_config, catalogue, keys)
            return await _listen(context, listener, signals)
        finally:
            await client.close()


class Signals:
    """SIGTERM and SIGINT while the block runs: the first drains, the second ends."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self._last = 0

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        for number in _ENDING:
            self._loop.add_signal_handler(number, self._receive, number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in _ENDING:
            self._loop.remove_signal_handler(number)

    @property
    def exit_code(self) -> int:
        """The shell's convention for a process that a signal ended."""
        return 128 + self._last

    def _receive(self, number: int) -> None:
        self._last = number
        (self.second if self.first.is_set() else self.first).set()


async def _first_of(task: "asyncio.Task[Any]", other: Coroutine[Any, Any, Any]) -> None:
    """Wait until either is done; the other one is cancelled if it is not the task."""
    watch = asyncio.ensure_future(other)
    await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
    watch.cancel()


def bind(config: ServerConfig) -> socket.socket:
    """The listening socket.

    Raises:
        StartError: the address is in use or not ours.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((config.host, config.port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise StartError(f"cannot listen on {config.host} port {config.port}: {reason}") from None
    listener.setblocking(False)
    return listener


async def _load(
    engine_config: EngineConfig, server_config: ServerConfig, start_engine: StartEngine
) -> tuple[ServedModel, EngineClient, Catalogue]:
    asked = engine_config.model
    if asked == "demo" and engine_config.revision is not None:
        raise StartError("the demo model comes with the server and has no revisions")
    try:
        catalogue = load_plugins(engine_config.plugin)
        folder = (
            DEMO_MODEL if asked == "demo" else await asyncio.to_thread(resolve_folder, asked, engine_config.revision)
        )
        model = ServedModel.load(folder, server_config.served_model_name or (_default_name(asked),))
        vocabulary = await asyncio.to_thread(model.codec.vocabulary)
        client = await start_engine(dataclasses.replace(engine_config, model=str(folder), revision=None), vocabulary)
    except (PluginError, HubError, TextError, EngineStartError) as error:
        raise StartError(" ".join(str(error).split())) from None
    return model, client, catalogue


def _default_name(asked: str) -> str:
    # A hub id is a name already; of a folder only the last part is anybody else's business.
    folder = Path(asked).expanduser()
    return folder.resolve().name if folder.exists() else asked


async def _listen(context: ServerContext, listener: socket.socket, signals: Signals) -> int:
    server = _Server(
        uvicorn.Config(
            create_app(context),
            http=HttpProtocol,
            ws="none",
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=CLOSE_SECONDS,
        )
    )
    url = _url(listener)
    log.info("%s", summary(context.client.info, context.model, url, context.catalogue))
    log.info("Listening on %s", url)
    ending = asyncio.create_task(_end_on_signal(context, server, signals))
    try:
        await server.serve(sockets=[listener])
    finally:
        ending.cancel()
    log.info("Stopped")
    return signals.exit_code if server.force_exit else 0


async def _end_on_signal(context: ServerContext, server: "_Server", signals: Signals) -> None:
    await signals.first.wait()
    drain = asyncio.create_task(_drain(context))
    await _first_of(drain, signals.second.wait())
    if not drain.done():
        drain.cancel()
        server.force_exit = True
    server.should_exit = True


async def _drain(context: ServerContext) -> None:
    timeout = context.config.drain_timeout
    log.info("Draining: no new requests; open ones get up to %g s", timeout)
    if not await context.life.drain(timeout):
        log.warning("The drain timeout is over; ending the requests that are still open")
    # Ends what is still open with an error of its own, rather than with a cut connection.
    await context.client.close()


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers, which know of no drain."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def summary(info: EngineInfo, model: ServedModel, url: str, catalogue: Catalogue = SHIPPED) -> str:
    """What was decided, for the log: one block."""
    full_length = info.num_cache_tokens / info.max_model_len
    weights = f"{info.weights} weights, " if info.weights != info.dtype else ""
    lines = {
        "model": f"{', '.join(model.names)} ({info.architecture}, {_count(info.num_parameters)} parameters)",
        "computes": f"{info.dtype} ({info.dtype_reason}) on {info.device}, {weights}{info.kernels} kernels, "
        f"{info.threads} threads",
        "context": f"{info.max_model_len} tokens",
        "batch": f"up to {info.max_rows} sequences, {info.max_batch_tokens} tokens a step",
        "decoding": ("a step ahead" + ", as CUDA graphs" * info.cuda_graphs) * info.overlap,
        "KV cache": f"{info.num_cache_tokens} tokens, {info.kv_cache_bytes / 2**20:.0f} MiB: "
        f"{full_length:.1f} requests of full length",
        "plug-ins": ", ".join(sorted(name for _, name in catalogue.origins)),
        "chat": "yes" if model.template is not None else "no: the model has no chat template",
        "loaded in": f"{info.load_seconds:.1f} s",
        "API": f"{url}/v1",
    }
    told = [f"  {name:<10} {text}" for name, text in lines.items() if text]
    return "\n".join([f"Penstock {VERSION}", *told])


def _count(number: int) -> str:
    for unit, size in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)
