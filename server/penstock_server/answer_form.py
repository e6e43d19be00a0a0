"""`AnswerForm`: what the answers of a chat request are made of: speech alone, or thoughts and calls of tools too.

Decided from the request, the model's chat template and the prompt, before anything is generated.
"""

import json
import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass

from penstock_decoding.grammar.source import json_rule
from penstock_server.errors import BadRequest
from penstock_server.model import ServedModel
from penstock_server.schemas.chat import ChatBody
from penstock_server.schemas.structured import Structured
from penstock_server.text.chat_template import required
from penstock_server.text.pieces import AnswerParser, PlainParser
from penstock_server.text.reasoning import ReasoningParser, begins_thinking
from penstock_server.tools.formats import ToolFormat
from penstock_server.tools.offer import ToolOffer

_ALPHANUMERIC = string.ascii_letters + string.digits


def new_call_id() -> str:
    """An id as OpenAI's look."""
    return f"call_{secrets.token_hex(12)}"


def new_short_call_id() -> str:
    """The templates of Mistral's models refuse ids that are not nine letters and digits."""
    return "".join(secrets.choice(_ALPHANUMERIC) for _ in range(9))


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """How to read the answers of one request, and what they may look like.

    Attributes:
        new_parser: makes the parser of one answer; None where all of it is speech.
        shown_special: special tokens that the parser has to see in the text.
        grammar: in Lark, what an answer may be; None for anything. `grammar_param`: where the body asks for it.
        calls_end_with: the finish reason of an answer that has called tools and ended by itself.
        tells_reasoning: thoughts are part of the reply.
    """

    new_parser: Callable[[], AnswerParser] | None = None
    shown_special: frozenset[int] = frozenset()
    grammar: str | None = None
    grammar_param: str = "tools"
    new_call_id: Callable[[], str] = new_call_id
    calls_end_with: str = "tool_calls"
    tells_reasoning: bool = True


SPEECH = AnswerForm()


def answer_form(body: ChatBody, offer: ToolOffer | None, model: ServedModel, prompt: str) -> AnswerForm:
    """The form of the answers to `prompt`.

    Raises:
        BadRequest: this model cannot do what is asked; names the field.
    """
    template = required(model.template).source
    has_thoughts = "</think>" in template and not body.continue_final_message
    if has_thoughts and body.chat_template_kwargs.get("enable_thinking") is False and "enable_thinking" not in template:
        told = "this model's chat template cannot keep it from thinking"
        raise BadRequest(told, "chat_template_kwargs.enable_thinking", "unsupported_parameter")
    is_thinking = has_thoughts and begins_thinking(prompt)
    calls = offer is not None and offer.use != "none"
    tool_format = required_format(model) if calls else None
    if not has_thoughts and tool_format is None:
        return SPEECH

    def new_parser() -> AnswerParser:
        plain = PlainParser() if tool_format is None or offer is None else tool_format.parser(offer)
        return ReasoningParser(plain, is_thinking=is_thinking) if has_thoughts else plain

    grammar = None
    if tool_format is not None and offer is not None:
        grammar = _grammar(tool_format, offer, model, body.structured(), is_thinking=is_thinking)
    marks = (*(("<think>", "</think>") if has_thoughts else ()), *(tool_format.marks if tool_format else ()))
    ids = [model.codec.tokenizer.special_id(mark) for mark in marks]
    return AnswerForm(
        new_parser,
        frozenset(token_id for token_id in ids if token_id is not None),
        grammar,
        "tool_choice" if offer is not None and offer.use == "required" else "tools",
        new_short_call_id if tool_format is not None and tool_format.name.startswith("mistral") else new_call_id,
        "stop" if offer is not None and offer.named is not None else "tool_calls",
        body.include_reasoning,
    )


def required_format(model: ServedModel) -> ToolFormat:
    """How the model writes calls of tools.

    Raises:
        BadRequest: it takes no tools, or how it writes calls is not known.
    """
    if model.tool_format is None:
        told = (
            "this model's chat template takes no tools"
            if "tools" not in required(model.template).source
            else "how this model writes calls is not known to this server"
        )
        raise BadRequest(told, "tools", "unsupported_parameter")
    return model.tool_format


def _grammar(
    tool_format: ToolFormat, offer: ToolOffer, model: ServedModel, structured: Structured | None, *, is_thinking: bool
) -> str:
    def mark(text: str) -> str:
        token_id = model.codec.tokenizer.special_id(text)
        return json.dumps(text, ensure_ascii=False) if token_id is None else f"<[{token_id}]>"

    content = None
    if structured is not None and offer.use != "required":
        if structured.field != "guided_json" or tool_format.name == "llama3":
            told = f"{structured.param.partition('.')[0]} and tools both say what the answer looks like; give one"
            raise BadRequest(told, structured.param, "invalid_value")
        value = structured.value
        content = json_rule(json.loads(value) if isinstance(value, str) else value)
    grammar = tool_format.grammar(offer, mark, content)
    if not is_thinking:
        return grammar
    # The thought comes first, whatever it is; what follows it is as the grammar says.
    close = mark("</think>")
    if close.startswith('"'):
        return f"start: thought /\\s*/ answer\nthought[suffix={close}]: /(?s:.*)/\n" + _renamed(grammar)
    return f"start: THOUGHT {close} /\\s*/ answer\nTHOUGHT: /(?s:.*)/\n" + _renamed(grammar)


def _renamed(grammar: str) -> str:
    assert grammar.startswith("start: "), "a grammar begins with its start"
    return "answer: " + grammar.removeprefix("start: ")
