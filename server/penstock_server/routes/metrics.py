"""`GET /metrics`, for Prometheus."""

from fastapi import APIRouter
from starlette.responses import Response

from penstock_server.context import ServerContext
from penstock_server.figures import CONTENT_TYPE, page


def metrics_router(context: ServerContext) -> APIRouter:
    router = APIRouter()

    @router.get("/metrics")
    async def metrics() -> Response:
        figures = await context.shared.figures(context.metrics.figures())
        told = page(figures, is_engine_up=context.client.failure is None)
        return Response(told, headers={"Content-Type": CONTENT_TYPE})

    return router
