"""The body of Anthropic's `POST /v1/messages`, translated into that of a chat request.

A thin translation: everything is checked where chat requests are, and what that finds wrong is told in the names that
this body has for it. Beside Anthropic's fields it takes those that shape the decoding here (`seed`, `decoding`, ...).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from penstock_server.errors import BadRequest
from penstock_server.schemas import unsupported
from penstock_server.schemas.chat import ChatBody
from penstock_server.schemas.fields import DECODING_FIELDS
from penstock_server.schemas.read import chat_of, known_fields, read_object
from penstock_server.schemas.template_variables import is_given, with_variables

# Anthropic's name of a field -> the chat request's.
NAMES = {"stop_sequences": "stop", "max_tokens": "max_tokens", "stream": "stream", "model": "model"}
SAME = (
    "temperature",
    "top_p",
    "top_k",
    *(name for name in DECODING_FIELDS if name not in ("n", "chain_trace")),
    "chat_template_kwargs",
    "priority",
    "cache_salt",
)
# Cannot change an answer here.
INERT = (
    "metadata",
    "service_tier",
    "inference_geo",
    "cache_control",
    "diagnostics",
    "user_profile_id",
    "workspace_id",
)
# Each with the values that ask for nothing. Most are of Anthropic's beta API; the others are vLLM's.
REFUSED: dict[str, tuple[object, ...]] = unsupported.VLLM | {
    "billing_policy": (),
    "compaction": (),
    "container": (),
    "context_management": (),
    "fallback_credit_token": (),
    "fallbacks": ([],),
    "mcp_servers": ([],),
    "speed": ("standard",),
    "thread": (),
}
OWN = ("system", "messages", "tools", "tool_choice", "thinking", "output_config", "output_format")


@dataclass(frozen=True, slots=True)
class MessagesBody:
    """A conversation to answer. `renamed` turns a path into the chat request into one into this body."""

    chat: ChatBody
    renamed: Callable[[str], str]


def read_messages(raw: bytes, *, lenient: bool = False) -> MessagesBody:
    """`lenient`: unknown fields are passed over, and named in the chat's warnings.

    Raises:
        BadRequest: names the field.
    """
    return _translated(read_object(raw), needs_limit=True, lenient=lenient)


def read_count_tokens(raw: bytes, *, lenient: bool = False) -> MessagesBody:
    """As `read_messages`; of a request that is only to be counted, which has no limit.

    Raises:
        BadRequest: names the field.
    """
    return _translated(read_object(raw), needs_limit=False, lenient=lenient)


def _translated(given: Mapping[str, Any], *, needs_limit: bool, lenient: bool) -> MessagesBody:
    asked = {name: value for name, value in given.items() if value is not None}
    supported = unsupported.refuse(asked, REFUSED, INERT)
    fields, warnings = known_fields(supported, (*NAMES, *SAME, *OWN), (*INERT, *REFUSED), lenient=lenient)
    if needs_limit and "max_tokens" not in fields:
        raise BadRequest("is required", "max_tokens", "missing_required_parameter")
    chat: dict[str, Any] = {NAMES.get(name, name): fields[name] for name in fields if name not in OWN}
    places = _Places()
    chat["messages"] = _messages(fields, places)
    chat |= _tools(fields) | _output(fields, places)
    chat = with_variables(chat, _thinking(fields), "thinking")
    if chat["messages"] and chat["messages"][-1].get("role") == "assistant":
        chat["continue_final_message"] = True

    def renamed(param: str) -> str:
        return param if is_given(param, fields.get("chat_template_kwargs")) else places.renamed(param)

    try:
        return MessagesBody(chat_of(chat).warned(warnings), renamed)
    except BadRequest as error:
        raise renamed_error(error, renamed) from None


def renamed_error(error: BadRequest, renamed: Callable[[str], str]) -> BadRequest:
    """The error of a chat request, as one of this body."""
    if error.param is None:
        return error
    return BadRequest(error.message.removeprefix(f"{error.param}: "), renamed(error.param), error.code)


class _Places:
    """Where in this body each message of the chat request stands."""

    def __init__(self) -> None:
        self._messages: list[str] = []
        self.format = "output_config.format"

    def add(self, place: str) -> None:
        self._messages.append(place)

    def renamed(self, param: str) -> str:
        name, _, rest = param.partition(".")
        if name == "messages" and rest:
            index, _, inner = rest.partition(".")
            place = self._messages[int(index)] if index.isdecimal() and int(index) < len(self._messages) else name
            return f"{place}.{inner}" if inner and place != "system" else place
        if name == "tools" and rest:
            return param.replace(".function.parameters", ".input_schema").replace(".function", "")
        if name == "response_format":
            return self.format
        if name == "reasoning_effort":
            return "output_config.effort"
        if name == "chat_template_kwargs":
            return "thinking.type"
        return {
            "stop": "stop_sequences",
            "parallel_tool_calls": "tool_choice",
            "continue_final_message": "messages",
        }.get(name, name) + (f".{rest}" if rest else "")


def _messages(fields: Mapping[str, Any], places: _Places) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if "system" in fields:
        messages.append({"role": "system", "content": _text(fields["system"], "system")})
        places.add("system")
    given = fields.get("messages")
    if not isinstance(given, list) or not given:
        raise BadRequest("must be a list of messages, not empty", "messages", "invalid_type")
    for i, message in enumerate(given):
        path = f"messages.{i}"
        if not isinstance(message, dict):
            raise BadRequest("must be an object", path, "invalid_type")
        _check_keys(message, path, ("role", "content"))
        made = _turn(message, path)
        messages += made
        for _ in made:
            places.add(path)
    return messages


def _turn(message: Mapping[str, Any], path: str) -> list[dict[str, Any]]:
    role, content = message.get("role"), message.get("content")
    if role not in ("user", "assistant"):
        raise BadRequest("must be user or assistant", f"{path}.role", "invalid_value")
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    if not isinstance(content, list) or not content:
        raise BadRequest("must be a string or a list of blocks, not empty", f"{path}.content", "invalid_type")
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for i, block in enumerate(content):
        at = f"{path}.content.{i}"
        if not isinstance(block, dict):
            raise BadRequest("must be an object", at, "invalid_type")
        match role, block.get("type"):
            case _, "text":
                texts.append(_block_text(block, at))
            case "assistant", "tool_use":
                calls.append(_call(block, at))
            case "assistant", "thinking":
                _check_keys(block, at, ("type", "thinking", "signature", "cache_control"))
                thoughts.append(_string(block.get("thinking"), f"{at}.thinking"))
            case "user", "tool_result":
                results.append(_result(block, at))
            case _:
                told = f"{block.get('type')!r} is not supported in a message of the {role}"
                raise BadRequest(told, f"{at}.type", "unsupported_parameter")
    said = "\n".join(texts)
    if role == "user":
        return [*results, {"role": "user", "content": said}] if texts or not results else results
    turn: dict[str, Any] = {"role": "assistant", "content": said or None}
    if thoughts:
        turn["reasoning_content"] = "\n".join(thoughts)
    if calls:
        turn["tool_calls"] = calls
    return [turn]


def _call(block: Mapping[str, Any], at: str) -> dict[str, Any]:
    _check_keys(block, at, ("type", "id", "name", "input", "cache_control", "caller"))
    if not isinstance(block.get("input"), dict):
        raise BadRequest("must be an object", f"{at}.input", "invalid_type")
    function = {"name": _string(block.get("name"), f"{at}.name"), "arguments": json.dumps(block["input"])}
    return {"id": _string(block.get("id"), f"{at}.id"), "type": "function", "function": function}


def _result(block: Mapping[str, Any], at: str) -> dict[str, Any]:
    _check_keys(block, at, ("type", "tool_use_id", "content", "is_error", "cache_control"))
    text = _text(block.get("content", ""), f"{at}.content")
    if block.get("is_error"):
        text = f"Error: {text}"
    return {"role": "tool", "tool_call_id": _string(block.get("tool_use_id"), f"{at}.tool_use_id"), "content": text}


def _text(value: object, path: str) -> str:
    """A string, or blocks of text."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise BadRequest("must be a string or a list of text blocks", path, "invalid_type")
    texts = []
    for i, block in enumerate(value):
        at = f"{path}.{i}"
        if not isinstance(block, dict) or block.get("type") != "text":
            raise BadRequest("only text blocks are supported", f"{at}.type", "unsupported_parameter")
        texts.append(_block_text(block, at))
    return "\n".join(texts)


