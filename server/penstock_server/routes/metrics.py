"""`GET /metrics`, for Prometheus."""

from fastapi import APIRouter
from starlette.responses import Response

from penstock_server.context import ServerContext
from penstock_server.metrics import CONTENT_TYPE


def metrics_router(context: ServerContext) -> APIRouter:
    router = APIRouter()

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(context.metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    return router
