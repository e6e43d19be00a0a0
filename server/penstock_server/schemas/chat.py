"""The body of `POST /v1/chat/completions`."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from penstock_server.errors import BadRequest
from penstock_server.schemas.fields import MAX_TOP_LOGPROBS, GenerationFields, Strict
from penstock_server.text.chat_template import RESERVED_NAMES
from penstock_server.tools.offer import ToolOffer, read_calls, read_offer

Role = Literal["system", "developer", "user", "assistant", "tool"]


class Message(Strict):
    """One message; `content` is read from a string or from text parts, which are joined by line breaks."""

    role: Role
    content: str | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    reasoning_content: str | None = None


# Fields of a message in a history that another server wrote; their empty values say nothing.
_EMPTY_MESSAGE_FIELDS = frozenset({"function_call", "refusal", "audio", "annotations"})
# What lm-eval says of each message, and what OpenAI's responses do.
MESSAGE_TYPES = ("text", "message")


def _read_messages(value: object) -> object:
    if not isinstance(value, list):
        return value
    if not value:
        raise BadRequest("at least one message is needed", "messages", "invalid_value")
    return [_read_message(message, f"messages.{i}") for i, message in enumerate(value)]


def _read_message(value: object, param: str) -> object:
    if not isinstance(value, dict):
        return value
    for name in _EMPTY_MESSAGE_FIELDS & value.keys():
        if value[name] not in (None, [], ""):
            raise BadRequest(f"{name} is not supported in messages", f"{param}.{name}", "unsupported_parameter")
    message = {key: item for key, item in value.items() if item is not None and key not in _EMPTY_MESSAGE_FIELDS}
    kind = message.pop("type", MESSAGE_TYPES[0])
    if kind not in MESSAGE_TYPES:
        raise BadRequest(f"must be {' or '.join(MESSAGE_TYPES)}, if given", f"{param}.type", "invalid_value")
    if "reasoning" in message:  # the name that newer servers give it
        thought = message.pop("reasoning")
        if message.get("reasoning_content", thought) != thought:
            told = "is another name of reasoning_content, which says something else"
            raise BadRequest(told, f"{param}.reasoning", "invalid_value")
        message["reasoning_content"] = thought
    if message.get("tool_calls", []) == []:
        message.pop("tool_calls", None)
    else:
        if message.get("role") != "assistant":
            raise BadRequest("only the assistant calls tools", f"{param}.tool_calls", "invalid_value")
        message["tool_calls"] = read_calls(message["tool_calls"], f"{param}.tool_calls")
    if isinstance(message.get("content"), list):
        message["content"] = _joined(message["content"], f"{param}.content")
    elif "content" not in message and message.get("role") != "assistant":
        raise BadRequest("is required", f"{param}.content", "missing_required_parameter")
    return message


def _joined(parts: list[object], param: str) -> str:
    texts = []
    for i, part in enumerate(parts):
        if not isinstance(part, dict):
            raise BadRequest("must be an object with type and text", f"{param}.{i}", "invalid_type")
        if part.get("type") != "text":
            raise BadRequest("only text parts are supported", f"{param}.{i}.type", "unsupported_parameter")
        for name in part.keys() - {"type", "text", "prompt_cache_breakpoint"}:  # which marks what to cache
            raise BadRequest(f"{name} is not supported in a text part", f"{param}.{i}.{name}", "unsupported_parameter")
        if not isinstance(part.get("text"), str):
            raise BadRequest("must be a string", f"{param}.{i}.text", "invalid_type")
        texts.append(part["text"])
    return "\n".join(texts)


def _read_template_variables(value: object) -> object:
    if isinstance(value, dict):
        for name in value:
            if name in RESERVED_NAMES or name.startswith("_"):
                raise BadRequest("cannot be set", f"chat_template_kwargs.{name}", "invalid_value")
    return value


Messages = Annotated[list[Message], BeforeValidator(_read_messages)]
TemplateVariables = Annotated[dict[str, Any], BeforeValidator(_read_template_variables)]


class ChatBody(GenerationFields):
    """A conversation to answer."""

    messages: Messages
    max_completion_tokens: int | None = Field(default=None, ge=0)
    logprobs: bool = False
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    add_special_tokens: bool = False
    chat_template_kwargs: TemplateVariables = Field(default={})
    tools: Any = None
    tool_choice: Any = None
    parallel_tool_calls: Any = True
    include_reasoning: bool = True
    reasoning_effort: str | None = Field(default=None, max_length=32)

    def offer(self) -> ToolOffer | None:
        """The tools that an answer may call."""
        return read_offer(self.tools, self.tool_choice, self.parallel_tool_calls)

    @property
    def num_logprobs(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None
