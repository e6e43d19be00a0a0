"""The schemas of OpenAI's responses: bodies, replies and what is stored of them, by name among the components."""

from penstock_server.context import ServerContext
from penstock_server.openapi.bodies import JSON_SCHEMA, inert, refused, request_body, shared_field
from penstock_server.openapi.conversation import PARAMETERS, TOOL_NAME
from penstock_server.openapi.events import LOGPROBS as TOKEN_LOGPROBS
from penstock_server.openapi.events import response_event
from penstock_server.openapi.replies import WARNINGS
from penstock_server.openapi.shapes import (
    ANY_OBJECT,
    BOOLEAN,
    COUNT,
    INTEGER,
    NUMBER,
    STRING,
    Schema,
    array,
    closed,
    described,
    nullable,
    ref,
)
from penstock_server.schemas import unsupported
from penstock_server.schemas.fields import MAX_TOP_LOGPROBS
from penstock_server.schemas.responses import ENCRYPTED, KNOWN, LOGPROBS, REFUSED

_TOOL = closed(
    {
        "type": {"const": "function"},
        "name": TOOL_NAME,
        "description": nullable(STRING),
        "parameters": nullable(PARAMETERS),
        "strict": nullable(BOOLEAN),
        "async": refused((False,)),
        "defer_loading": refused((False,)),
        "allowed_callers": refused((["direct"],)),
    },
    ["type", "name"],
)
_FORMAT: Schema = {
    "oneOf": [
        closed({"type": {"const": "text"}}),
        closed({"type": {"const": "json_object"}}),
        closed(
            {"type": {"const": "json_schema"}, "name": {}, "description": {}, "strict": {}, "schema": JSON_SCHEMA},
            ["type", "schema"],
        ),
    ]
}
_ITEM: Schema = {
    "description": "a message, a thought, a call of a function, or what one gave",
    "type": "object",
    "properties": {"type": {"enum": ["message", "reasoning", "function_call", "function_call_output"]}},
}
# Schema and meaning of the fields that chat does not have.
_OWN: dict[str, tuple[Schema, str]] = {
    "input": ({"anyOf": [STRING, array(_ITEM, minItems=1)]}, "a text, or the items of a conversation"),
    "instructions": (STRING, "what the system says before the conversation"),
    "previous_response_id": (STRING, "goes on with the conversation of a response that was stored"),
    "include": (array({"enum": [LOGPROBS, ENCRYPTED]}), f"`{LOGPROBS}` for the log-probability of each token"),
    "top_logprobs": (
        {"type": "integer", "minimum": 0, "maximum": MAX_TOP_LOGPROBS},
        "so many likeliest ones beside it, 0 to 20",
    ),
    "text": (
        closed({"format": nullable(_FORMAT), "verbosity": {"enum": ["medium", None]}}, []),
        "what the answer looks like",
    ),
    "tools": (array(_TOOL), "functions that the model may call"),
    "tool_choice": (
        {
            "anyOf": [
                {"enum": ["auto", "none", "required"]},
                closed({"type": {"const": "function"}, "name": STRING}),
            ]
        },
        "whether they may, must, or must not be called, or which one",
    ),
    "reasoning": (
        closed(
            {
                "effort": nullable({"type": "string", "maxLength": 32}),
                "summary": {"enum": ["auto", None]},
                "generate_summary": {"enum": ["auto", None]},
                "context": {"enum": ["auto", None]},
                "mode": {"enum": ["standard", None]},
            },
            [],
        ),
        "how hard to think, for models whose template takes it",
    ),
    "truncation": (
        {"enum": ["auto", "disabled"], "default": "disabled"},
        "`auto`: a conversation that is too long loses its beginning",
    ),
    "store": ({**BOOLEAN, "default": False}, "keep the response for a time"),
    "stream_options": (closed({"include_obfuscation": {"const": False}}, []), "nothing can be asked for here"),
}
_CHAT_NAMES = {"max_output_tokens": "max_completion_tokens"}


