"""Anthropic's `POST /v1/messages` and `/v1/messages/count_tokens`: its shapes over the core that chat has."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import APIRouter, Request
from starlette.responses import Response

from penstock_decoding.errors import DecodingError
from penstock_engine.errors import EngineError
from penstock_server.context import ServerContext
from penstock_server.errors import ApiError, BadRequest, as_api_error
from penstock_server.plan import count_chat, plan_chat
from penstock_server.replies.anthropic import MessagesLayout
from penstock_server.replies.json import json_response, warnings_field
from penstock_server.respond import respond
from penstock_server.routes.body import read_body
from penstock_server.schemas.anthropic import MessagesBody, read_count_tokens, read_messages, renamed_error
from penstock_server.text.errors import TextError


@contextmanager
def _renaming(body: MessagesBody) -> Iterator[None]:
    """What is wrong with the chat request is told in the names of the body that it was made of."""
    try:
        yield
    except (ApiError, DecodingError, EngineError, TextError) as error:
        told = as_api_error(error)
        raise renamed_error(told, body.renamed) if isinstance(told, BadRequest) else told from error


def messages_router(context: ServerContext) -> APIRouter:
    router = APIRouter()
    lenient = context.config.lenient
    read, read_counted = (functools.partial(one, lenient=lenient) for one in (read_messages, read_count_tokens))

    @router.post("/v1/messages")
    async def messages(request: Request) -> Response:
        body = await read_body(request, context.config.max_request_bytes, read)
        with _renaming(body):
            info = context.client.info
            plan = await plan_chat(body.chat, context.model, info, context.catalogue, context.config, prefix="msg_")
            if plan.num_choices != 1:
                raise BadRequest("a message is one answer", "decoding.n", "unsupported_parameter")
            return await respond(request, plan, MessagesLayout(plan), context)

    @router.post("/v1/messages/count_tokens")
    async def count_tokens(request: Request) -> Response:
        body = await read_body(request, context.config.max_request_bytes, read_counted)
        with _renaming(body):
            count = await count_chat(body.chat, context.model, context.client.info, context.catalogue, context.config)
        return json_response({"input_tokens": count, **warnings_field(body.chat.warnings)})

    return router
