"""`Admit`: turns requests away while the server drains, and counts those it lets in, few at a time, as open until
they are answered."""

from starlette.types import ASGIApp, Receive, Scope, Send

from penstock_server.errors import Unavailable, error_response
from penstock_server.life import Life
from penstock_server.turnstile import Turnstile

# Asked by those who watch a server, while it drains too; they are not work to wait for.
WATCHING_PATHS = frozenset({"/health", "/ready", "/version", "/metrics"})


# Each takes half a millisecond to be read, planned and submitted.
MOST_PER_TURN = 8


class Admit:
    """The gate."""

    def __init__(self, app: ASGIApp, *, life: Life) -> None:
        self._app = app
        self._life = life
        self._turnstile = Turnstile(MOST_PER_TURN)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in WATCHING_PATHS:
            await self._app(scope, receive, send)
        elif self._life.is_draining:
            error = Unavailable("the server is shutting down", code="draining", headers={"Connection": "close"})
            await error_response(error, scope["path"])(scope, receive, send)
        else:
            with self._life.open_request():
                await self._turnstile.enter()
                await self._app(scope, receive, send)
