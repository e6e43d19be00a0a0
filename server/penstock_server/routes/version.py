"""`GET /version`: what runs here."""

from fastapi import APIRouter
from starlette.responses import Response

from penstock_server.context import ServerContext
from penstock_server.replies.json import json_response
from penstock_server.version import VERSION


def version_router(context: ServerContext) -> APIRouter:
    router = APIRouter()

    @router.get("/version")
    async def version() -> Response:
        return json_response({"version": VERSION})

    return router
