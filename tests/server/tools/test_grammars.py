"""The grammars of tool calls, by the parser that keeps to them: what they let through and what they do not."""

import json
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer
from tool_templates import ALWAYS_THINKING, TEMPLATES, THINKING

from penstock_decoding.grammar.params import GrammarParams
from penstock_decoding.grammar.source import written
from penstock_server.tools.formats import FORMATS, find_format
from penstock_server.tools.offer import Tool, ToolOffer, Use

BYTES = LLTokenizer("byte")
POINT: dict[str, Any] = {
    "type": "object",
    "properties": {"x": {"$ref": "#/$defs/number"}, "label": {"enum": ["a", "b"]}},
    "required": ["x"],
    "additionalProperties": False,
    "$defs": {"number": {"type": "integer", "minimum": 0}},
}
TOOLS = (
    Tool("draw", POINT, {}),
    Tool("end", {"type": "object", "properties": {}, "additionalProperties": False}, {}),
)
BY_NAME = {each.name: each for each in FORMATS}


def accepts(grammar: str, text: str) -> bool:
    """Whether an answer may be this text."""
    matcher = LLMatcher(BYTES, written(GrammarParams(lark=grammar)))
    assert not matcher.is_error(), matcher.get_error()
    tokens = list(text.encode())
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


def call(kind: str, name: str, arguments: object) -> str:
    """One call as the format has it; several are joined by `between`."""
    key = "parameters" if kind == "llama3" else "arguments"
    body = f'{{"name": "{name}", "{key}": {json.dumps(arguments)}}}'
    if kind == "mistral_args":
        return f"[TOOL_CALLS]{name}[ARGS]{json.dumps(arguments)}"
    return f"<tool_call>\n{body}\n</tool_call>" if kind == "hermes" else body


def joined(kind: str, calls: list[str]) -> str:
    between = {"hermes": "\n", "llama3": "; ", "mistral": ", ", "mistral_args": ""}[kind]
    text = between.join(calls)
    return f"[TOOL_CALLS] [{text}]" if kind == "mistral" else text


def grammar(kind: str, use: Use, content: str | None = None, **fields: Any) -> str:
    return BY_NAME[kind].grammar(ToolOffer(TOOLS, use, **fields), lambda mark: json.dumps(mark), content)


kinds = pytest.mark.parametrize("kind", TEMPLATES)


@kinds
@pytest.mark.parametrize("use", ["auto", "required"])
def test_calls(kind: str, use: Use) -> None:
    asked = grammar(kind, use)
    good, end = call(kind, "draw", {"x": 3, "label": "a"}), call(kind, "end", {})
    assert accepts(asked, joined(kind, [good]))
    assert accepts(asked, joined(kind, [good, end, good]))
    for name, arguments in (("draw", {"x": -1}), ("draw", {"label": "a"}), ("draw", {"x": 1, "y": 2}), ("fly", {})):
        assert not accepts(asked, joined(kind, [call(kind, name, arguments)]))
        assert not accepts(asked, joined(kind, [good, call(kind, name, arguments)]))
    assert not accepts(asked, joined(kind, [good])[:-1])


@kinds
def test_words(kind: str) -> None:
    words = ("", "Hello, <you>.\n", "1 < 2, [3], and {4}.")
    assert all(accepts(grammar(kind, "auto"), text) for text in words)
    assert not any(accepts(grammar(kind, "required"), text) for text in words)


def test_words_before_a_call() -> None:
    text = "I draw.\n" + call("hermes", "draw", {"x": 1})
    assert accepts(grammar("hermes", "auto"), text)
    assert not accepts(grammar("hermes", "required"), text)
    assert not accepts(grammar("hermes", "auto"), "I draw.\n<tool_call>x")


@kinds
@pytest.mark.parametrize("use", ["auto", "required"])
def test_one_call_at_most(kind: str, use: Use) -> None:
    asked = grammar(kind, use, is_parallel=False)
    one = call(kind, "end", {})
    assert accepts(asked, joined(kind, [one])) and not accepts(asked, joined(kind, [one, one]))


@kinds
def test_the_tool_that_was_named(kind: str) -> None:
    asked = grammar(kind, "required", named="end")
    assert accepts(asked, joined(kind, [call(kind, "end", {})]))
    assert not accepts(asked, joined(kind, [call(kind, "draw", {"x": 1})]))


@pytest.mark.parametrize("kind", ["hermes", "mistral", "mistral_args"])
def test_content_of_a_kind_of_its_own(kind: str) -> None:
    asked = grammar(kind, "auto", '%json {"const": 5}')
    assert accepts(asked, "5") and accepts(asked, joined(kind, [call(kind, "end", {})]))
    assert not accepts(asked, "6") and not accepts(asked, "")


def test_the_format_of_a_model_is_that_of_its_template() -> None:
    for kind, template in TEMPLATES.items():
        found = find_format(template)
        assert found is not None and found.name == kind
    for template in (THINKING, ALWAYS_THINKING):
        assert find_format(template) is BY_NAME["hermes"]
    assert find_format("{{ messages }}") is None and find_format("{{ tools }}") is None
