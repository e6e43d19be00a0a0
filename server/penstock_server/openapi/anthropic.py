"""The schemas of Anthropic's messages: bodies and replies, by name among the components."""

from penstock_server.context import ServerContext
from penstock_server.openapi.bodies import JSON_SCHEMA, inert, refused, request_body, shared_field
from penstock_server.openapi.conversation import PARAMETERS, TOOL_NAME
from penstock_server.openapi.events import anthropic_event
from penstock_server.openapi.replies import WARNINGS
from penstock_server.openapi.shapes import (
    ANY_OBJECT,
    BOOLEAN,
    COUNT,
    INTEGER,
    STRING,
    Schema,
    array,
    closed,
    described,
    nullable,
    ref,
)
from penstock_server.schemas.anthropic import INERT, NAMES, REFUSED, SAME

_CACHE = {"cache_control": inert()}
_TEXT = closed({"type": {"const": "text"}, "text": STRING, "citations": inert(), **_CACHE}, ["type", "text"])
_TEXTS: Schema = {"anyOf": [STRING, array(_TEXT)]}
_TOOL_RESULT = closed(
    {
        "type": {"const": "tool_result"},
        "tool_use_id": STRING,
        "content": _TEXTS,
        "is_error": nullable(BOOLEAN),
        **_CACHE,
    },
    ["type", "tool_use_id"],
)
_TOOL_USE = closed(
    {"type": {"const": "tool_use"}, "id": STRING, "name": STRING, "input": ANY_OBJECT, "caller": inert(), **_CACHE},
    ["type", "id", "name", "input"],
)
_THINKING = closed(
    {"type": {"const": "thinking"}, "thinking": STRING, "signature": inert(), **_CACHE}, ["type", "thinking"]
)


def _turn(role: str, blocks: list[Schema]) -> Schema:
    content = {"anyOf": [STRING, array({"oneOf": blocks}, minItems=1)]}
    return closed({"role": {"const": role}, "content": content})


_MESSAGES = array(
    {"oneOf": [_turn("user", [_TEXT, _TOOL_RESULT]), _turn("assistant", [_TEXT, _TOOL_USE, _THINKING])]}, minItems=1
)
_TOOL = closed(
    {
        "type": {"const": "custom"},
        "name": TOOL_NAME,
        "description": nullable(STRING),
        "input_schema": nullable(PARAMETERS),
        "strict": nullable(BOOLEAN),
        **_CACHE,
    },
    ["name", "input_schema"],
)
_ALONE = {"disable_parallel_tool_use": BOOLEAN}
_FORMAT = closed({"type": {"const": "json_schema"}, "schema": JSON_SCHEMA})

_OWN: dict[str, tuple[Schema, str]] = {
    "system": (_TEXTS, "what the system says before the conversation"),
    "messages": (_MESSAGES, "the conversation; a last message of the assistant is continued"),
    "tools": (array(_TOOL), "functions that the model may call"),
    "tool_choice": (
        {
            "oneOf": [
                closed({"type": {"enum": ["auto", "any", "none"]}, "name": inert(), **_ALONE}, ["type"]),
                closed({"type": {"const": "tool"}, "name": STRING, **_ALONE}, ["type", "name"]),
            ]
        },
        "whether tools may, must, or must not be called, or which one",
    ),
    "thinking": (
        closed({"type": {"enum": ["adaptive", "disabled"]}, "display": inert()}, ["type"]),
        "whether to think before the answer, for models whose template takes it",
    ),
    "output_config": (
        closed({"format": nullable(_FORMAT), "effort": nullable({"type": "string", "maxLength": 32})}, []),
        "what the answer looks like: JSON that follows a schema; and how hard to think",
    ),
    "output_format": (_FORMAT, "the older place of `output_config.format`"),
}


def messages_schemas(context: ServerContext) -> dict[str, Schema]:
    """`MessagesRequest`, `CountTokensRequest`, `AnthropicMessage` and what it is made of."""
    fields = {name: described(schema, meaning) for name, (schema, meaning) in _OWN.items()}
    shared = {name: shared_field(chat_name, context) for name, chat_name in NAMES.items()}
    shared |= {name: shared_field(name, context) for name in SAME}
    required = ("model", "max_tokens", "messages")
    properties = {"model": shared["model"], "messages": fields["messages"]}
    properties |= {name: schema if name in required else nullable(schema) for name, schema in (fields | shared).items()}
    properties |= {name: inert() for name in INERT} | {name: refused(neutral) for name, neutral in REFUSED.items()}
    counted = {**properties, "max_tokens": nullable(shared["max_tokens"])}
    return {
        "MessagesRequest": request_body(
            closed(properties, required, "A conversation to answer, as Anthropic's API has it."), context
        ),
        "CountTokensRequest": request_body(
            closed(counted, ["model", "messages"], "A conversation whose tokens are to be counted."), context
        ),
        "AnthropicUsage": _USAGE,
        "AnthropicMessage": _REPLY,
        "AnthropicEvent": anthropic_event(_REPLY),
        "InputTokens": closed({"input_tokens": COUNT, "warnings": WARNINGS}, ["input_tokens"]),
    }


_USAGE = closed(
    {
        "input_tokens": COUNT,
        "cache_creation_input_tokens": COUNT,
        "cache_read_input_tokens": COUNT,
        "output_tokens": COUNT,
    }
)
_REPLY = closed(
    {
        "id": {"type": "string", "pattern": "^msg_"},
        "type": {"const": "message"},
        "role": {"const": "assistant"},
        "model": STRING,
        "content": array(
            {
                "oneOf": [
                    closed({"type": {"const": "text"}, "text": STRING}),
                    closed({"type": {"const": "thinking"}, "thinking": STRING, "signature": STRING}),
                    closed({"type": {"const": "tool_use"}, "id": STRING, "name": STRING, "input": ANY_OBJECT}),
                ]
            }
        ),
        "stop_reason": {"enum": ["end_turn", "max_tokens", "stop_sequence", "tool_use"]},
        "stop_sequence": nullable(STRING),
        "usage": ref("AnthropicUsage"),
        "seed": {**INTEGER, "description": "sent again, it gives the same answer"},
        "warnings": WARNINGS,
    },
    ["id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage", "seed"],
)
