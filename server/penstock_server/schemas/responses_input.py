"""The items of a conversation in `/v1/responses`, and the messages of a chat that they are.

The assistant's items that follow each other (a thought, what it says, calls) are one message there.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock_server.errors import BadRequest

# Where the conversation of an earlier response stands in the body.
EARLIER = "previous_response_id"

_ROLES = ("user", "assistant", "system", "developer")
_PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}
# `phase` labels messages for OpenAI's models alone; the log-probabilities of what was said say nothing new.
_MESSAGE_KEYS = ("type", "id", "status", "role", "content", "phase")
_PART_KEYS = ("type", "text", "annotations", "logprobs", "prompt_cache_breakpoint")
_CALL_KEYS = ("type", "id", "status", "call_id", "name", "arguments")
_RESULT_KEYS = ("type", "id", "status", "call_id", "output")
_REASONING_KEYS = ("type", "id", "status", "summary", "content")


@dataclass(slots=True)
class _Place:
    """Where in the body a message comes from; `calls`: where each of its calls does."""

    path: str
    calls: list[str] = field(default_factory=list)


class Conversation:
    """Messages, as items are added to it in order.

    Raises, from all that adds:
        BadRequest: names the item's field.
    """

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self._places: list[_Place] = []
        self._call_ids: set[str] = set()
        self._is_turn = False  # the last message is the assistant's and may still get more

    def add_message(self, role: str, text: str, path: str) -> None:
        self.messages.append({"role": role, "content": text})
        self._places.append(_Place(path))
        self._is_turn = False

    def add_items(self, items: Sequence[object], path: str, *, is_one_place: bool) -> None:
        """`is_one_place`: all of them stand at `path`; else item i stands at `path.i`."""
        for i, item in enumerate(items):
            at = path if is_one_place else f"{path}.{i}"
            if not isinstance(item, dict):
                raise BadRequest("must be an object", at, "invalid_type")
            self._add(item, at)

    def renamed(self, param: str) -> str | None:
        """A path `messages.i...` of the chat request as one of this body; None if it is no such path."""
        field_name, _, rest = param.partition(".")
        index, _, inner = rest.partition(".")
        if field_name != "messages" or not index.isdecimal() or int(index) >= len(self._places):
            return None
        place = self._places[int(index)]
        name, _, inner_rest = inner.partition(".")
        call, _, call_rest = inner_rest.partition(".")
        if name == "tool_calls" and call.isdecimal() and int(call) < len(place.calls):
            path, inner = place.calls[int(call)], call_rest.replace("function.", "").replace("id", "call_id")
        else:
            path = place.path
        return f"{path}.{inner}" if inner and path.startswith("input.") else path

    def _add(self, item: Mapping[str, Any], at: str) -> None:
        for name in ("id", "status", "phase"):
            if item.get(name) is not None:
                string(item[name], f"{at}.{name}")
        match _type(item):
            case "message":
                self._add_message(item, at)
            case "function_call":
                check_keys(item, at, _CALL_KEYS)
                self._call(item, at)
            case "function_call_output":
                check_keys(item, at, _RESULT_KEYS)
                call_id = string(item.get("call_id"), f"{at}.call_id")
                if call_id not in self._call_ids:
                    raise BadRequest("there is no such call before it", f"{at}.call_id", "invalid_value")
                content = _text(item.get("output"), f"{at}.output")
                self.add_message("tool", content, at)
                self.messages[-1]["tool_call_id"] = call_id
            case "reasoning":
                check_keys(item, at, _REASONING_KEYS)
                self._reasoning(item, at)
            case kind:
                raise BadRequest(f"{kind!r} is not supported", f"{at}.type", "unsupported_parameter")

    def _add_message(self, item: Mapping[str, Any], at: str) -> None:
        check_keys(item, at, _MESSAGE_KEYS)
        role = item.get("role")
        if role not in _ROLES:
            raise BadRequest("must be user, assistant, system or developer", f"{at}.role", "invalid_value")
        text = _text(item.get("content"), f"{at}.content")
        if role != "assistant":
            self.add_message(role, text, at)
            return
        turn = self._turn(at, without=("content", "tool_calls"))
        turn["content"] = text

    def _call(self, item: Mapping[str, Any], at: str) -> None:
        turn = self._turn(at)
        call_id = string(item.get("call_id"), f"{at}.call_id")
        self._call_ids.add(call_id)
        function = {"name": item.get("name"), "arguments": string(item.get("arguments"), f"{at}.arguments")}
        turn.setdefault("tool_calls", []).append({"id": call_id, "type": "function", "function": function})
        self._places[-1].calls.append(at)

    def _reasoning(self, item: Mapping[str, Any], at: str) -> None:
        """What was thought; of a model that tells no more than a summary, that."""
        content, summary = ([] if item.get(name) is None else item[name] for name in ("content", "summary"))
        thoughts = _parts(content, f"{at}.content", ("reasoning_text",))
        told = _parts(summary, f"{at}.summary", ("summary_text",))
        if thoughts or told:
            turn = self._turn(at, without=("reasoning_content", "content", "tool_calls"))
            turn["reasoning_content"] = "\n".join(thoughts or told)

    def _turn(self, at: str, without: Sequence[str] = ()) -> dict[str, Any]:
        """The assistant's message that is open, or a new one where that has any of these fields already."""
        if not self._is_turn or any(self.messages[-1].get(name) is not None for name in without):
            self.messages.append({"role": "assistant"})
            self._places.append(_Place(at))
            self._is_turn = True
        return self.messages[-1]


