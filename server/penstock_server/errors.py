"""What a caller is told when a request fails: one tree of errors, one JSON shape, OpenAI's.

Nothing internal (paths, tracebacks) is in a message; those of `EngineError` and `DecodingFault` are for callers.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from starlette.responses import Response

from penstock_decoding.errors import DecodingFault, ParameterError
from penstock_engine.errors import EngineError, EngineUnavailable, QueueFull, RequestRefused
from penstock_server.replies.json import json_response
from penstock_server.text.errors import TextError


class ApiError(Exception):
    """Root of the errors that are answers. `param` is a dotted path into the request's body."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str | None] = None

    def __init__(
        self, message: str, param: str | None = None, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or self.default_code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class BadRequest(ApiError):
    """Says first which field it is about: clients show the message, and seldom `param`."""

    status = 400
    type = "invalid_request_error"

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(f"{param}: {message}" if param else message, param, code)


class Unauthorized(ApiError):
    status = 401
    type = "invalid_request_error"
    default_code = "invalid_api_key"


class NotFound(ApiError):
    status = 404
    type = "invalid_request_error"


class MethodNotAllowed(ApiError):
    status = 405
    type = "invalid_request_error"
    default_code = "method_not_allowed"


class BodyTooLarge(ApiError):
    status = 413
    type = "invalid_request_error"
    default_code = "request_too_large"


class Overloaded(ApiError):
    status = 429
    type = "rate_limit_error"
    default_code = "queue_full"


class ServerFault(ApiError):
    default_code = "internal_error"


class Unavailable(ApiError):
    status = 503
    type = "service_unavailable_error"
    default_code = "unavailable"


def as_api_error(error: Exception) -> ApiError:
    """The answer to any exception; one that is not expected here is a `ServerFault` that tells nothing."""
    match error:
        case ApiError():
            return error
        case ParameterError():
            return BadRequest(error.message, dotted(error.param), "invalid_value")
        case RequestRefused():
            return BadRequest(error.message, dotted(error.param), "invalid_value")
        case QueueFull():
            return Overloaded(str(error), headers={"Retry-After": str(error.retry_after)})
        case EngineUnavailable():
            return Unavailable(str(error))
        case EngineError() | DecodingFault():
            return ServerFault(str(error), code="generation_failed")
        case TextError():
            return BadRequest(str(error), "messages", "invalid_value")
        case _:
            return ServerFault("the server failed on this request; its log says why")


def error_response(error: ApiError, path: str = "") -> Response:
    """The error as an HTTP response, in the shape of the API that `path` belongs to."""
    body = anthropic_body(error) if path.startswith("/v1/messages") else error.body()
    return json_response(body, error.status, error.headers)


_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def anthropic_body(error: ApiError) -> dict[str, Any]:
    """An error in Anthropic's shape; `param` and `code` stand beside what it has."""
    kind = _ANTHROPIC_TYPES.get(error.status, "api_error")
    told = {"type": kind, "message": error.message, "param": error.param, "code": error.code}
    return {"type": "error", "error": told}


def dotted(path: str) -> str:
    """`decoding.chain[1].top_k` and `logit_bias['7']` as dotted paths."""
    return path.replace("['", ".").replace("[", ".").replace("']", "").replace("]", "")
