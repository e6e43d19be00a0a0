"""How Hermes, Qwen and many others write calls: each a JSON object between `<tool_call>` and `</tool_call>`."""

import json
from collections.abc import Callable

from penstock_decoding.grammar.source import json_rule
from penstock_server.text.pieces import Content, Piece
from penstock_server.tools.call_scanner import CallScanner
from penstock_server.tools.offer import ToolOffer
from penstock_server.tools.text_before import TextBefore

OPEN, CLOSE = "<tool_call>", "</tool_call>"


class HermesFormat:
    """`<tool_call>\\n{"name": "f", "arguments": {...}}\\n</tool_call>`, as often as there are calls."""

    name = "hermes"
    marks = (OPEN, CLOSE)

    def fits(self, template: str) -> bool:
        """Whether a model with this chat template writes calls like this."""
        return OPEN in template

    def parser(self, offer: ToolOffer) -> "HermesParser":
        """The parts of one answer."""
        return HermesParser()

    def grammar(self, offer: ToolOffer, mark: Callable[[str], str], content: str | None) -> str:
        """What an answer may be, in Lark.

        Args:
            mark: how the grammar writes a mark.
            content: the right side of a rule for what is said instead of calls; None for any text.
        """
        calls = "call" + (' ("\\n" call)*' if offer.is_parallel else "")
        rules = [f"call: {mark(OPEN)} rest", f'rest: "\\n" body "\\n" {mark(CLOSE)}', *call_rules(offer, "arguments")]
        if offer.use == "required":
            return "\n".join([f"start: {calls}", *rules])
        if content is not None:
            return "\n".join([f"start: content | {calls}", f"content: {content}", *rules])
        if not mark(OPEN).startswith('"'):  # a token of its own, which no text can be
            lead = f"start: TEXT ({calls})?"
            return "\n".join([lead, "TEXT: /(?s:.*)/", *rules])
        more = ' ("\\n" call)*' if offer.is_parallel else ""
        return "\n".join(
            [
                f"start: TEXT | lead rest{more}",
                f"lead[suffix={json.dumps(OPEN)}]: /(?s:.*)/",
                f"TEXT: /(?s:.*)/ & ~/(?s:.*){OPEN}(?s:.*)/",
                *rules,
            ]
        )


def call_rules(offer: ToolOffer, arguments_key: str) -> list[str]:
    """Rules for `body`, a call of any of the tools as a JSON object, its arguments as the tool's schema wants them."""
    tools = offer.callable_tools
    rules = ["body: " + " | ".join(f"body_{i}" for i in range(len(tools)))]
    for i, tool in enumerate(tools):
        head = f'{{"name": {json.dumps(tool.name)}, "{arguments_key}": '
        rules += [f'body_{i}: {json.dumps(head)} arguments_{i} "}}"', f"arguments_{i}: {json_rule(tool.schema)}"]
    return rules


class HermesParser:
    """Text, then calls, and text again."""

    def __init__(self) -> None:
        self._text = TextBefore(OPEN)
        self._scanner: CallScanner | None = None
        self._close: TextBefore | None = None
        self._raw = ""  # of the call being read, while it may turn out to be none
        self._num_calls = 0

    def push(self, text: str) -> list[Piece]:
        pieces: list[Piece] = []
        rest: str | None = text
        while rest is not None:
            if self._close is not None:
                rest = self._skip_to_close(rest)
            elif self._scanner is not None:
                rest = self._scan(self._scanner, rest, pieces)
            else:
                said, rest = self._text.push(rest)
                if said:
                    pieces.append(Content(said))
                if rest is not None:
                    self._scanner, self._raw = CallScanner(self._num_calls), OPEN
        return pieces

    def finish(self) -> list[Piece]:
        if self._scanner is not None and self._scanner.name is None:
            return [Content(self._raw)]
        said = self._text.finish()
        return [Content(said)] if said else []

    def _scan(self, scanner: CallScanner, text: str, pieces: list[Piece]) -> str | None:
        count, told = scanner.consume(text)
        pieces += told
        if scanner.name is None:
            self._raw += text[:count]
        if scanner.is_broken and scanner.name is None:  # no call after all
            pieces.append(Content(self._raw))
            self._scanner, self._raw = None, ""
            return text[count:]
        if not scanner.is_done and not scanner.is_broken:
            return None
        self._num_calls += 1
        self._scanner, self._close = None, TextBefore(CLOSE)
        return text[count:]

    def _skip_to_close(self, text: str) -> str | None:
        assert self._close is not None, "a call has ended"
        _, rest = self._close.push(text)
        if rest is not None:
            self._close, self._text = None, TextBefore(OPEN, skips_blank=True)
        return rest
