"""`GET /health`: 200 while new requests are served, else 503 and why. Asks for no key."""

from fastapi import APIRouter
from starlette.responses import Response

from penstock_server.context import ServerContext
from penstock_server.errors import Unavailable
from penstock_server.replies.json import json_response


def health_router(context: ServerContext) -> APIRouter:
    router = APIRouter()

    @router.get("/health")
    async def health() -> Response:
        failure = context.client.failure
        if failure is not None:
            raise Unavailable(f"the engine has failed: {failure}", code="engine_failed")
        if context.life.is_draining:
            raise Unavailable("the server is shutting down", code="draining")
        return json_response({"status": "ok"})

    return router
