"""`create_app`: the HTTP application. Everything it works with is in the context it is given."""

import logging

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from penstock_decoding.errors import DecodingError
from penstock_engine.errors import EngineError
from penstock_server.context import ServerContext
from penstock_server.errors import (
    ApiError,
    BadRequest,
    MethodNotAllowed,
    NotFound,
    ServerFault,
    as_api_error,
    error_response,
)
from penstock_server.gone import CLIENT_CLOSED_REQUEST
from penstock_server.middleware.admit import Admit
from penstock_server.middleware.answer_head import AnswerHead
from penstock_server.middleware.observe import PROCESSING_TIME, REQUEST_ID, Observe
from penstock_server.middleware.require_key import RequireKey
from penstock_server.routes.chat import chat_router
from penstock_server.routes.completions import completions_router
from penstock_server.routes.docs import docs_router
from penstock_server.routes.embeddings import embeddings_router
from penstock_server.routes.health import health_router
from penstock_server.routes.messages import messages_router
from penstock_server.routes.metrics import metrics_router
from penstock_server.routes.models import models_router
from penstock_server.routes.responses import responses_router
from penstock_server.routes.score import score_router
from penstock_server.routes.text import text_router
from penstock_server.routes.version import version_router
from penstock_server.text.errors import TextError
from penstock_server.version import VERSION

ROUTERS = (
    completions_router,
    chat_router,
    messages_router,
    responses_router,
    embeddings_router,
    score_router,
    text_router,
    models_router,
    version_router,
    health_router,
    metrics_router,
    docs_router,
)


# What a page's script may read of a reply, beside its body.
EXPOSED_HEADERS = ("retry-after", REQUEST_ID, PROCESSING_TIME)


def create_app(context: ServerContext) -> FastAPI:
    """The application of one server."""
    app = FastAPI(
        title="Penstock", version=VERSION, openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    for make_router in ROUTERS:
        app.include_router(make_router(context))
    # The last one added is the outermost.
    app.add_middleware(AnswerHead)
    app.add_middleware(Admit, life=context.life)
    app.add_middleware(RequireKey, keys=context.keys)
    if context.config.allow_origin:
        # Outside of the keys: a browser asks beforehand, and without one, whether it may send a key.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=context.config.allow_origin,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
        )
    log_level = logging.INFO if context.config.log_requests else logging.DEBUG
    app.add_middleware(Observe, metrics=context.metrics, log_level=log_level)
    for expected in (ApiError, DecodingError, EngineError, TextError):
        app.add_exception_handler(expected, _answer_error)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    app.add_exception_handler(Exception, _answer_error)
    return app


async def _answer_error(request: Request, error: Exception) -> Response:
    return error_response(as_api_error(error), request.url.path)


async def _answer_nobody(request: Request, error: Exception) -> Response:
    # The client went away while it sent its body: no fault of ours, and nothing for the log.
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    # The framework's own: an unknown path, a method that a path does not take.
    assert isinstance(error, HTTPException), "registered for this type"
    path = request.url.path
    headers = dict(error.headers or {})
    match error.status_code:
        case 404:
            return error_response(NotFound(f"there is no {request.method} {path}", code="unknown_path"), path)
        case 405:
            return error_response(MethodNotAllowed(f"{path} does not take {request.method}", headers=headers), path)
        case status if 400 <= status < 500:
            return error_response(BadRequest(str(error.detail)), path)
        case _:
            return error_response(ServerFault("the server failed on this request"), path)
