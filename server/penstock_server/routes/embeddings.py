"""`POST /v1/embeddings`: the model's hidden states of a text, as one vector."""

import asyncio
import functools
import time
import uuid
from collections.abc import Sequence

from fastapi import APIRouter, Request
from starlette.responses import Response

from penstock_engine.request import PromptReading
from penstock_server.context import ServerContext
from penstock_server.errors import BadRequest
from penstock_server.gone import CLIENT_CLOSED_REQUEST, unless_gone
from penstock_server.prompt_tokens import check_model, encoded, is_long
from penstock_server.readings import AskedPrompt, ReadPrompt, read_prompts, reading_requests
from penstock_server.replies.embeddings import embeddings_reply, shaped
from penstock_server.routes.body import read_body
from penstock_server.schemas.embeddings import EmbeddingsBody, read_embeddings
from penstock_server.schemas.prompts import params_of

# Numbers are written at some 30 million a second: more than these take longer than a thread does to start.
_MANY_NUMBERS = 16 * 1024


def embeddings_router(context: ServerContext) -> APIRouter:
    router = APIRouter()
    read = functools.partial(read_embeddings, lenient=context.config.lenient)

    @router.post("/v1/embeddings")
    async def embeddings(request: Request) -> Response:
        began = time.monotonic()
        body = await read_body(request, context.config.max_request_bytes, read)
        check_model(body.model, context.model)
        hidden_size = context.client.info.hidden_size
        if body.dimensions is not None and body.dimensions > hidden_size:
            told = f"must be at most {hidden_size}, the size of this model's hidden states"
            raise BadRequest(told, "dimensions", "invalid_value")
        asks = functools.partial(_asked, body, context)
        asked = await asyncio.to_thread(asks) if is_long(body.input) else asks()
        reading = PromptReading(pooling=body.pooling)
        requests = reading_requests(
            f"embd-{uuid.uuid4().hex}", asked, reading, priority=body.priority, cache_salt=body.cache_salt
        )
        read_all = await unless_gone(request, read_prompts(requests, [one.param for one in asked], context.client))
        if read_all is None:
            context.metrics.request_aborted()
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        context.metrics.request_done(time.monotonic() - began)
        dimensions = body.dimensions or hidden_size
        writes = functools.partial(_written, body, asked, read_all, dimensions)
        is_large = len(asked) * dimensions > _MANY_NUMBERS
        raw = await asyncio.to_thread(writes) if is_large else writes()
        return Response(raw, media_type="application/json")

    return router


def _asked(body: EmbeddingsBody, context: ServerContext) -> list[AskedPrompt]:
    """The inputs as token ids, cut as asked; raises `BadRequest`, which names one that is too long."""
    info = context.client.info
    most = info.max_model_len
    count = most if body.truncate_prompt_tokens == -1 else body.truncate_prompt_tokens
    asked = []
    for text, param in zip(body.input, params_of(body.input, "input"), strict=True):
        ids = encoded(
            text, param, context.model, info, add_special_tokens=body.add_special_tokens, is_cut=count is not None
        )
        if count is not None:
            ids = ids[-count:] if body.truncation_side == "left" else ids[:count]
        if len(ids) > most:
            told = f"has {len(ids)} tokens; the model's context has {most}"
            raise BadRequest(told, param, "context_length_exceeded")
        asked.append(AskedPrompt(ids, param))
    return asked


def _written(body: EmbeddingsBody, asked: Sequence[AskedPrompt], read: Sequence[ReadPrompt], dimensions: int) -> bytes:
    raw = []
    for one in read:
        assert one.embedding is not None, "the engine gives what was asked for, or fails the request"
        raw.append(one.embedding)
    vectors = shaped(raw, dimensions, normalizes=body.is_normalized)
    num_tokens = sum(len(one.token_ids) for one in asked)
    return embeddings_reply(body.model, vectors, body.encoding_format, num_tokens, body.warnings)
