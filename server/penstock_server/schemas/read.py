"""From the bytes of a body to a checked schema, or to the one error that names what is wrong."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError

from penstock_server.errors import BadRequest
from penstock_server.schemas import unsupported
from penstock_server.schemas.chat import ChatBody
from penstock_server.schemas.completion import CompletionBody
from penstock_server.schemas.fields import GenerationFields

Body = TypeVar("Body", bound=GenerationFields)


def read_completion(raw: bytes) -> CompletionBody:
    """
    Raises:
        BadRequest: names the field.
    """
    body = _read(CompletionBody, _read_object(raw), unsupported.COMPLETION)
    if body.echo and body.logprobs is not None:
        raise BadRequest("not supported together with echo yet", "logprobs", "unsupported_parameter")
    return body


def read_chat(raw: bytes) -> ChatBody:
    """
    Raises:
        BadRequest: names the field.
    """
    body = _read(ChatBody, _read_object(raw), unsupported.CHAT)
    if body.top_logprobs is not None and not body.logprobs:
        raise BadRequest("needs logprobs to be true", "top_logprobs", "invalid_value")
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise BadRequest("max_tokens is its older name; give one", "max_completion_tokens", "invalid_value")
    return body


def _read_object(raw: bytes) -> dict[str, Any]:
    # orjson is strict: no NaN or Infinity, no invalid UTF-8, no lone surrogates, at most 1024 levels deep.
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise BadRequest("the body must be a JSON object", code="invalid_json")
    return value


def _read(schema: type[Body], given: dict[str, Any], neutral: Mapping[str, tuple[object, ...]]) -> Body:
    # null means "not given", as everywhere in OpenAI's API.
    fields = {name: value for name, value in given.items() if value is not None}
    fields = unsupported.refuse(fields, neutral)
    for name in fields:
        if name not in schema.model_fields:
            known = [*schema.model_fields, *neutral, *unsupported.INERT]
            raise BadRequest(_unknown(name, known), name, "unknown_parameter")
    try:
        body = schema.model_validate(fields)
    except ValidationError as error:
        raise _first(error) from None
    if body.stream_options is not None:
        if not body.stream:
            raise BadRequest("needs stream to be true", "stream_options", "invalid_value")
        if body.stream_options.include_obfuscation:
            param = "stream_options.include_obfuscation"
            raise BadRequest("not supported by this server", param, "unsupported_parameter")
    return body


def _first(error: ValidationError) -> BadRequest:
    details = error.errors(include_url=False, include_context=False)[0]
    param = ".".join(str(part) for part in details["loc"]) or None
    match details["type"]:
        case "missing":
            return BadRequest("is required", param, "missing_required_parameter")
        case "extra_forbidden":
            return BadRequest("unknown field", param, "unknown_parameter")
        case kind:
            message = details["msg"].removeprefix("Input ").replace("should be", "must be", 1)
            return BadRequest(message, param, "invalid_type" if kind.endswith("_type") else "invalid_value")


def _unknown(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return "unknown field" + (f"; did you mean {close[0]!r}?" if close else "")
