"""`RequireKey`: no route but /health and /ready without a key, when any key is set. Compared in constant time."""

import hmac
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from penstock_server.errors import Unauthorized, error_response

OPEN_PATHS = frozenset({"/health", "/ready"})


class RequireKey:
    """Stands before routing, so that unknown paths tell nothing either."""

    def __init__(self, app: ASGIApp, *, keys: Sequence[str]) -> None:
        self._app = app
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._keys or scope["path"] in OPEN_PATHS or self._is_known(scope):
            await self._app(scope, receive, send)
            return
        error = Unauthorized(
            "the API key is missing or wrong: Authorization: Bearer KEY, or x-api-key: KEY",
            headers={"WWW-Authenticate": "Bearer"},
        )
        await error_response(error, scope["path"])(scope, receive, send)

    def _is_known(self, scope: Scope) -> bool:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, token = given.partition(b" ")
        if scheme.lower() != b"bearer":  # Anthropic's clients have a header of their own
            token = next((value for name, value in scope["headers"] if name == b"x-api-key"), b"")
            if not token:
                return False
        # All keys are compared, whichever fits: the time does not tell which.
        return any([hmac.compare_digest(token.strip(), key) for key in self._keys])
