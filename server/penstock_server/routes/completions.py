"""`POST /v1/completions`."""

import functools

from fastapi import APIRouter, Request
from starlette.responses import Response

from penstock_server.context import ServerContext
from penstock_server.plan import plan_completion
from penstock_server.replies.completion import CompletionLayout
from penstock_server.respond import respond
from penstock_server.routes.body import read_body
from penstock_server.schemas.read import read_completion


def completions_router(context: ServerContext) -> APIRouter:
    router = APIRouter()
    read = functools.partial(read_completion, lenient=context.config.lenient)

    @router.post("/v1/completions")
    async def completions(request: Request) -> Response:
        body = await read_body(request, context.config.max_request_bytes, read)
        plan = await plan_completion(body, context.model, context.client.info, context.catalogue, context.config)
        layout = CompletionLayout(plan, context.model.codec.tokenizer, context.fingerprint)
        return await respond(request, plan, layout, context)

    return router
