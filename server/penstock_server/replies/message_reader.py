"""`MessageReader`: one answer's text as the message of a chat: content, reasoning and calls, whole or in deltas."""

from typing import Any

from penstock_server.answer_form import AnswerForm
from penstock_server.text.pieces import CallArguments, CallBegun, Content, Piece, PlainParser, Reasoning


class MessageReader:
    """Reads one answer, once."""

    def __init__(self, form: AnswerForm) -> None:
        self._form = form
        self._parser = PlainParser() if form.new_parser is None else form.new_parser()
        self.has_calls = False

    def pieces(self, text: str, *, is_last: bool) -> list[Piece]:
        """What this text adds to the message; thoughts only if they are told."""
        pieces = self._parser.push(text)
        if is_last:
            pieces += self._parser.finish()
        self.has_calls = self.has_calls or any(isinstance(piece, CallBegun) for piece in pieces)
        if self._form.tells_reasoning:
            return pieces
        return [piece for piece in pieces if not isinstance(piece, Reasoning)]

    def deltas(self, text: str, *, is_last: bool) -> list[dict[str, Any]]:
        """What this text adds, in OpenAI's shape."""
        return [self._delta(piece) for piece in self.pieces(text, is_last=is_last)]

    def message(self, text: str) -> dict[str, Any]:
        """The whole message, in OpenAI's shape. Without a word beside its calls its content is null."""
        content, reasoning = "", ""
        calls: list[dict[str, Any]] = []
        for piece in self.pieces(text, is_last=True):
            match piece:
                case Content(said):
                    content += said
                case Reasoning(thought):
                    reasoning += thought
                case CallBegun(_, name):
                    function = {"name": name, "arguments": ""}
                    calls.append({"id": self._form.new_call_id(), "type": "function", "function": function})
                case CallArguments(call, more):
                    calls[call]["function"]["arguments"] += more
        message: dict[str, Any] = {"role": "assistant", "content": content or None if calls else content}
        message["refusal"] = None
        if reasoning:
            message |= _told_thought(reasoning)
        if calls:
            message["tool_calls"] = calls
        return message

    def finish_reason(self, reason: str | None) -> str | None:
        """Why the answer ended: to call tools, if it did and nothing cut it."""
        return self._form.calls_end_with if reason == "stop" and self.has_calls else reason

    def _delta(self, piece: Piece) -> dict[str, Any]:
        match piece:
            case Content(text):
                return {"content": text}
            case Reasoning(text):
                return _told_thought(text)
            case CallBegun(call, name):
                function = {"name": name, "arguments": ""}
                begun = {"index": call, "id": self._form.new_call_id(), "type": "function", "function": function}
                return {"tool_calls": [begun]}
            case CallArguments(call, text):
                return {"tool_calls": [{"index": call, "function": {"arguments": text}}]}


def _told_thought(text: str) -> dict[str, Any]:
    """A thought in both names that clients know: vLLM's first one, which others took up, and the one it has now."""
    return {"reasoning_content": text, "reasoning": text}
