"""The body of OpenAI's `POST /v1/responses`, translated into that of a chat request.

A thin translation: everything is checked where chat requests are, and what that finds wrong is told in the names that
this body has for it. Beside OpenAI's fields it takes those that shape the decoding here (`seed`, `decoding`, ...).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from penstock_server.errors import BadRequest
from penstock_server.schemas import unsupported
from penstock_server.schemas.chat import ChatBody
from penstock_server.schemas.fields import DECODING_FIELDS
from penstock_server.schemas.read import chat_of, known_fields, read_object
from penstock_server.schemas.responses_input import EARLIER, Conversation, check_keys, kept_items, string
from penstock_server.schemas.template_variables import is_given, with_variables

LOGPROBS = "message.output_text.logprobs"
# What it asks for is there without it: thoughts are told in plain text, and can be sent back so.
ENCRYPTED = "reasoning.encrypted_content"

# This body's name of a field -> the chat request's.
_NAMES = {
    "model": "model",
    "max_output_tokens": "max_completion_tokens",
    "stream": "stream",
    "stream_options": "stream_options",
    "parallel_tool_calls": "parallel_tool_calls",
    **{
        name: name
        for name in (
            "stop",
            "stop_token_ids",
            "ignore_eos",
            "include_stop_str_in_output",
            "skip_special_tokens",
            "structured_outputs",
            "chat_template_kwargs",
            "include_reasoning",
            "priority",
            "cache_salt",
        )
    },
} | {name: name for name in DECODING_FIELDS if name != "n"}
_OWN = (
    "input",
    "instructions",
    "previous_response_id",
    "include",
    "top_logprobs",
    "text",
    "tools",
    "tool_choice",
    "reasoning",
    "truncation",
    "store",
)
KNOWN = (*_NAMES, *_OWN)
# Each with the values that ask for nothing.
REFUSED: dict[str, tuple[object, ...]] = unsupported.VLLM | {
    "background": (False,),
    "conversation": (),
    "prompt": (),
    "max_tool_calls": (),
    "context_management": ([],),
    "moderation": (),
    "access_programs": (),
    "image": (),
    "personality": (),
    "enable_response_messages": (False,),
    "previous_input_messages": ([],),
}
_SAID_BACK = ("user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention")

# Older names in messages of the core -> this body's.
_WORDS = {"max_completion_tokens": "max_output_tokens", "response_format": "text.format"}

# A response that was stored -> the whole conversation up to its end, as items; None if there is none of this id.
Earlier = Callable[[str], list[dict[str, Any]] | None]


@dataclass(frozen=True, slots=True)
class ResponsesBody:
    """A conversation to answer.

    Attributes:
        items: the conversation that is answered, without the instructions, as it is listed; empty unless `is_stored`.
        drops_oldest: a conversation that is too long loses its beginning.
        echoes: fields of the response that say what was asked.
        renamed: turns a path into the chat request into one into this body.
    """

    chat: ChatBody
    items: list[dict[str, Any]]
    is_stored: bool
    drops_oldest: bool
    echoes: dict[str, Any]
    renamed: Callable[[str], str]

    def renamed_error(self, error: BadRequest) -> BadRequest:
        """The error of the chat request, as one of this body."""
        return _renamed_error(error, self.renamed)


def earlier_id(raw: bytes) -> str | None:
    """The id of the response that a body goes on from, if it names one.

    Raises:
        BadRequest: it is no JSON object.
    """
    given = read_object(raw).get(EARLIER)
    return given if isinstance(given, str) else None


def read_responses(raw: bytes, earlier: Earlier, *, lenient: bool = False) -> ResponsesBody:
    """`lenient`: unknown fields are passed over, and named in the chat's warnings.

    Raises:
        BadRequest: names the field.
    """
    given = {name: value for name, value in read_object(raw).items() if value is not None}
    supported = unsupported.refuse(given, REFUSED)
    fields, warnings = known_fields(supported, KNOWN, (*REFUSED, *unsupported.INERT), lenient=lenient)
    chat: dict[str, Any] = {_NAMES[name]: value for name, value in fields.items() if name in _NAMES}
    is_stored, drops_oldest = _boolean(fields, "store"), _truncation(fields) == "auto"
    conversation, items = _conversation(fields, earlier)
    chat["messages"] = conversation.messages
    chat |= _logprobs(fields) | _format(fields) | _tools(fields)
    chat = with_variables(chat, _reasoning(fields), "reasoning.effort")
    if "stream_options" in fields and isinstance(fields["stream_options"], dict):
        check_keys(fields["stream_options"], "stream_options", ("include_obfuscation",))

    def renamed(param: str) -> str:
        if is_given(param, fields.get("chat_template_kwargs")):
            return param
        return conversation.renamed(param) or _renamed(param)

    try:
        body = chat_of(chat).warned(warnings)
    except BadRequest as error:
        raise _renamed_error(error, renamed) from None
    echoes = _echoes(given)
    return ResponsesBody(body, kept_items(items) if is_stored else [], is_stored, drops_oldest, echoes, renamed)


def _renamed_error(error: BadRequest, renamed: Callable[[str], str]) -> BadRequest:
    if error.param is None:
        return error
    message = error.message.removeprefix(f"{error.param}: ")
    for word, own in _WORDS.items():
        message = message.replace(word, own)
    return BadRequest(message, renamed(error.param), error.code)


def _renamed(param: str) -> str:
    name, _, rest = param.partition(".")
    match name:
        case "messages":
            return "input"
        case "tools":
            return param.replace(".function", "", 1)
        case "tool_choice":
            return param.replace(".function", "", 1)
        case "response_format":
            return param.replace("response_format", "text.format", 1).replace(".json_schema", "", 1)
        case "chat_template_kwargs" | "reasoning_effort":
            return "reasoning.effort"
    own = {**dict.fromkeys(("max_tokens", "max_completion_tokens"), "max_output_tokens"), "logprobs": "include"}
    name = own.get(name, name)
    return f"{name}.{rest}" if rest else name


def _conversation(fields: Mapping[str, Any], earlier: Earlier) -> tuple[Conversation, list[dict[str, Any]]]:
    """The messages to answer, and the items that they were but for the instructions."""
    conversation, items = Conversation(), []
    if "instructions" in fields:
        conversation.add_message("system", string(fields["instructions"], "instructions"), "instructions")
    if EARLIER in fields:
        found = earlier(string(fields[EARLIER], EARLIER))
        if found is None:
            told = "there is no such response; only those are kept that were asked for with store, for a time"
            raise BadRequest(told, EARLIER, "previous_response_not_found")
        items = found
        conversation.add_items(items, EARLIER, is_one_place=True)
    given = fields.get("input")
    if given is None:
        raise BadRequest("is required", "input", "missing_required_parameter")
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
        conversation.add_items(given, "input", is_one_place=True)
    elif isinstance(given, list) and given:
        conversation.add_items(given, "input", is_one_place=False)
    else:
        raise BadRequest("must be a string or a list of items, not empty", "input", "invalid_type")
    return conversation, [*items, *given]


def _logprobs(fields: Mapping[str, Any]) -> dict[str, Any]:
    include = fields.get("include", [])
    if not isinstance(include, list):
        raise BadRequest("must be a list of strings", "include", "invalid_type")
    for i, name in enumerate(include):
        if name not in (LOGPROBS, ENCRYPTED):
            raise BadRequest("not supported by this server", f"include.{i}", "unsupported_parameter")
    if LOGPROBS in include:
        return {"logprobs": True, "top_logprobs": fields.get("top_logprobs", 0)}
    if fields.get("top_logprobs", 0) != 0 or fields.get("top_logprobs") is False:
        raise BadRequest(f"needs {LOGPROBS} in include", "top_logprobs", "invalid_value")
    return {}


def _reasoning(fields: Mapping[str, Any]) -> dict[str, Any]:
    reasoning = _object(fields, "reasoning", ("effort", "summary", "generate_summary", "context", "mode"))
    # There are no summaries: thoughts are told as they are, and auto is content with what there is.
    neutral = {"summary": "auto", "generate_summary": "auto", "context": "auto", "mode": "standard"}
    for name, idle in neutral.items():
        if reasoning.get(name) not in (None, idle):
            raise BadRequest("not supported by this server", f"reasoning.{name}", "unsupported_parameter")
    effort = reasoning.get("effort")
    if effort == "none":
        return {"chat_template_kwargs": {"enable_thinking": False, "reasoning_effort": "none"}}
    return {"reasoning_effort": effort}


def _format(fields: Mapping[str, Any]) -> dict[str, Any]:
    text = _object(fields, "text", ("format", "verbosity"))
    if text.get("verbosity") not in (None, "medium"):
        raise BadRequest("not supported by this server", "text.verbosity", "unsupported_parameter")
    wanted = text.get("format")
    if wanted is not None and not isinstance(wanted, dict):
        raise BadRequest("must be an object", "text.format", "invalid_type")
    if wanted is None or wanted.get("type") != "json_schema":
        return {"response_format": wanted}
    string(wanted.get("name"), "text.format.name")
    if wanted.get("description") is not None:
        string(wanted["description"], "text.format.description")
    if not isinstance(wanted.get("strict"), bool | None):
        raise BadRequest("must be true or false", "text.format.strict", "invalid_type")
    return {
        "response_format": {
            "type": "json_schema",
            "json_schema": {name: value for name, value in wanted.items() if name != "type"},
        }
    }


def _tools(fields: Mapping[str, Any]) -> dict[str, Any]:
    chat: dict[str, Any] = {}
    tools = fields.get("tools", [])
    if not isinstance(tools, list):
        raise BadRequest("must be a list of tools", "tools", "invalid_type")
    if tools:
        chat["tools"] = [_tool(tool, f"tools.{i}") for i, tool in enumerate(tools)]
    choice = fields.get("tool_choice")
    if isinstance(choice, dict):
        if choice.get("type") != "function":
            raise BadRequest("only functions can be named", "tool_choice.type", "unsupported_parameter")
        check_keys(choice, "tool_choice", ("type", "name"))
        choice = {"type": "function", "function": {"name": choice.get("name")}}
    return chat | {"tool_choice": choice}


def _tool(tool: object, at: str) -> dict[str, Any]:
    if not isinstance(tool, dict):
        raise BadRequest("must be an object", at, "invalid_type")
    if tool.get("type") != "function":
        raise BadRequest("only functions of your own are supported", f"{at}.type", "unsupported_parameter")
    for name, idle in {"async": False, "defer_loading": False, "allowed_callers": ["direct"]}.items():
        if tool.get(name) not in (None, idle):
            raise BadRequest("not supported by this server", f"{at}.{name}", "unsupported_parameter")
    own = ("name", "description", "parameters", "strict")
    check_keys(tool, at, ("type", *own, "async", "defer_loading", "allowed_callers"))
    return {"type": "function", "function": {name: tool[name] for name in own if tool.get(name) is not None}}


def _truncation(fields: Mapping[str, Any]) -> str:
    truncation = fields.get("truncation", "disabled")
    if truncation not in ("disabled", "auto"):
        raise BadRequest("must be auto or disabled", "truncation", "invalid_value")
    return str(truncation)


def _boolean(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise BadRequest("must be true or false", name, "invalid_type")
    return value


def _object(fields: Mapping[str, Any], name: str, known: tuple[str, ...]) -> dict[str, Any]:
    value = fields.get(name, {})
    if not isinstance(value, dict):
        raise BadRequest("must be an object", name, "invalid_type")
    check_keys(value, name, known)
    return value


def _metadata(given: Mapping[str, Any]) -> dict[str, str]:
    metadata = given.get("metadata", {})
    if not isinstance(metadata, dict):
        raise BadRequest("must be an object", "metadata", "invalid_type")
    if len(metadata) > 16:
        raise BadRequest("at most 16 entries are allowed", "metadata", "invalid_value")
    for name, value in metadata.items():
        if not isinstance(value, str):
            raise BadRequest("must be a string", f"metadata.{name}", "invalid_type")
        if len(name) > 64 or len(value) > 512:
            told = "a name has at most 64 characters, its value 512"
            raise BadRequest(told, f"metadata.{name}", "invalid_value")
    return metadata


def _echoes(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked, in OpenAI's shapes, its defaults filled in."""
    reasoning, text = given.get("reasoning", {}), given.get("text", {})
    # A chain of one's own says alone how tokens are chosen.
    is_chain = isinstance(given.get("decoding"), dict) and "chain" in given["decoding"]
    return {
        "instructions": given.get("instructions"),
        "previous_response_id": given.get(EARLIER),
        "max_output_tokens": given.get("max_output_tokens"),
        "temperature": given.get("temperature", None if is_chain else 1.0),
        "top_p": given.get("top_p", None if is_chain else 1.0),
        "top_logprobs": given.get("top_logprobs", 0),
        "tools": [_echoed_tool(tool) for tool in given.get("tools", [])],
        "tool_choice": given.get("tool_choice", "auto"),
        "parallel_tool_calls": given.get("parallel_tool_calls", True),
        "text": {"format": _echoed_format(text.get("format")), "verbosity": "medium"},
        "reasoning": {"effort": reasoning.get("effort"), "summary": None},
        "truncation": given.get("truncation", "disabled"),
        "store": given.get("store", False),
        "metadata": _metadata(given),
        "background": False,
        "max_tool_calls": None,
        "service_tier": "default",
        **{name: None if name not in given else string(given[name], name) for name in _SAID_BACK},
    }


def _echoed_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    # Arguments follow their schema here whether strict is said or not.
    defaults = {"description": None, "parameters": None, "strict": True}
    return defaults | {name: value for name, value in tool.items() if value is not None}


def _echoed_format(wanted: Mapping[str, Any] | None) -> dict[str, Any]:
    if wanted is None:
        return {"type": "text"}
    defaults = {"description": None, "strict": False} if wanted.get("type") == "json_schema" else {}
    return defaults | dict(wanted)
