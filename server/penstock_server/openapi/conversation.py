"""The schemas of a conversation in chat's shapes: messages, tools, and what is said of them."""

from penstock_server.openapi.shapes import ANY_OBJECT, BOOLEAN, STRING, Schema, array, closed, nullable
from penstock_server.schemas.chat import MESSAGE_TYPES

_TEXT_PART = closed({"type": {"const": "text"}, "text": STRING, "prompt_cache_breakpoint": {}}, ["type", "text"])
_CONTENT: Schema = {"anyOf": [STRING, array(_TEXT_PART)]}
_CALL = closed(
    {
        "id": STRING,
        "type": {"enum": ["function", None]},
        "index": {},
        "function": closed(
            {"name": STRING, "arguments": {"type": ["string", "object", "null"]}},
            ["name"],
        ),
    },
    ["id", "function"],
)
_SAYS_NOTHING: Schema = {"description": "accepted if it says nothing", "enum": [None, [], ""]}
_EITHER = {
    "type": {"description": "accepted; it says nothing", "enum": [None, *MESSAGE_TYPES]},
    "name": nullable(STRING),
    "tool_call_id": nullable(STRING),
    "reasoning_content": nullable(STRING),
    "reasoning": {**nullable(STRING), "description": "another name of `reasoning_content`"},
    **{name: _SAYS_NOTHING for name in ("annotations", "audio", "function_call", "refusal")},
}
_MESSAGE: Schema = {
    "oneOf": [
        closed(
            {
                "role": {"enum": ["system", "developer", "user", "tool"]},
                "content": _CONTENT,
                "tool_calls": {"enum": [None, []]},
                **_EITHER,
            },
            ["role", "content"],
        ),
        closed(
            {
                "role": {"const": "assistant"},
                "content": nullable(_CONTENT),
                "tool_calls": nullable(array(_CALL)),
                **_EITHER,
            },
            ["role"],
        ),
    ]
}
MESSAGES: Schema = array(_MESSAGE, minItems=1)

TOOL_NAME: Schema = {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"}
PARAMETERS: Schema = {
    **ANY_OBJECT,
    "description": "a JSON schema of an object",
    "properties": {"type": {"const": "object"}},
}
TOOL: Schema = closed(
    {
        "type": {"const": "function"},
        "function": closed(
            {
                "name": TOOL_NAME,
                "description": nullable(STRING),
                "parameters": nullable(PARAMETERS),
                "strict": nullable(BOOLEAN),
            },
            ["name"],
        ),
    }
)
TOOL_CHOICE: Schema = {
    "anyOf": [
        {"enum": ["auto", "none", "required"]},
        closed({"type": {"const": "function"}, "function": closed({"name": STRING})}),
    ]
}
