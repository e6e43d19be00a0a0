"""`POST /tokenize`, `/detokenize` and `/apply_template`: a text's tokens, tokens' text, and what a chat becomes.

Names, fields and replies are vLLM's; `/apply_template` replies as llama.cpp does.
"""

import asyncio
from collections.abc import Sequence

from fastapi import APIRouter, Request
from starlette.responses import Response

from penstock_server.context import ServerContext
from penstock_server.errors import BadRequest, NotFound
from penstock_server.plan import LONG_TEXT
from penstock_server.replies.json import json_response
from penstock_server.routes.body import read_body
from penstock_server.schemas.chat import Message
from penstock_server.schemas.text import (
    TemplateBody,
    TokenizeBody,
    read_detokenize,
    read_template,
    read_tokenize,
)
from penstock_server.text.chat_template import required


def text_router(context: ServerContext) -> APIRouter:
    router = APIRouter()
    tokenizer = context.model.codec.tokenizer
    max_bytes = context.config.max_request_bytes

    def check_model(name: str | None) -> None:
        if name is not None and name not in context.model.names:
            raise NotFound(f"the model {name!r} does not exist", "model", "model_not_found")

    def rendered(messages: Sequence[Message], body: TemplateBody | TokenizeBody) -> str:
        return required(context.model.template).render(
            [message.model_dump() for message in messages],
            add_generation_prompt=body.add_generation_prompt,
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
        body = await read_body(request, max_bytes, read_tokenize)
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
        )

    @router.post("/detokenize")
    async def detokenize(request: Request) -> Response:
        body = await read_body(request, max_bytes, read_detokenize)
        check_model(body.model)
        for i, token_id in enumerate(body.tokens):
            if token_id >= context.client.info.vocab_size:
                told = f"{token_id} is not a token id: the vocabulary has {context.client.info.vocab_size}"
                raise BadRequest(told, f"tokens.{i}", "invalid_value")
        skips = body.skip_special_tokens
        text = await asyncio.to_thread(tokenizer.decode, body.tokens, skip_special_tokens=skips)
        return json_response({"prompt": text})

    @router.post("/apply_template")
    async def apply_template(request: Request) -> Response:
        body = await read_body(request, max_bytes, read_template)
        check_model(body.model)
        return json_response({"prompt": await asyncio.to_thread(rendered, body.messages, body)})

    return router