def _block_text(block: Mapping[str, Any], at: str) -> str:
    _check_keys(block, at, ("type", "text", "cache_control", "citations"))
    return _string(block.get("text"), f"{at}.text")


def _tools(fields: Mapping[str, Any]) -> dict[str, Any]:
    chat: dict[str, Any] = {}
    if "tools" in fields:
        if not isinstance(fields["tools"], list):
            raise BadRequest("must be a list of tools", "tools", "invalid_type")
        chat["tools"] = [_tool(tool, f"tools.{i}") for i, tool in enumerate(fields["tools"])]
    if "tool_choice" in fields:
        choice = fields["tool_choice"]
        if not isinstance(choice, dict):
            raise BadRequest("must be an object", "tool_choice", "invalid_type")
        _check_keys(choice, "tool_choice", ("type", "name", "disable_parallel_tool_use"))
        match choice.get("type"):
            case "auto" | "none":
                chat["tool_choice"] = choice["type"]
            case "any":
                chat["tool_choice"] = "required"
            case "tool":
                name = _string(choice.get("name"), "tool_choice.name")
                chat["tool_choice"] = {"type": "function", "function": {"name": name}}
            case _:
                raise BadRequest("must be auto, any, tool or none", "tool_choice.type", "invalid_value")
        alone = choice.get("disable_parallel_tool_use", False)
        if not isinstance(alone, bool):
            raise BadRequest("must be true or false", "tool_choice.disable_parallel_tool_use", "invalid_type")
        chat["parallel_tool_calls"] = not alone
    return chat


