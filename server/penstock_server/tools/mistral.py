"""How Mistral's models write calls, after the token `[TOOL_CALLS]`: a list of objects, or `name[ARGS]{...}` each."""

import json
from collections.abc import Callable

from penstock_decoding.grammar.source import json_rule
from penstock_server.text.pieces import CallArguments, CallBegun, Content, Piece
from penstock_server.tools.call_scanner import CallScanner
from penstock_server.tools.hermes import call_rules
from penstock_server.tools.offer import ToolOffer
from penstock_server.tools.text_before import TextBefore

CALLS, ARGS = "[TOOL_CALLS]", "[ARGS]"


class MistralFormat:
    """`[TOOL_CALLS] [{"name": "f", "arguments": {...}}, ...]`."""

    name = "mistral"
    marks: tuple[str, ...] = (CALLS,)

    def fits(self, template: str) -> bool:
        """Whether a model with this chat template writes calls like this."""
        return CALLS in template and ARGS not in template

    def parser(self, offer: ToolOffer) -> "MistralParser":
        """The parts of one answer."""
        return MistralParser()

    def grammar(self, offer: ToolOffer, mark: Callable[[str], str], content: str | None) -> str:
        """See `HermesFormat.grammar`."""
        items = "body" + (' (", " body)*' if offer.is_parallel else "")
        return _grammar(f'calls: {mark(CALLS)} " "? "[" {items} "]"', call_rules(offer, "arguments"), offer, content)


class MistralArgsFormat:
    """`[TOOL_CALLS]f[ARGS]{...}`, as often as there are calls."""

    name = "mistral_args"
    marks: tuple[str, ...] = (CALLS, ARGS)

    def fits(self, template: str) -> bool:
        """Whether a model with this chat template writes calls like this."""
        return CALLS in template and ARGS in template

    def parser(self, offer: ToolOffer) -> "MistralArgsParser":
        """The parts of one answer."""
        return MistralArgsParser()

    def grammar(self, offer: ToolOffer, mark: Callable[[str], str], content: str | None) -> str:
        """See `HermesFormat.grammar`."""
        rules = [f"call: {mark(CALLS)} body"]
        rules += ["body: " + " | ".join(f"body_{i}" for i in range(len(offer.callable_tools)))]
        for i, tool in enumerate(offer.callable_tools):
            rules += [f"body_{i}: {json.dumps(tool.name)} {mark(ARGS)} arguments_{i}"]
            rules += [f"arguments_{i}: {json_rule(tool.schema)}"]
        return _grammar("calls: call" + ("+" if offer.is_parallel else ""), rules, offer, content)


def _grammar(calls: str, rules: list[str], offer: ToolOffer, content: str | None) -> str:
    if offer.use == "required":
        start = ["start: calls"]
    elif content is not None:
        start = ["start: content | calls", f"content: {content}"]
    elif "<[" in calls + rules[0]:  # the mark is a token of its own, which no text can be
        start = ["start: TEXT calls?", "TEXT: /(?s:.*)/"]
    else:
        start = ["start: TEXT | calls", r"TEXT: /(?s:.*)/ & ~/(?s:.*)\[TOOL_CALLS\](?s:.*)/"]
    return "\n".join([*start, calls, *rules])


class MistralParser:
    """Text, then the list of calls, then what there is after it: nothing, or text."""

    def __init__(self) -> None:
        self._text: TextBefore | None = TextBefore(CALLS)
        self._scanner: CallScanner | None = None
        self._num_calls = 0
        self._is_over = False
        self._is_blank = True  # nothing but white space has come after the list

    def push(self, text: str) -> list[Piece]:
        pieces: list[Piece] = []
        if self._text is not None:
            said, rest = self._text.push(text)
            if said:
                pieces.append(Content(said))
            if rest is None:
                return pieces
            self._text, text = None, rest
        while text and not self._is_over:
            if self._scanner is None:
                text = text.lstrip(" \t\n[,")
                self._is_over = bool(text) and not text.startswith("{")
                text = text.removeprefix("]") if self._is_over else text
                if self._is_over or not text:
                    break
                self._scanner = CallScanner(self._num_calls)
            count, told = self._scanner.consume(text)
            pieces += told
            text = text[count:]
            if self._scanner.is_done or self._scanner.is_broken:
                self._num_calls += self._scanner.name is not None
                self._scanner = None
        if self._is_over and self._is_blank:
            text = text.lstrip()
            self._is_blank = not text
        if self._is_over and text:
            pieces.append(Content(text))
        return pieces

    def finish(self) -> list[Piece]:
        said = "" if self._text is None else self._text.finish()
        return [Content(said)] if said else []


class MistralArgsParser:
    """Text, then calls, each begun by its token."""

    def __init__(self) -> None:
        self._text: TextBefore | None = TextBefore(CALLS)
        self._name: TextBefore | None = None
        self._arguments: TextBefore | None = None
        self._called = ""
        self._num_calls = 0

    def push(self, text: str) -> list[Piece]:
        pieces: list[Piece] = []
        rest: str | None = text
        while rest is not None:
            if self._text is not None:
                said, rest = self._text.push(rest)
                if said:
                    pieces.append(Content(said))
                if rest is not None:
                    self._text, self._name, self._called = None, TextBefore(ARGS), ""
            elif self._name is not None:
                name, rest = self._name.push(rest)
                self._called += name
                if rest is not None:
                    pieces.append(CallBegun(self._num_calls, self._called.strip()))
                    self._name, self._arguments = None, TextBefore(CALLS, skips_blank=True)
            elif self._arguments is not None:
                told, rest = self._arguments.push(rest)
                if told:
                    pieces.append(CallArguments(self._num_calls, told))
                if rest is not None:
                    self._num_calls += 1
                    self._arguments, self._name, self._called = None, TextBefore(ARGS), ""
        return pieces

    def finish(self) -> list[Piece]:
        if self._arguments is not None:
            told = self._arguments.finish().rstrip()
            return [CallArguments(self._num_calls, told)] if told else []
        said = "" if self._text is None else self._text.finish()
        return [Content(said)] if said else []