def kept_items(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Items that were accepted, as they are listed: each with an id and a status, text in parts."""
    kept = []
    for item in items:
        kind = str(_type(item))
        more: dict[str, Any] = {"type": kind}
        if kind == "message" and isinstance(item["content"], str):
            said = item["role"] == "assistant"
            part = {"type": "output_text", "annotations": []} if said else {"type": "input_text"}
            more["content"] = [part | {"text": item["content"]}]
        own = {name: value for name, value in item.items() if value is not None}
        fresh = {"id": f"{_PREFIXES[kind]}_{uuid.uuid4().hex}", "status": "completed"}
        kept.append(fresh | own | more)
    return kept


def _type(item: Mapping[str, Any]) -> object:
    return "message" if item.get("type") is None else item["type"]


def _text(value: object, at: str) -> str:
    """A string, or parts of text."""
    if isinstance(value, str):
        return value
    if value is None:
        raise BadRequest("is required", at, "missing_required_parameter")
    return "\n".join(_parts(value, at, ("input_text", "output_text")))


def _parts(value: object, at: str, kinds: Sequence[str]) -> list[str]:
    if not isinstance(value, list):
        raise BadRequest("must be a list of parts of text", at, "invalid_type")
    texts = []
    for i, part in enumerate(value):
        if not isinstance(part, dict):
            raise BadRequest("must be an object", f"{at}.{i}", "invalid_type")
        if part.get("type") not in kinds:
            told = f"only {' and '.join(kinds)} are supported"
            raise BadRequest(told, f"{at}.{i}.type", "unsupported_parameter")
        check_keys(part, f"{at}.{i}", _PART_KEYS)
        texts.append(string(part.get("text"), f"{at}.{i}.text"))
    return texts


def check_keys(value: Mapping[str, Any], at: str, known: Sequence[str]) -> None:
    """Nothing but these, and nulls."""
    for name in value:
        if name not in known and value[name] is not None:
            raise BadRequest("unknown field, or not supported", f"{at}.{name}", "unsupported_parameter")


def string(value: object, at: str) -> str:
    if value is None:
        raise BadRequest("is required", at, "missing_required_parameter")
    if not isinstance(value, str):
        raise BadRequest("must be a string", at, "invalid_type")
    return value
