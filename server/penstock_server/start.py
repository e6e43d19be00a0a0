"""What has to be there before a server can listen: an address, keys, the model's text side, the engine.

Whatever is missing is a `StartError` of one line.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from penstock_decoding.catalogue import Catalogue
from penstock_decoding.errors import PluginError
from penstock_decoding.grammar.vocabulary import Vocabulary
from penstock_decoding.plugins import load_plugins
from penstock_engine.client_protocol import EngineClient
from penstock_engine.config import EngineConfig
from penstock_engine.errors import EngineStartError
from penstock_models.hub import HubError
from penstock_server.keys import read_keys
from penstock_server.model import ServedModel
from penstock_server.named_model import find_model
from penstock_server.settings import ServerConfig, SettingsError
from penstock_server.text.errors import TextError

Client = TypeVar("Client", bound=EngineClient)
StartEngine = Callable[[EngineConfig, Vocabulary | None], Awaitable[Client]]


class StartError(Exception):
    """The server could not start; the message is the cause, in one line."""

    def __init__(self, cause: Exception | str) -> None:
        super().__init__(" ".join(str(cause).split()))


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a server works with but for the engine.

    Attributes:
        folder: where the model's text side was loaded from.
        engine_config: names the model as the engine is to load it.
    """

    folder: Path
    model: ServedModel
    catalogue: Catalogue
    engine_config: EngineConfig


def keys_of(config: ServerConfig) -> tuple[str, ...]:
    """Every key that opens the server.

    Raises:
        StartError
    """
    try:
        return read_keys(config)
    except SettingsError as error:
        raise StartError(error) from None


def bind(config: ServerConfig) -> socket.socket:
    """The listening socket.

    Raises:
        StartError: the address is in use or not ours.
    """
    (listener,) = bind_queues(config, 1)
    return listener


def bind_queues(config: ServerConfig, number: int) -> list[socket.socket]:
    """Sockets that listen at one address, each with a queue of its own; the kernel gives each an equal share.

    One queue for several processes would not: they race for every connection, and streams last. Of 100 that came 10 ms
    apart one worker of two got 26, and the other one 74; of 40 that came 50 ms apart, 31 and 9.

    Raises:
        StartError: the address is in use or not ours.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    port = config.port
    listeners: list[socket.socket] = []
    try:
        for i in range(number):
            listener = socket.socket(family, socket.SOCK_STREAM)
            listeners.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # The first one is bound before it is ready to share: so it is refused where anybody else listens, and so
            # is whoever comes later. It has to be ready when it listens, and the others when they are bound.
            if i:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((config.host, port))
            if number > 1:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.listen(2048)
            listener.setblocking(False)
            port = listener.getsockname()[1]
    except (OSError, OverflowError) as error:
        for listener in listeners:
            listener.close()
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise StartError(f"cannot listen on {config.host} port {config.port}: {reason}") from None
    return listeners


def url_of(listener: socket.socket) -> str:
    """Where the socket listens."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def load(engine_config: EngineConfig, server_config: ServerConfig) -> Loaded:
    """Find the model, on the hub too, and load its text side and the plug-ins.

    Raises:
        StartError
    """
    try:
        catalogue = load_plugins(engine_config.plugin)
        named = await asyncio.to_thread(find_model, engine_config.model, engine_config.revision)
        model = ServedModel.load(named.folder, server_config.served_model_name or (named.name,))
    except (PluginError, HubError, TextError, EngineStartError) as error:
        raise StartError(error) from None
    found = replace(engine_config, model=named.engine_model, revision=None)
    return Loaded(named.folder, model, catalogue, found)


async def start_with(loaded: Loaded, start_engine: StartEngine[Client]) -> Client:
    """The engine, once it has loaded the model.

    Raises:
        StartError
    """
    try:
        vocabulary = await asyncio.to_thread(loaded.model.codec.vocabulary)
        return await start_engine(loaded.engine_config, vocabulary)
    except (TextError, EngineStartError) as error:
        raise StartError(error) from None
