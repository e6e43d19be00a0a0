"""One process's HTTP server: it accepts connections on a socket that it is given, until it has drained."""

import asyncio
import contextlib
import functools
import logging
import socket
from collections.abc import Iterator
from typing import cast

import uvicorn

from penstock_engine.heap import settled_heap
from penstock_server.app import create_app
from penstock_server.context import ServerContext
from penstock_server.ending import Ending, first_of
from penstock_server.http_protocol import HttpProtocol
from penstock_server.loop_lag import probed_loop

log = logging.getLogger("penstock")

# How long connections get to take their last bytes once nothing is generated any more.
CLOSE_SECONDS = 5

# Longer than the clients' pools keep an idle connection, so that it is they who close it.
KEEP_ALIVE_SECONDS = 75


async def listen(context: ServerContext, listener: socket.socket, ending: Ending) -> bool:
    """Serve until asked to end; then open requests get `drain_timeout` seconds, and the engine's client is closed.

    Returns False if that was cut short. The socket is closed in any case.
    """
    asked = context.config
    protocol = functools.partial(HttpProtocol, receive_timeout=asked.receive_timeout, send_timeout=asked.send_timeout)
    server = _Server(
        uvicorn.Config(
            create_app(context),
            http=cast(type[HttpProtocol], protocol),
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
    closing = asyncio.create_task(_close_when_asked(context, server, ending))
    try:
        with settled_heap(), probed_loop(context.metrics.loop_lag):
            await server.serve(sockets=[listener])
    finally:
        closing.cancel()
    return not server.force_exit


async def _close_when_asked(context: ServerContext, server: "_Server", ending: Ending) -> None:
    await ending.first.wait()
    drain = asyncio.create_task(_drain(context))
    await first_of(drain, ending.second.wait())
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
