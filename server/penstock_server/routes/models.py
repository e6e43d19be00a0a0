"""`GET /v1/models` and `GET /v1/models/{id}`."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from penstock_server.context import ServerContext
from penstock_server.errors import NotFound
from penstock_server.replies.json import json_response


def models_router(context: ServerContext) -> APIRouter:
    router = APIRouter()

    def described(name: str) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": context.created,
            "owned_by": "penstock",
            # vLLM's clients read these: what the name stands for, and what it was made from.
            "root": name,
            "parent": None,
            "max_model_len": context.client.info.max_model_len,
        }

    @router.get("/v1/models")
    async def list_models() -> Response:
        return json_response({"object": "list", "data": [described(name) for name in context.model.names]})

    # A hub id has a slash in it: the rest of the path is the name.
    @router.get("/v1/models/{name:path}")
    async def one_model(name: str) -> Response:
        if name not in context.model.names:
            raise NotFound(f"the model {name!r} does not exist", "model", "model_not_found")
        return json_response(described(name))

    return router
