"""The bodies of the requests, by name among the components: what the schemas in `penstock_server.schemas` read."""

import functools
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from penstock_decoding.grammar.params import MAX_CHARACTERS
from penstock_server.context import ServerContext
from penstock_server.openapi.conversation import MESSAGES, TOOL, TOOL_CHOICE
from penstock_server.openapi.decoding import flat_field
from penstock_server.openapi.meanings import (
    CHAT_MEANINGS,
    COMPLETION_MEANINGS,
    EMBEDDINGS_MEANINGS,
    MEANINGS,
    SCORE_MEANINGS,
    TEXT_MEANINGS,
)
from penstock_server.openapi.shapes import (
    ANY_OBJECT,
    BOOLEAN,
    COUNT,
    STRING,
    Schema,
    array,
    closed,
    described,
    nullable,
)
from penstock_server.schemas import embeddings, text, unsupported
from penstock_server.schemas.chat import ChatBody
from penstock_server.schemas.completion import DEFAULT_MAX_TOKENS, CompletionBody
from penstock_server.schemas.embeddings import MAX_INPUTS, EmbeddingsBody
from penstock_server.schemas.fields import (
    DECODING_FIELDS,
    MAX_STOP_CHARACTERS,
    MAX_STOP_STRINGS,
    StreamOptions,
)
from penstock_server.schemas.score import ELSEWHERE, MAX_SCORES, ScoreBody
from penstock_server.schemas.text import DetokenizeBody, TemplateBody, TokenizeBody
from penstock_server.text.chat_template import RESERVED_NAMES
from penstock_server.tools.offer import MAX_TOOLS

JSON_SCHEMA: Schema = {"type": ["object", "boolean", "string"]}
_GRAMMAR: Schema = {"type": "string", "maxLength": MAX_CHARACTERS}
_STOP: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_STOP_CHARACTERS}

RESPONSE_FORMAT: Schema = {
    "oneOf": [
        closed({"type": {"const": "text"}}),
        closed({"type": {"const": "json_object"}, "schema": nullable(JSON_SCHEMA)}, ["type"]),
        closed(
            {
                "type": {"const": "json_schema"},
                "json_schema": closed(
                    {"name": {}, "description": {}, "schema": JSON_SCHEMA, "strict": {}},
                    ["schema"],
                ),
            }
        ),
    ]
}
STRUCTURED_OUTPUTS: Schema = closed(
    {
        "json": nullable(JSON_SCHEMA),
        "regex": nullable(_GRAMMAR),
        "choice": nullable(array(STRING, minItems=1)),
        "grammar": nullable(_GRAMMAR),
        "json_object": nullable(BOOLEAN),
        "whitespace_pattern": nullable(STRING),
        "disable_any_whitespace": nullable(BOOLEAN),
        "disable_fallback": nullable(BOOLEAN),
        "disable_additional_properties": {"enum": [False, None]},
        "structural_tag": {"enum": [False, None]},
    },
    [],
)

# Fields whose schema no type tells, since they are read by hand.
_OWN: dict[str, Schema] = {
    "stop": {"anyOf": [_STOP, array(_STOP, maxItems=MAX_STOP_STRINGS)]},
    "response_format": RESPONSE_FORMAT,
    "structured_outputs": STRUCTURED_OUTPUTS,
    "guided_whitespace_pattern": STRING,
    "json_schema": JSON_SCHEMA,
    "grammar": _GRAMMAR,
    "tools": array(TOOL, maxItems=MAX_TOOLS),
    "tool_choice": TOOL_CHOICE,
    "parallel_tool_calls": {**BOOLEAN, "default": True},
    "messages": MESSAGES,
    "truncate_prompt_tokens": {"type": "integer", "minimum": -1, "not": {"const": 0}},
    "chat_template_kwargs": {
        **ANY_OBJECT,
        "propertyNames": {"pattern": "^([^_]|$)", "not": {"enum": sorted(RESERVED_NAMES)}},
    },
    "model": STRING,
    "stream_options": closed(
        {name: {**BOOLEAN, "default": False} for name in StreamOptions.model_fields if name != "include_obfuscation"}
        | {"include_obfuscation": {"const": False}},
        [],
    ),
}
_INERT = "accepted; it cannot change an answer here"
_REFUSED = "not supported; only what asks for nothing is accepted"


def body_schemas(context: ServerContext) -> dict[str, Schema]:
    """The schemas of the bodies that are read into pydantic models."""
    completion = _fields(CompletionBody, MEANINGS | COMPLETION_MEANINGS, context)
    completion["prompt"] = described(_prompt(context), COMPLETION_MEANINGS["prompt"])
    completion["max_tokens"]["default"] = DEFAULT_MAX_TOKENS
    chat = _fields(ChatBody, MEANINGS | CHAT_MEANINGS, context)
    embedded = _fields(EmbeddingsBody, MEANINGS | COMPLETION_MEANINGS | EMBEDDINGS_MEANINGS, context)
    embedded["input"] = described(_input(context), EMBEDDINGS_MEANINGS["input"])
    scored = _fields(ScoreBody, MEANINGS | SCORE_MEANINGS, context)
    for name, schema in _score_texts(context).items():
        scored[name] = described(schema, SCORE_MEANINGS[name])
    bodies = {
        "ScoreRequest": _generation(scored | _others(dict.fromkeys(ELSEWHERE, ())), ScoreBody, context),
        "EmbeddingsRequest": _generation(embedded | _others(embeddings.REFUSED), EmbeddingsBody, context),
        "CompletionRequest": _generation(completion | _others(unsupported.COMPLETION), CompletionBody, context),
        "ChatRequest": _generation(chat | _others(unsupported.CHAT), ChatBody, context),
    }
    for name, model in (("Tokenize", TokenizeBody), ("Detokenize", DetokenizeBody), ("Template", TemplateBody)):
        fields = _fields(model, TEXT_MEANINGS, context)
        others = {} if model is DetokenizeBody else {name: refused(idle) for name, idle in text.REFUSED.items()}
        bodies[f"{name}Request"] = _generation(fields | others, model, context)
    conversation = bodies["TokenizeRequest"]["properties"]
    conversation["prompt"] = described({"type": ["string", "null"]}, TEXT_MEANINGS["prompt"])
    return bodies


