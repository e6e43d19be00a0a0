"""How each format's text becomes content, reasoning and calls; the same however the text is cut."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_server.text.pieces import AnswerParser, CallArguments, CallBegun, Content, Piece, PlainParser, Reasoning
from penstock_server.text.reasoning import ReasoningParser, begins_thinking
from penstock_server.tools.hermes import HermesParser
from penstock_server.tools.llama3 import Llama3Parser
from penstock_server.tools.mistral import MistralArgsParser, MistralParser

NAMES = frozenset({"f", "g"})
Parts = tuple[str, str, list[tuple[str, str]]]

PARSERS: dict[str, Callable[[], AnswerParser]] = {
    "plain": PlainParser,
    "hermes": HermesParser,
    "llama3": lambda: Llama3Parser(NAMES),
    "mistral": MistralParser,
    "mistral_args": MistralArgsParser,
    "reasoning": lambda: ReasoningParser(PlainParser(), is_thinking=False),
    "thinking": lambda: ReasoningParser(PlainParser(), is_thinking=True),
    "reasoning, hermes": lambda: ReasoningParser(HermesParser(), is_thinking=False),
}
F, G = '{"name": "f", "arguments": {"x": [1, "}"]}}', '{"name": "g", "arguments": {}}'
PF, PG = F.replace("arguments", "parameters"), G.replace("arguments", "parameters")
X, NONE = '{"x": [1, "}"]}', "{}"

CASES: list[tuple[str, str, Parts]] = [
    ("plain", "a <tool_call> b", ("a <tool_call> b", "", [])),
    ("hermes", "just words, 1 < 2 <tool", ("just words, 1 < 2 <tool", "", [])),
    ("hermes", "words \n", ("words \n", "", [])),
    ("hermes", f"<tool_call>\n{F}\n</tool_call>", ("", "", [("f", X)])),
    ("hermes", f"Let me see.\n<tool_call>{F}</tool_call>", ("Let me see.", "", [("f", X)])),
    ("hermes", f"<tool_call>\n{F}\n</tool_call>\n<tool_call>\n{G}\n</tool_call>", ("", "", [("f", X), ("g", NONE)])),
    ("hermes", f"<tool_call>\n{F}\n</tool_call>\n\nDone.", ("Done.", "", [("f", X)])),
    ("hermes", f"<tool_call>\n{F}", ("", "", [("f", X)])),  # cut by a limit
    ("hermes", '<tool_call>\n{"name": "f", "arguments": {"x": [1,', ("", "", [("f", '{"x": [1,')])),
    ("hermes", '<tool_call>\n{"na', ('<tool_call>\n{"na', "", [])),
    ("hermes", "<tool_call> is a mark", ("<tool_call> is a mark", "", [])),
    ("llama3", "Hello { you }", ("Hello { you }", "", [])),
    ("llama3", PF, ("", "", [("f", X)])),
    ("llama3", f"<|python_tag|>{PF}", ("", "", [("f", X)])),
    ("llama3", f"\n{PF}; {PG}", ("", "", [("f", X), ("g", NONE)])),
    ("llama3", '{"name": "Ann", "age": 3}', ('{"name": "Ann", "age": 3}', "", [])),
    ("llama3", '{"age": 3}', ('{"age": 3}', "", [])),
    ("llama3", "{not json}", ("{not json}", "", [])),
    ("llama3", '{"na', ('{"na', "", [])),
    ("llama3", " ", (" ", "", [])),
    ("llama3", '{"name": "f", "parameters": {"x"', ("", "", [("f", '{"x"')])),
    ("mistral", "words [TOOL", ("words [TOOL", "", [])),
    ("mistral", f"[TOOL_CALLS] [{F}, {G}]", ("", "", [("f", X), ("g", NONE)])),
    ("mistral", f"Well. [TOOL_CALLS][{F}]", ("Well.", "", [("f", X)])),
    ("mistral", '[TOOL_CALLS] [{"name": "f", "arguments": {"x', ("", "", [("f", '{"x')])),
    ("mistral", f"[TOOL_CALLS][{F}]\n That is it. ", ("That is it. ", "", [("f", X)])),
    ("mistral", f"[TOOL_CALLS] no list {F}", (f"no list {F}", "", [])),
    ("mistral_args", "words", ("words", "", [])),
    ("mistral_args", f"Well.[TOOL_CALLS]f[ARGS]{X}[TOOL_CALLS]g[ARGS]{NONE}", ("Well.", "", [("f", X), ("g", NONE)])),
    ("mistral_args", '[TOOL_CALLS]f[ARGS]{"x', ("", "", [("f", '{"x')])),
    ("reasoning", "no thought", ("no thought", "", [])),
    ("reasoning", "<think>\nhm, <\n</think>\n\nYes.", ("Yes.", "hm, <", [])),
    ("reasoning", "\n<think></think>Yes.", ("Yes.", "", [])),
    ("reasoning", "<think>cut of", ("", "cut of", [])),
    ("reasoning", "<think>cut </th", ("", "cut </th", [])),
    ("reasoning", "<thin", ("<thin", "", [])),
    ("reasoning", "a <think>b</think>", ("a <think>b</think>", "", [])),
    ("thinking", "hm\n</think>\n\nYes.\n", ("Yes.\n", "hm", [])),
    ("thinking", "hm", ("", "hm", [])),
    ("reasoning, hermes", f"<think>a</think>\n<tool_call>{F}</tool_call>", ("", "a", [("f", X)])),
]


def parts(pieces: list[Piece]) -> Parts:
    said = "".join(piece.text for piece in pieces if isinstance(piece, Content))
    thought = "".join(piece.text for piece in pieces if isinstance(piece, Reasoning))
    calls: list[tuple[str, str]] = []
    for piece in pieces:
        if isinstance(piece, CallBegun):
            assert piece.call == len(calls)
            calls.append((piece.name, ""))
        elif isinstance(piece, CallArguments):
            assert piece.call == len(calls) - 1 and piece.text
            calls[-1] = (calls[-1][0], calls[-1][1] + piece.text)
    return said, thought, calls


def parsed(kind: str, pieces: list[str]) -> Parts:
    parser = PARSERS[kind]()
    told = [piece for text in pieces for piece in parser.push(text)]
    return parts([*told, *parser.finish()])


@pytest.mark.parametrize(("kind", "text", "expected"), CASES)
def test_whole_and_one_by_one(kind: str, text: str, expected: Parts) -> None:
    assert parsed(kind, [text]) == expected
    assert parsed(kind, list(text)) == expected


FRAGMENTS = st.sampled_from(
    ["<tool_call>", "</tool_call>", "\n", " ", "a", F, G, PF, "{", "}", "\"", "; ", ",", "[", "[TOOL_CALLS]", "[ARGS]",
     "f", X, "<think>", "</think>", "<|python_tag|>", "<", '{"name": "f"']
)  # fmt: skip


@pytest.mark.parametrize("kind", PARSERS)
@given(fragments=st.lists(FRAGMENTS, max_size=8), cuts=st.lists(st.integers(0, 200)))
@settings(max_examples=150, deadline=None)
def test_any_cut_of_any_text(kind: str, fragments: list[str], cuts: list[int]) -> None:
    text = "".join(fragments)
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(text)}), len(text)]
    assert parsed(kind, [text[a:b] for a, b in pairwise(edges)]) == parsed(kind, [text])


def test_nothing_is_held_back_that_cannot_be_a_mark() -> None:
    for kind in ("hermes", "mistral", "reasoning"):
        parser = PARSERS[kind]()
        assert parts(parser.push("words and"))[0] == "words and"


@pytest.mark.parametrize(
    ("prompt", "is_thinking"),
    [("", False), ("<think>\n", True), ("<think>\n\n</think>\n\n", False), ("<think>a</think> b <think>", True)],
)
def test_whether_a_prompt_begins_a_thought(prompt: str, is_thinking: bool) -> None:
    assert begins_thinking(prompt) == is_thinking
