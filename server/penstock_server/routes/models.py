"""`GET /v1/models` and `GET /v1/models/{id}`: the model, and what can be asked of it here.

Anthropic's clients ask at the same addresses and are known by the version they send: they get Anthropic's shapes.
"""

from datetime import UTC, datetime
from typing import Any, get_args

from fastapi import APIRouter, Request
from starlette.responses import Response

from penstock_decoding.params_schema import params_schema
from penstock_engine.request import Pooling
from penstock_server.context import ServerContext
from penstock_server.errors import NotFound
from penstock_server.replies.json import json_response
from penstock_server.schemas.embeddings import EmbeddingsBody


def models_router(context: ServerContext) -> APIRouter:
    router = APIRouter()
    abilities = _abilities(context)

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

    def described_to_anthropic(name: str) -> dict[str, Any]:
        created = datetime.fromtimestamp(context.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "type": "model",
            "id": name,
            "display_name": name,
            "created_at": created,
            "lifecycle": "active",
            "max_input_tokens": context.client.info.max_model_len,
            "max_tokens": context.client.info.max_model_len,
        }

    @router.get("/v1/models")
    async def list_models(request: Request) -> Response:
        names = context.model.names
        if _is_anthropic(request):
            data = [described_to_anthropic(name) for name in names]
            return json_response({"data": data, "has_more": False, "first_id": names[0], "last_id": names[-1]})
        return json_response({"object": "list", "data": [described(name) for name in names]})

    # A hub id has a slash in it: the rest of the path is the name.
    @router.get("/v1/models/{name:path}")
    async def one_model(name: str, request: Request) -> Response:
        if name not in context.model.names:
            raise NotFound(f"the model {name!r} does not exist", "model", "model_not_found")
        if _is_anthropic(request):
            return json_response(described_to_anthropic(name))
        return json_response(described(name) | {"penstock": abilities})

    return router


def _is_anthropic(request: Request) -> bool:
    return "anthropic-version" in request.headers


def _abilities(context: ServerContext) -> dict[str, Any]:
    """What a client may rely on: sizes, limits, and every strategy and processor with the schema of its parameters."""
    info, config, catalogue = context.client.info, context.config, context.catalogue
    template = context.model.template
    return {
        "architecture": info.architecture,
        "num_parameters": info.num_parameters,
        "vocab_size": info.vocab_size,
        "eos_token_ids": list(info.eos_token_ids),
        "dtype": info.dtype,
        "kv_cache_dtype": info.kv_cache_dtype,
        "device": info.device,
        "kernels": info.kernels,
        "limits": {
            "max_model_len": info.max_model_len,
            "max_rows": info.max_rows,
            "max_queue": info.max_queue,
            "max_n": config.max_n,
            "max_logprobs": config.max_logprobs,
            "max_request_bytes": config.max_request_bytes,
        },
        "embeddings": {
            "dimensions": info.hidden_size,
            "poolings": list(get_args(Pooling)),
            "default_pooling": EmbeddingsBody.model_fields["pooling"].default,
        },
        "infill": context.model.infill is not None,
        "chat": template is not None,
        "tools": None if context.model.tool_format is None else context.model.tool_format.name,
        "reasoning": template is not None and "</think>" in template.source,
        "strategies": {name: params_schema(each.Params) for name, each in catalogue.strategies.items()},
        "processors": {name: params_schema(each.Params) for name, each in catalogue.processors.items()},
        "default_chain": list(catalogue.default_order),
    }
