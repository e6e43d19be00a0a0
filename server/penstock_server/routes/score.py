"""`POST /v1/score`: how likely texts are, by themselves, behind a context, or as labels to choose from."""

import asyncio
import functools
import time
import uuid
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from penstock_engine.request import PromptReading
from penstock_server.context import ServerContext
from penstock_server.errors import BadRequest
from penstock_server.gone import CLIENT_CLOSED_REQUEST, unless_gone
from penstock_server.prompt_tokens import LONG_TEXT, check_model, check_told
from penstock_server.readings import AskedPrompt, ReadPrompt, read_prompts, reading_requests
from penstock_server.replies.json import json_response, warnings_field
from penstock_server.replies.score import choice_among, score
from penstock_server.routes.body import read_body
from penstock_server.schemas.prompts import Prompt, params_of
from penstock_server.schemas.score import ScoreBody, read_score
from penstock_server.scored_text import Asked, ScoredText, scored_text


def score_router(context: ServerContext) -> APIRouter:
    router = APIRouter()
    read = functools.partial(read_score, lenient=context.config.lenient)

    @router.post("/v1/score")
    async def score_texts(request: Request) -> Response:
        began = time.monotonic()
        body = await read_body(request, context.config.max_request_bytes, read)
        check_model(body.model, context.model)
        most = context.config.max_logprobs
        if body.logprobs is not None and body.logprobs > most:
            raise BadRequest(f"must be at most {most} on this server", "logprobs", "invalid_value")
        size = _size(body)
        if size > context.config.max_request_bytes:
            # A context or labels are encoded with each input: a small body must not ask for more than a large one can.
            wrong = (
                f"with each input it is {size} characters or token ids to read; "
                f"this server reads at most {context.config.max_request_bytes} for one request"
            )
            raise BadRequest(wrong, "labels" if body.labels else "context", "invalid_value")
        texts = await asyncio.to_thread(_texts, body, context) if size > LONG_TEXT else _texts(body, context)
        num_told = sum(len(text.token_ids) - text.first_told for text in texts)
        check_told(num_told, body.logprobs or 0, "input" if body.logprobs is None else "logprobs")
        reply_id = f"score-{uuid.uuid4().hex}"
        requests = reading_requests(
            reply_id,
            [AskedPrompt(text.token_ids, text.param, text.first_told) for text in texts],
            PromptReading(num_logprobs=body.logprobs or 0),
            priority=body.priority,
            cache_salt=body.cache_salt,
        )
        read_all = await unless_gone(request, read_prompts(requests, [text.param for text in texts], context.client))
        if read_all is None:
            context.metrics.request_aborted()
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        context.metrics.request_done(time.monotonic() - began)
        num_tokens = sum(len(text.token_ids) for text in texts)
        data = functools.partial(_data, body, texts, read_all, context)
        frame = {"id": reply_id, "object": "list", "created": int(time.time()), "model": body.model}
        told = {
            "data": await asyncio.to_thread(data) if num_tokens > LONG_TEXT else data(),
            "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
        }
        return json_response(frame | told | warnings_field(body.warnings))

    return router


def _size(body: ScoreBody) -> int:
    """Characters, or token ids, of all that is to be read: each input with its context, or with each label."""
    num_own, num_labels = (sum(map(len, texts)) for texts in (body.input, body.labels))
    if body.labels:
        return num_own * len(body.labels) + num_labels * len(body.input)
    repeats = len(body.input) if len(body.context) == 1 else 1
    return num_own + sum(map(len, body.context)) * repeats


def _texts(body: ScoreBody, context: ServerContext) -> list[ScoredText]:
    """What is scored, in order: each input, or for each input all its labels."""
    inputs = list(zip(body.input, params_of(body.input, "input"), strict=True))
    pairs: list[tuple[Prompt | None, Prompt, Asked]]
    if body.labels:
        labels = list(zip(body.labels, params_of(body.labels, "labels"), strict=True))
        pairs = [(text, label, Asked(param, at)) for text, at in inputs for label, param in labels]
    else:
        params = params_of(body.context, "context")
        contexts = list(zip(body.context, params, strict=True)) if body.context else [(None, "context")]
        contexts = contexts if len(contexts) == len(inputs) else contexts * len(inputs)
        pairs = [(before, text, Asked(param, at)) for (before, at), (text, param) in zip(contexts, inputs, strict=True)]
    score_one = functools.partial(
        scored_text, model=context.model, info=context.client.info, adds_special=body.add_special_tokens
    )
    texts = [score_one(before, text, asked) for before, text, asked in pairs]
    if body.labels:
        _check_comparable(texts)
    return texts


def _check_comparable(labels: Sequence[ScoredText]) -> None:
    # What does not count costs nothing: such a label would win, with the likelihood 1, whatever the model says.
    for label in labels:
        if not label.is_whole:
            told = (
                "cannot be compared with others: it begins in the very first token, which has no likelihood, or has no "
                "token at all; begin the input with more text"
            )
            raise BadRequest(told, label.param, "invalid_value")


def _data(
    body: ScoreBody, texts: Sequence[ScoredText], read: Sequence[ReadPrompt], context: ServerContext
) -> list[dict[str, Any]]:
    label = context.model.codec.tokenizer.label
    scores = [score(text, one.logprobs, body.logprobs, label) for text, one in zip(texts, read, strict=True)]
    count = len(body.labels)
    if count:
        scores = [choice_among(body.labels, scores[i : i + count]) for i in range(0, len(scores), count)]
    return [{"object": "score", "index": index, **one} for index, one in enumerate(scores)]
