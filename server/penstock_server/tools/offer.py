"""`ToolOffer`: the tools of a request and how they are to be used, in OpenAI's shapes."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from penstock_server.errors import BadRequest

MAX_TOOLS = 128
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

Use = Literal["auto", "none", "required"]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function. `schema`: of its arguments, an object. `given`: as the request had it, for the chat template."""

    name: str
    schema: dict[str, Any]
    given: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolOffer:
    """The tools, and whether they may (`auto`), must (`required`) or must not (`none`) be called.

    `named`: the one that must be called. `is_parallel`: whether an answer may have several calls.
    """

    tools: tuple[Tool, ...]
    use: Use = "auto"
    named: str | None = None
    is_parallel: bool = True

    @property
    def callable_tools(self) -> tuple[Tool, ...]:
        """Those that an answer may call."""
        return tuple(tool for tool in self.tools if self.named in (None, tool.name))


def read_offer(tools: object, choice: object, parallel: object) -> ToolOffer | None:
    """The offer of a body's `tools`, `tool_choice` and `parallel_tool_calls`; None if there are no tools.

    Raises:
        BadRequest: names the field.
    """
    if tools is None or tools == []:
        if choice not in (None, "none", "auto"):
            raise BadRequest("needs tools", "tool_choice", "invalid_value")
        return None
    if not isinstance(tools, list):
        raise BadRequest("must be a list of tools", "tools", "invalid_type")
    if len(tools) > MAX_TOOLS:
        raise BadRequest(f"at most {MAX_TOOLS} tools are allowed", "tools", "invalid_value")
    read = tuple(_read_tool(tool, f"tools.{i}") for i, tool in enumerate(tools))
    names = [tool.name for tool in read]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise BadRequest(f"{name!r} is there already", f"tools.{i}.function.name", "invalid_value")
    if not isinstance(parallel, bool):
        raise BadRequest("must be true or false", "parallel_tool_calls", "invalid_type")
    if choice in (None, "auto"):
        return ToolOffer(read, "auto", None, parallel)
    if choice in ("none", "required"):
        return ToolOffer(read, choice, None, parallel)
    return ToolOffer(read, "required", _read_named(choice, names), parallel)


def _read_tool(value: object, param: str) -> Tool:
    tool = _object(value, param, ("type", "function"))
    if tool.get("type") != "function":
        raise BadRequest("must be function", f"{param}.type", "invalid_value")
    function = _object(tool.get("function"), f"{param}.function", ("name", "description", "parameters", "strict"))
    name = function.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        told = "must be 1 to 64 letters, digits, underscores, hyphens or dots"
        raise BadRequest(told, f"{param}.function.name", "invalid_value")
    if not isinstance(function.get("description", ""), str):
        raise BadRequest("must be a string", f"{param}.function.description", "invalid_type")
    if not isinstance(function.get("strict", False), bool):
        raise BadRequest("must be true or false", f"{param}.function.strict", "invalid_type")
    schema = function.get("parameters", {"type": "object", "properties": {}})
    if not isinstance(schema, dict):
        raise BadRequest("must be a JSON schema", f"{param}.function.parameters", "invalid_type")
    if schema.get("type", "object") != "object":
        raise BadRequest("arguments are an object", f"{param}.function.parameters.type", "invalid_value")
    return Tool(name, {"type": "object", **schema}, {"type": "function", "function": function})


def _read_named(choice: object, names: Sequence[str]) -> str:
    if isinstance(choice, str):
        told = "must be auto, none, required, or name a function"
        raise BadRequest(told, "tool_choice", "invalid_value")
    given = _object(choice, "tool_choice", ("type", "function"))
    if given.get("type") != "function":
        raise BadRequest("must be function", "tool_choice.type", "invalid_value")
    name = _object(given.get("function"), "tool_choice.function", ("name",)).get("name")
    if name not in names:
        told = f"{name!r} is none of the tools"
        raise BadRequest(told, "tool_choice.function.name", "invalid_value")
    return str(name)


def read_calls(value: object, param: str) -> list[dict[str, Any]]:
    """The calls of a message, their arguments as the object that a chat template wants.

    Raises:
        BadRequest: names the field.
    """
    if not isinstance(value, list):
        raise BadRequest("must be a list of calls", param, "invalid_type")
    return [_read_call(call, f"{param}.{i}") for i, call in enumerate(value)]


def _read_call(value: object, param: str) -> dict[str, Any]:
    call = _object(value, param, ("id", "type", "function", "index"))
    if call.get("type", "function") != "function":
        raise BadRequest("must be function", f"{param}.type", "invalid_value")
    if not isinstance(call.get("id"), str):
        raise BadRequest("must be a string", f"{param}.id", "invalid_type")
    function = _object(call.get("function"), f"{param}.function", ("name", "arguments"))
    if not isinstance(function.get("name"), str):
        raise BadRequest("must be a string", f"{param}.function.name", "invalid_type")
    arguments = function.get("arguments", "{}")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            arguments = None
    if not isinstance(arguments, dict):
        raise BadRequest("must be the text of a JSON object", f"{param}.function.arguments", "invalid_value")
    return {
        "id": call["id"],
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }


def _object(value: object, param: str, known: tuple[str, ...]) -> dict[str, Any]:
    if value is None:
        raise BadRequest("is required", param, "missing_required_parameter")
    if not isinstance(value, dict):
        raise BadRequest("must be an object", param, "invalid_type")
    for name in value:
        if name not in known:
            raise BadRequest("unknown field", f"{param}.{name}", "unknown_parameter")
    return {name: item for name, item in value.items() if item is not None}