def responses_schemas(context: ServerContext) -> dict[str, Schema]:
    """`ResponsesRequest`, `ResponseObject`, and what the routes of stored responses reply."""
    required = ("model", "input")
    properties: dict[str, Schema] = {}
    for name in sorted(KNOWN, key=lambda name: name not in required):
        schema = described(*_OWN[name]) if name in _OWN else shared_field(_CHAT_NAMES.get(name, name), context)
        if name in _CHAT_NAMES:
            schema = described(schema, "most tokens of the answer")
        properties[name] = schema if name in required else nullable(schema)
    properties |= {name: inert() for name in sorted(unsupported.INERT)} | _SAID_BACK
    properties |= {name: refused(neutral) for name, neutral in REFUSED.items()}
    return {
        "ResponsesRequest": request_body(
            closed(properties, required, "A conversation to answer, as OpenAI's newer API has it."), context
        ),
        "ResponseObject": _RESPONSE,
        "ResponseEvent": response_event(closed(_MESSAGE), closed(_REASONING), closed(_CALL)),
        "DeletedResponse": closed({"id": STRING, "object": {"const": "response"}, "deleted": {"const": True}}),
        "ResponseInputTokens": closed(
            {"object": {"const": "response.input_tokens"}, "input_tokens": COUNT, "warnings": WARNINGS},
            ["object", "input_tokens"],
        ),
        "InputItems": closed(
            {
                "object": {"const": "list"},
                "data": array(ANY_OBJECT),
                "first_id": nullable(STRING),
                "last_id": nullable(STRING),
                "has_more": BOOLEAN,
            }
        ),
    }


_SAID_BACK: dict[str, Schema] = {
    **{
        name: {"type": ["string", "null"], "description": "said back in the response"}
        for name in ("user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention")
    },
    "metadata": {
        "type": ["object", "null"],
        "description": "said back in the response",
        "additionalProperties": {"type": "string", "maxLength": 512},
        "propertyNames": {"maxLength": 64},
        "maxProperties": 16,
    },
}
_PART = closed({"type": {"const": "output_text"}, "annotations": array({}), "logprobs": TOKEN_LOGPROBS, "text": STRING})
_STATUS: Schema = {"enum": ["completed", "incomplete", "in_progress"]}
_MESSAGE: dict[str, Schema] = {
    "type": {"const": "message"},
    "id": STRING,
    "status": _STATUS,
    "role": {"const": "assistant"},
    "content": array(_PART),
}
_REASONING: dict[str, Schema] = {
    "type": {"const": "reasoning"},
    "id": STRING,
    "status": _STATUS,
    "summary": array({}, maxItems=0),
    "content": array(closed({"type": {"const": "reasoning_text"}, "text": STRING})),
    "encrypted_content": {"type": "null"},
}
_CALL: dict[str, Schema] = {
    "type": {"const": "function_call"},
    "id": STRING,
    "status": _STATUS,
    "call_id": STRING,
    "name": STRING,
    "arguments": STRING,
}
_OF_THE_ANSWER: dict[str, Schema] = {
    "id": {"type": "string", "pattern": "^resp_"},
    "object": {"const": "response"},
    "created_at": COUNT,
    "completed_at": nullable(COUNT),
    "status": {"enum": ["completed", "incomplete", "failed", "in_progress"]},
    "error": nullable(closed({"code": STRING, "message": STRING})),
    "incomplete_details": nullable(closed({"reason": STRING})),
    "model": STRING,
    "output": array({"oneOf": [closed(_MESSAGE), closed(_REASONING), closed(_CALL)]}),
    "usage": nullable(
        closed(
            {
                "input_tokens": COUNT,
                "input_tokens_details": closed({"cached_tokens": COUNT, "cache_write_tokens": COUNT}),
                "output_tokens": COUNT,
                "output_tokens_details": closed({"reasoning_tokens": COUNT}),
                "total_tokens": COUNT,
            }
        )
    ),
    "seed": {**INTEGER, "description": "sent again, it gives the same answer"},
}
_SAID_OF_THE_REQUEST: dict[str, Schema] = {
    "instructions": nullable(STRING),
    "previous_response_id": nullable(STRING),
    "max_output_tokens": nullable(COUNT),
    "temperature": nullable(NUMBER),
    "top_p": nullable(NUMBER),
    "top_logprobs": COUNT,
    "tools": array(ANY_OBJECT),
    "tool_choice": {"type": ["string", "object"]},
    "parallel_tool_calls": BOOLEAN,
    "text": ANY_OBJECT,
    "reasoning": ANY_OBJECT,
    "truncation": STRING,
    "store": BOOLEAN,
    "metadata": ANY_OBJECT,
    "background": {"const": False},
    "max_tool_calls": {"type": "null"},
    "service_tier": STRING,
    **{name: nullable(STRING) for name in ("user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention")},
}
_SEARCHED: dict[str, Schema] = {
    "stop_reason": {"type": ["string", "integer"]},
    "score": NUMBER,
    "inclusion_probability": NUMBER,
    "chain_trace": ref("ChainTrace"),
}
_RESPONSE = closed(
    {**_OF_THE_ANSWER, **_SAID_OF_THE_REQUEST, **_SEARCHED, "warnings": WARNINGS},
    [*_OF_THE_ANSWER, *_SAID_OF_THE_REQUEST],
)
