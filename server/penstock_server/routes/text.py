"""`POST /tokenize`, `/detokenize` and `/apply_template`: a text's tokens, tokens' text, and what a chat becomes.

Names, fields and replies are vLLM's; `/apply_template` replies as llama.cpp does.
"""

import asyncio
import functools
from collections.abc import Sequence

from fastapi import APIRouter, Request
from starlette.responses import Response

from penstock_server.answer_form import required_format
from penstock_server.context import ServerContext
from penstock_server.errors import BadRequest, NotFound
from penstock_server.prompt_tokens import LONG_TEXT
from penstock_server.replies.json import json_response, warnings_field
from penstock_server.routes.body import read_body
from penstock_server.schemas.chat import Message
from penstock_server.schemas.text import (
    ChatFields,
    TokenizeBody,
    read_detokenize,
    read_template,
    read_tokenize,
)
from penstock_server.text.chat_template import required


def text_router(context: ServerContext) -> APIRouter:
    router = APIRouter()
    tokenizer = context.model.codec.tokenizer
    max_bytes, lenient = context.config.max_request_bytes, context.config.lenient

    def check_model(name: str | None) -> None:
        if name is not None and name not in context.model.names:
            raise NotFound(f"the model {name!r} does not exist", "model", "model_not_found")

    def rendered(messages: Sequence[Message], body: ChatFields) -> str:
        offer = body.offer()
        if offer is not None:
            required_format(context.model)
        return required(context.model.template).render(
            [message.model_dump() for message in messages],
            add_generation_prompt=body.add_generation_prompt and not body.continue_final_message,
            continues_last=body.continue_final_message,
            tools=None if offer is None else [tool.given for tool in offer.tools],
            variables=body.chat_template_kwargs,
        )

    def encoded(body: TokenizeBody) -> list[int]:
        if body.messages is not None:
            text, adds_by_default = rendered(body.messages, body), False
        else:
            text, adds_by_default = body.prompt or "", True
        adds = adds_by_default if body.add_special_tokens is None else body.add_special_tokens
        return tokenizer.encode(text, add_special_tokens=adds)

    @router.post("/tokenize")
    async def tokenize(request: Request) -> Response:
        body = await read_body(request, max_bytes, functools.partial(read_tokenize, lenient=lenient))
        check_model(body.model)
        is_long = body.messages is not None or len(body.prompt or "") > LONG_TEXT
        tokens = await asyncio.to_thread(encoded, body) if is_long else encoded(body)
        return json_response(
            {
                "count": len(tokens),
                "max_model_len": context.client.info.max_model_len,
                "tokens": tokens,
                "token_strs": [tokenizer.label(token_id) for token_id in tokens] if body.return_token_strs else None,
            }
            | warnings_field(body.warnings)
        )

    @router.post("/detokenize")
    async def detokenize(request: Request) -> Response:
        body = await read_body(request, max_bytes, functools.partial(read_detokenize, lenient=lenient))
        check_model(body.model)
        for i, token_id in enumerate(body.tokens):
            if token_id >= context.client.info.vocab_size:
                told = f"{token_id} is not a token id: the vocabulary has {context.client.info.vocab_size}"
                raise BadRequest(told, f"tokens.{i}", "invalid_value")
        skips = body.skip_special_tokens
        text = await asyncio.to_thread(tokenizer.decode, body.tokens, skip_special_tokens=skips)
        return json_response({"prompt": text, **warnings_field(body.warnings)})

    @router.post("/apply_template")
    async def apply_template(request: Request) -> Response:
        body = await read_body(request, max_bytes, functools.partial(read_template, lenient=lenient))
        check_model(body.model)
        text = await asyncio.to_thread(rendered, body.messages, body)
        return json_response({"prompt": text, **warnings_field(body.warnings)})

    return router
