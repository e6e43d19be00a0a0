"""How Llama 3 writes a call: the whole answer is a JSON object `{"name": "f", "parameters": {...}}`."""

from collections.abc import Callable

from penstock_server.text.pieces import Content, Piece
from penstock_server.tools.call_scanner import CallScanner
from penstock_server.tools.hermes import call_rules
from penstock_server.tools.offer import ToolOffer

TAG = "<|python_tag|>"


class Llama3Format:
    """An object, or several with semicolons between them; sometimes after `<|python_tag|>`."""

    name = "llama3"
    marks = (TAG,)

    def fits(self, template: str) -> bool:
        """Whether a model with this chat template writes calls like this."""
        return '"parameters"' in template and "<|start_header_id|>" in template

    def parser(self, offer: ToolOffer) -> "Llama3Parser":
        """The parts of one answer."""
        return Llama3Parser(frozenset(tool.name for tool in offer.tools))

    def grammar(self, offer: ToolOffer, mark: Callable[[str], str], content: str | None) -> str:
        """See `HermesFormat.grammar`. What is said instead of a call does not begin like one."""
        calls = "body" + (' ("; " body)*' if offer.is_parallel else "")
        rules = call_rules(offer, "parameters")
        if offer.use == "required":
            return "\n".join([f"start: {calls}", *rules])
        if content is not None:
            return "\n".join([f"start: content | {calls}", f"content: {content}", *rules])
        return "\n".join([f"start: TEXT | {calls}", r"TEXT: /(?s:\s*([^{\s].*)?)/", *rules])


class Llama3Parser:
    """Calls if the answer begins with an object that names one of the tools; else text."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._raw = ""  # while it is open whether it is a call
        self._is_text = False
        self._scanner: CallScanner | None = None
        self._told: list[Piece] = []
        self._num_calls = 0

    def push(self, text: str) -> list[Piece]:
        if self._is_text:
            return [Content(text)] if text else []
        pieces: list[Piece] = []
        while text and not self._is_text:
            if self._scanner is None:
                text = self._between(text)
            if self._scanner is not None:
                text = self._scan(self._scanner, text, pieces)
        if self._is_text:
            said, self._raw = self._raw + text, ""
            pieces.append(Content(said))
        return pieces

    def finish(self) -> list[Piece]:
        held, self._raw = self._raw, ""
        return [Content(held)] if held.strip() or (held and not self._num_calls) else []

    def _between(self, text: str) -> str:
        """Before an object: blanks, the tag, or after a call a semicolon."""
        self._raw += text
        start = self._raw.lstrip()
        if not self._num_calls:
            if start and TAG.startswith(start) and start != TAG:
                return ""
            start = start.removeprefix(TAG).lstrip()
        else:
            start = start.lstrip("; \n\t")
        if start.startswith("{"):
            self._scanner = CallScanner(self._num_calls)
            self._raw = self._raw[: len(self._raw) - len(start)]
            return start
        self._is_text = bool(start)
        return ""

    def _scan(self, scanner: CallScanner, text: str, pieces: list[Piece]) -> str:
        was_named = scanner.name is not None
        count, told = scanner.consume(text)
        if scanner.name is None or (not was_named and scanner.name not in self._names):
            self._raw += text[:count]
            self._is_text = scanner.name is not None or scanner.is_broken or scanner.is_done
            return text[count:]
        self._raw = ""
        pieces += told
        if scanner.is_done or scanner.is_broken:
            self._num_calls += 1
            self._scanner = None
        return text[count:]
