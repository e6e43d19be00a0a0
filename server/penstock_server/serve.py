"""One server's life: bind, load, listen, drain, end.

The port is bound first, so that one already in use is told before minutes of loading. The first SIGTERM or SIGINT
drains: new requests get a 503 while open ones finish, for `drain_timeout` seconds; a second signal ends at once.
"""

import asyncio
import contextlib
import logging

import uvloop

from penstock_engine.client import ProcessClient
from penstock_engine.client_protocol import EngineClient
from penstock_engine.config import EngineConfig
from penstock_server.context import ServerContext
from penstock_server.ending import Signals, first_of
from penstock_server.http_server import listen
from penstock_server.named_model import DEMO_MODEL as DEMO_MODEL
from penstock_server.settings import ServerConfig
from penstock_server.start import Loaded, StartEngine, StartError, bind, keys_of, load, start_with, url_of
from penstock_server.summary import summary
from penstock_server.workers.parent import serve_with_workers

log = logging.getLogger("penstock")


def run(engine_config: EngineConfig, server_config: ServerConfig) -> int:
    """Serve until a signal; returns the exit code.

    Raises:
        StartError
    """
    logging.basicConfig(level=server_config.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # what it says at info is said here already
    if server_config.api_workers < 1:
        raise StartError("api_workers must be at least 1")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if server_config.api_workers > 1:
            return runner.run(serve_with_workers(engine_config, server_config))
        return runner.run(serve(engine_config, server_config, ProcessClient.start))


async def serve(
    engine_config: EngineConfig, server_config: ServerConfig, start_engine: StartEngine[EngineClient]
) -> int:
    """Serve from this process until a signal.

    Returns the exit code: 0 after a drain, 128 + signal when it cut loading or draining short.

    Raises:
        StartError
    """
    keys = keys_of(server_config)
    with contextlib.closing(bind(server_config)) as listener, Signals() as signals:
        loading = asyncio.create_task(_load(engine_config, server_config, start_engine))
        await first_of(loading, signals.first.wait())
        if not loading.done():
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            return signals.exit_code
        loaded, client = await loading
        try:
            context = ServerContext.make(client, loaded.model, server_config, loaded.catalogue, keys)
            url = url_of(listener)
            log.info("%s", summary(client.info, loaded.model, url, loaded.catalogue))
            log.info("Listening on %s", url)
            has_drained = await listen(context, listener, signals)
            log.info("Stopped")
            return 0 if has_drained else signals.exit_code
        finally:
            await client.close()


async def _load(
    engine_config: EngineConfig, server_config: ServerConfig, start_engine: StartEngine[EngineClient]
) -> tuple[Loaded, EngineClient]:
    loaded = await load(engine_config, server_config)
    return loaded, await start_with(loaded, start_engine)
