"""`GET /health`: 200 while the server lives; `GET /ready`: 200 while it takes new requests. Else 503 and why.

They ask for no key. Who restarts a server asks the first, who sends it requests the second: a server that drains is to
be left alone and to get nothing new.
"""

from fastapi import APIRouter
from starlette.responses import Response

from penstock_server.context import ServerContext
from penstock_server.errors import Unavailable
from penstock_server.replies.json import json_response


def health_router(context: ServerContext) -> APIRouter:
    router = APIRouter()

    def check_alive() -> None:
        failure = context.client.failure
        if failure is not None:
            raise Unavailable(f"the engine has failed: {failure}", code="engine_failed")

    @router.get("/health")
    async def health() -> Response:
        check_alive()
        return json_response({"status": "ok"})

    @router.get("/ready")
    async def ready() -> Response:
        check_alive()
        if context.life.is_draining:
            raise Unavailable("the server is shutting down", code="draining")
        return json_response({"status": "ok"})

    return router