def _tool(tool: object, path: str) -> dict[str, Any]:
    if not isinstance(tool, dict):
        raise BadRequest("must be an object", path, "invalid_type")
    if tool.get("type", "custom") != "custom":
        raise BadRequest("only tools of your own are supported", f"{path}.type", "unsupported_parameter")
    _check_keys(tool, path, ("type", "name", "description", "input_schema", "cache_control", "strict"))
    if "input_schema" not in tool:
        raise BadRequest("is required", f"{path}.input_schema", "missing_required_parameter")
    function = {"name": tool.get("name"), "parameters": tool["input_schema"]}
    function |= {name: tool[name] for name in ("description", "strict") if tool.get(name) is not None}
    return {"type": "function", "function": function}


def _thinking(fields: Mapping[str, Any]) -> dict[str, Any]:
    thinking = fields.get("thinking")
    if thinking is None:
        return {}
    if not isinstance(thinking, dict):
        raise BadRequest("must be an object", "thinking", "invalid_type")
    match thinking.get("type"):
        case "adaptive" | "disabled" as kind:
            _check_keys(thinking, "thinking", ("type", "display"))
            return {"chat_template_kwargs": {"enable_thinking": kind == "adaptive"}}
        case "enabled":
            told = "a budget of thought is not supported; adaptive lets the model decide"
            raise BadRequest(told, "thinking.type", "unsupported_parameter")
        case _:
            raise BadRequest("must be adaptive or disabled", "thinking.type", "invalid_value")


def _output(fields: Mapping[str, Any], places: _Places) -> dict[str, Any]:
    wanted = fields.get("output_format")
    if wanted is not None:
        places.format = "output_format"
    if "output_config" in fields:
        config = fields["output_config"]
        if not isinstance(config, dict):
            raise BadRequest("must be an object", "output_config", "invalid_type")
        _check_keys(config, "output_config", ("format", "effort"))
        if config.get("format") is not None:
            if wanted is not None:
                told = "is the older place of output_config.format; give one"
                raise BadRequest(told, "output_format", "invalid_value")
            wanted = config["format"]
        effort = {} if config.get("effort") is None else {"reasoning_effort": config["effort"]}
    else:
        effort = {}
    if wanted is None:
        return effort
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        raise BadRequest("must be of the type json_schema", places.format, "invalid_value")
    _check_keys(wanted, places.format, ("type", "schema"))
    schema = {"name": "output", "schema": wanted.get("schema")}
    return effort | {"response_format": {"type": "json_schema", "json_schema": schema}}


def _check_keys(value: Mapping[str, Any], path: str, known: tuple[str, ...]) -> None:
    for name in value:
        if name not in known and value[name] is not None:
            raise BadRequest("unknown field", f"{path}.{name}", "unknown_parameter")


def _string(value: object, param: str) -> str:
    if not isinstance(value, str):
        raise BadRequest("must be a string", param, "invalid_type")
    return value