def shared_field(name: str, context: ServerContext) -> Schema:
    """The schema of a field of chat requests, as other bodies take it."""
    return _field(name, _typed_fields(ChatBody)[name], (MEANINGS | CHAT_MEANINGS)[name], context)


def request_body(schema: Schema, context: ServerContext) -> Schema:
    """The schema of a body whose unknown fields a lenient server passes over."""
    return schema | ({"additionalProperties": True} if context.config.lenient else {})


def inert() -> Schema:
    """The schema of a field that is accepted and has no effect."""
    return {"description": _INERT}


def refused(neutral: tuple[object, ...]) -> Schema:
    """The schema of a field that is refused unless it asks for nothing."""
    return {"description": _REFUSED, "enum": [None, *neutral]}


def _fields(model: type[BaseModel], meanings: Mapping[str, str], context: ServerContext) -> dict[str, Schema]:
    typed = _typed_fields(model)
    required = _required(model)
    fields = {name: _field(name, typed[name], meanings[name], context) for name in model.model_fields}
    return {name: schema if name in required else nullable(schema) for name, schema in fields.items()}


@functools.cache
def _typed_fields(model: type[BaseModel]) -> dict[str, Any]:
    properties: dict[str, Any] = model.model_json_schema()["properties"]
    return properties


def _field(name: str, typed: Mapping[str, Any], meaning: str, context: ServerContext) -> Schema:
    """The schema of a field, but for null."""
    schema = _OWN.get(name) or _typed(typed)
    if name in DECODING_FIELDS or name in ("guided_json", "guided_regex", "guided_choice", "guided_grammar"):
        schema = flat_field(name, context.catalogue)
    schema = {**schema, **_bounds(name, schema, context)}
    if typed.get("default") not in (None, {}, []):
        schema["default"] = typed["default"]
    return described(schema, meaning)


def _bounds(name: str, schema: Schema, context: ServerContext) -> Schema:
    """What only this server knows."""
    match name:
        case "model":
            return {"enum": list(context.model.names)}
        case "n":
            return {"maximum": context.config.max_n}
        case "logprobs" | "top_logprobs" | "processed_logprobs" | "prompt_logprobs" if "maximum" in schema:
            return {"maximum": min(schema["maximum"], context.config.max_logprobs)}
        case "suffix" if context.model.infill is None:
            return {"maxLength": 0}
        case "dimensions":
            return {"maximum": context.client.info.hidden_size}
        case "stop_token_ids" | "tokens":
            return {"items": {**schema["items"], "maximum": context.client.info.vocab_size - 1}}
        case _:
            return {}


def _typed(typed: Mapping[str, Any]) -> Schema:
    """A schema as pydantic writes it, without titles and null."""
    schema = {key: value for key, value in typed.items() if key not in ("title", "default")}
    options = [option for option in schema.pop("anyOf", ()) if option != {"type": "null"}]
    assert len(options) < 2 and "$ref" not in schema, "fields of several shapes are written by hand"
    return schema | (options[0] if options else {})


def _prompt(context: ServerContext) -> Schema:
    token_ids = _token_ids(context)
    return {"anyOf": [STRING, array(STRING, minItems=1), token_ids, array(token_ids, minItems=1)]}


def _input(context: ServerContext) -> Schema:
    text, token_ids = {**STRING, "minLength": 1}, _token_ids(context)
    several = {"minItems": 1, "maxItems": MAX_INPUTS}
    return {"anyOf": [text, array(text, **several), token_ids, array(token_ids, **several)]}


def _score_texts(context: ServerContext) -> dict[str, Schema]:
    """The fields of texts of a request for scores."""
    text, token_ids = {**STRING, "minLength": 1}, _token_ids(context)
    several = {"minItems": 1, "maxItems": MAX_SCORES}
    texts: list[Schema] = [text, array(text, **several), token_ids, array(token_ids, **several)]
    contexts: list[Schema] = [STRING, array(STRING, **several), *texts[2:]]
    labels = {"minItems": 2, "maxItems": MAX_SCORES}
    return {
        "input": {"anyOf": texts},
        "context": {"anyOf": [*contexts, {"type": "null"}]},
        "labels": {"anyOf": [array(text, **labels), array(token_ids, **labels), {"type": "null"}]},
    }


def _token_ids(context: ServerContext) -> Schema:
    return array({**COUNT, "maximum": context.client.info.vocab_size - 1}, minItems=1)


def _others(neutral: Mapping[str, tuple[object, ...]]) -> dict[str, Schema]:
    told = {name: inert() for name in sorted(unsupported.INERT)}
    return told | {name: refused(values) for name, values in neutral.items()}


def _generation(fields: Mapping[str, Schema], model: type[BaseModel], context: ServerContext) -> Schema:
    return request_body(closed(fields, _required(model), _told(model)), context)


def _required(model: type[BaseModel]) -> list[str]:
    return [name for name, field in model.model_fields.items() if field.is_required()]


def _told(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").partition("\n\n")[0].split())
