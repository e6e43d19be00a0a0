"""OpenAI's `POST /v1/responses`, and what was stored of them: its shapes over the core that chat has."""

import dataclasses
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from starlette.responses import Response

from penstock_decoding.errors import DecodingError
from penstock_engine.errors import EngineError
from penstock_server.context import ServerContext
from penstock_server.errors import ApiError, BadRequest, NotFound, as_api_error
from penstock_server.plan import Plan, count_chat, plan_chat
from penstock_server.replies.json import json_response, warnings_field
from penstock_server.replies.responses import ResponsesLayout
from penstock_server.respond import respond
from penstock_server.routes.body import read_body, read_bytes
from penstock_server.schemas.chat import ChatBody
from penstock_server.schemas.responses import ResponsesBody, earlier_id, read_responses
from penstock_server.text.errors import TextError

T = TypeVar("T")


@contextmanager
def _renaming(body: ResponsesBody) -> Iterator[None]:
    """What is wrong with the chat request is told in the names of the body that it was made of."""
    try:
        yield
    except (ApiError, DecodingError, EngineError, TextError) as error:
        told = as_api_error(error)
        raise body.renamed_error(told) if isinstance(told, BadRequest) else told from error


def responses_router(context: ServerContext) -> APIRouter:
    router = APIRouter()
    shared, config = context.shared, context.config
    tokenizer = context.model.codec.tokenizer

    async def read(request: Request) -> ResponsesBody:
        raw, wanted = await read_body(request, config.max_request_bytes, lambda raw: (raw, earlier_id(raw)))
        stored = None if wanted is None else await shared.find(wanted)

        def earlier(response_id: str) -> list[dict[str, Any]] | None:
            return None if stored is None else stored.conversation()

        return await read_bytes(raw, functools.partial(read_responses, earlier=earlier, lenient=config.lenient))

    @router.post("/v1/responses")
    async def responses(request: Request) -> Response:
        body = await read(request)
        keep = functools.partial(shared.keep, items=body.items) if body.is_stored else None
        with _renaming(body):
            plan = await _plan(body, context)
            return await respond(request, plan, ResponsesLayout(plan, tokenizer, body.echoes, keep), context)

    @router.post("/v1/responses/input_tokens")
    async def count_tokens(request: Request) -> Response:
        body = await read(request)
        with _renaming(body):
            count = await count_chat(body.chat, context.model, context.client.info, context.catalogue, context.config)
        told = {"object": "response.input_tokens", "input_tokens": count}
        return json_response(told | warnings_field(body.chat.warnings))

    @router.get("/v1/responses/{response_id}")
    async def stored_response(request: Request, response_id: str) -> Response:
        _check_query(request, {"stream": ("false",)})
        stored = _there(response_id, await shared.find(response_id))
        return Response(stored.response, media_type="application/json")

    @router.delete("/v1/responses/{response_id}")
    async def forget_response(response_id: str) -> Response:
        _there(response_id, await shared.forget(response_id) or None)
        return json_response({"id": response_id, "object": "response", "deleted": True})

    @router.get("/v1/responses/{response_id}/input_items")
    async def input_items(request: Request, response_id: str) -> Response:
        _check_query(request, {"limit": None, "after": None, "order": ("asc", "desc")})
        items = _there(response_id, await shared.find(response_id)).input_items()
        if request.query_params.get("order", "desc") == "desc":
            items.reverse()
        limit, after = request.query_params.get("limit", "20"), request.query_params.get("after")
        if not limit.isascii() or not limit.isdecimal() or not 1 <= int(limit) <= 100:
            raise BadRequest("must be an integer from 1 to 100", "limit", "invalid_value")
        if after is not None:
            places = [i for i, item in enumerate(items) if item["id"] == after]
            if not places:
                raise BadRequest("there is no item of this id", "after", "invalid_value")
            items = items[places[0] + 1 :]
        page = items[: int(limit)]
        first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
        told = {"object": "list", "data": page, "first_id": first, "last_id": last}
        return json_response(told | {"has_more": len(page) < len(items)})

    return router


async def _plan(body: ResponsesBody, context: ServerContext) -> Plan:
    """The plan of the body's chat; with the end of the conversation alone, if it asks for that and is too long."""
    try:
        plan = await _plan_chat(body.chat, context)
    except BadRequest as error:
        if not body.drops_oldest or error.code != "context_length_exceeded":
            raise
        plan = await _plan_end(body.chat, context, error)
    if plan.num_choices != 1:
        raise BadRequest("a response has one answer", "decoding.n", "invalid_value")
    if plan.form.new_parser is not None:  # to count those of thoughts
        plan = dataclasses.replace(plan, tells_token_ids=True)
    return plan


async def _plan_end(chat: ChatBody, context: ServerContext, too_long: BadRequest) -> Plan:
    """The plan of the longest end of the conversation that has room: it begins with a message of the user.

    What stands before the first message of the user or the assistant, like instructions, always stays.

    Raises:
        BadRequest: `too_long`, if the last of these does not fit either.
    """
    messages = chat.messages
    first = next((i for i, message in enumerate(messages) if message.role not in ("system", "developer")), 0)
    starts = [i for i, message in enumerate(messages) if i > first and message.role == "user"]
    fitting: Plan | None = None
    while starts:
        middle = len(starts) // 2
        shorter = chat.model_copy(update={"messages": [*messages[:first], *messages[starts[middle] :]]})
        try:
            fitting, starts = await _plan_chat(shorter, context), starts[:middle]
        except BadRequest as error:
            if error.code != "context_length_exceeded":
                raise
            starts = starts[middle + 1 :]
    if fitting is None:
        raise too_long
    return fitting


async def _plan_chat(chat: ChatBody, context: ServerContext) -> Plan:
    return await plan_chat(chat, context.model, context.client.info, context.catalogue, context.config, prefix="resp_")


def _there(response_id: str, found: T | None) -> T:
    if found is None:
        told = f"there is no response {response_id!r}; only those are kept that were asked for with store, for a time"
        raise NotFound(told, code="response_not_found")
    return found


def _check_query(request: Request, known: dict[str, tuple[str, ...] | None]) -> None:
    """No parameters but these, with one of these values; None: any."""
    for name, value in request.query_params.items():
        if name not in known:
            raise BadRequest("not supported by this server", name, "unsupported_parameter")
        values = known[name]
        if values is not None and value not in values:
            raise BadRequest(f"must be {' or '.join(values)}", name, "invalid_value")
