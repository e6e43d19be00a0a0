"""From the bytes of a body to a checked schema, or to the one error that names what is wrong."""

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import orjson
from pydantic import ValidationError

from penstock_server.errors import BadRequest
from penstock_server.schemas import unsupported
from penstock_server.schemas.chat import ChatBody, Message
from penstock_server.schemas.completion import CompletionBody
from penstock_server.schemas.fields import Body, GenerationFields, Strict


class Continuing(Protocol):
    """A body that may ask to go on with its last message."""

    @property
    def continue_final_message(self) -> bool: ...
    @property
    def add_generation_prompt(self) -> bool: ...
    @property
    def model_fields_set(self) -> set[str]: ...


Known = TypeVar("Known", bound=Body)
Generation = TypeVar("Generation", bound=GenerationFields)
Schema = TypeVar("Schema", bound=Strict)


def read_completion(raw: bytes, *, lenient: bool = False) -> CompletionBody:
    """`lenient`: unknown fields are passed over, and named in the body's warnings.

    Raises:
        BadRequest: names the field.
    """
    return _read(CompletionBody, read_object(raw), unsupported.COMPLETION, lenient=lenient)


def read_chat(raw: bytes, *, lenient: bool = False) -> ChatBody:
    """As `read_completion`, for a chat request.

    Raises:
        BadRequest: names the field.
    """
    return chat_of(read_object(raw), lenient=lenient)


def chat_of(given: Mapping[str, Any], *, lenient: bool = False) -> ChatBody:
    """A chat request of these fields.

    Raises:
        BadRequest: names the field.
    """
    body = _read(ChatBody, given, unsupported.CHAT, lenient=lenient)
    if body.top_logprobs and not body.logprobs:
        raise BadRequest("needs logprobs to be true", "top_logprobs", "invalid_value")
    check_continuation(body, body.messages)
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise BadRequest("max_tokens is its older name; give one", "max_completion_tokens", "invalid_value")
    return body


def check_continuation(body: Continuing, messages: Sequence[Message]) -> None:
    """
    Raises:
        BadRequest: the last message is to be continued and cannot be.
    """
    if body.continue_final_message:
        if "add_generation_prompt" in body.model_fields_set and body.add_generation_prompt:
            told = "contradicts add_generation_prompt: an answer goes on or begins anew"
            raise BadRequest(told, "continue_final_message", "invalid_value")
        if messages[-1].role != "assistant" or not messages[-1].content:
            told = "needs a last message of the assistant with something to go on from"
            raise BadRequest(told, "continue_final_message", "invalid_value")


def read_object(raw: bytes) -> dict[str, Any]:
    """The JSON object of a body.

    Raises:
        BadRequest: it is not one.
    """
    # orjson is strict: no NaN or Infinity, no invalid UTF-8, no lone surrogates, at most 1024 levels deep.
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise BadRequest("the body must be a JSON object", code="invalid_json")
    return value


def validated(schema: type[Schema], given: Mapping[str, Any], known_beside: Iterable[str] = ()) -> Schema:
    """The body of these fields, null ones left out: null means "not given", as everywhere in OpenAI's API.

    `known_beside`: names that are no fields of the schema, and are worth suggesting.

    Raises:
        BadRequest: names the first field that is wrong.
    """
    fields = {name: value for name, value in given.items() if value is not None}
    for name in fields:
        if name not in schema.model_fields:
            raise unknown_field(name, [*schema.model_fields, *known_beside])
    try:
        return schema.model_validate(fields)
    except ValidationError as error:
        raise _first(error) from None


def read_known(
    schema: type[Known],
    given: Mapping[str, Any],
    neutral: Mapping[str, tuple[object, ...]],
    inert: Collection[str] = unsupported.INERT,
    *,
    lenient: bool = False,
) -> Known:
    """The body of these fields.

    `neutral`: fields that are refused, with the values that ask for nothing. `inert`: fields without effect.
    `lenient`: unknown fields are passed over, and named in the body's warnings.

    Raises:
        BadRequest: names the field.
    """
    fields = unsupported.refuse({name: value for name, value in given.items() if value is not None}, neutral, inert)
    known_beside = [*neutral, *inert]
    known, warnings = known_fields(fields, schema.model_fields, known_beside, lenient=lenient)
    return validated(schema, known, known_beside).warned(warnings)


def known_fields(
    fields: Mapping[str, Any], known: Iterable[str], known_beside: Iterable[str], *, lenient: bool
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Those of the fields that are known, and a warning for each other one.

    Raises:
        BadRequest: a field is not known, and the server is not lenient.
    """
    kept, warnings = {}, []
    for name, value in fields.items():
        if name in known:
            kept[name] = value
            continue
        error = unknown_field(name, [*known, *known_beside])
        if not lenient:
            raise error
        warnings.append(error.message)
    return kept, tuple(warnings)


def check_truncation(count: int | None) -> None:
    """
    Raises:
        BadRequest: a prompt of no tokens is asked for.
    """
    if count == 0:
        told = "must be at least 1, or -1 for what the context leaves"
        raise BadRequest(told, "truncate_prompt_tokens", "invalid_value")


def _read(
    schema: type[Generation], given: Mapping[str, Any], neutral: Mapping[str, tuple[object, ...]], *, lenient: bool
) -> Generation:
    body = read_known(schema, given, neutral, lenient=lenient)
    check_truncation(body.truncate_prompt_tokens)
    if body.stream_options is not None:
        if not body.stream:
            raise BadRequest("needs stream to be true", "stream_options", "invalid_value")
        if body.stream_options.include_obfuscation:
            param = "stream_options.include_obfuscation"
            raise BadRequest("not supported by this server", param, "unsupported_parameter")
        if body.stream_options.continuous_usage_stats and not body.stream_options.include_usage:
            param = "stream_options.continuous_usage_stats"
            raise BadRequest("needs include_usage to be true", param, "invalid_value")
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


def unknown_field(name: str, known: Iterable[str]) -> BadRequest:
    """The error that a field is not one of those known, with the nearest of them."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    told = "unknown field" + (f"; did you mean {close[0]!r}?" if close else "")
    return BadRequest(told, name, "unknown_parameter")
