"""Replies of Anthropic's `/v1/messages`: a message of content blocks, whole or as the events that build it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from penstock_server.answers import Choice, Delta
from penstock_server.errors import ApiError, anthropic_body
from penstock_server.plan import Plan
from penstock_server.replies.json import warnings_field
from penstock_server.replies.message_reader import MessageReader
from penstock_server.text.pieces import CallArguments, CallBegun, Content, Piece, Reasoning


def usage(counted: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's counts in Anthropic's names: tokens read from the cache are counted apart."""
    cached = counted["prompt_tokens_details"]["cached_tokens"]
    return {
        "input_tokens": counted["prompt_tokens"] - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": counted["completion_tokens"],
    }


class MessagesLayout:
    """Replies to one request, which has one answer."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._reader = MessageReader(plan.form)
        self._block: str | None = None  # the kind of the content block that is open
        self._num_blocks = 0
        self._stop: tuple[str | None, str | None] = (None, None)

    def begin(self, counted: dict[str, Any]) -> bytes:
        message = self._message([], usage(counted))
        return _event("message_start", {"message": message}) + _event("ping", {})

    def chunks(self, deltas: Sequence[Delta]) -> bytes:
        events = []
        for delta in deltas:
            is_last = delta.finish_reason is not None
            for piece in self._reader.pieces(delta.text, is_last=is_last):
                events += self._piece(piece)
            if is_last:
                self._stop = self._stopped(delta.finish_reason, delta.stopped_by)
        return b"".join(events)

    def count(self, counted: dict[str, Any]) -> None:
        """Anthropic's events count at the end alone."""

    def end(self, counted: dict[str, Any]) -> bytes:
        reason, sequence = self._stop
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        last = _event("message_delta", {"delta": delta, "usage": usage(counted)}) + _event("message_stop", {})
        return b"".join(self._close()) + last

    def fault(self, error: ApiError) -> bytes:
        return b"event: error\ndata: " + orjson.dumps(anthropic_body(error)) + b"\n\n"

    def whole(self, choices: Sequence[Choice], counted: dict[str, Any]) -> bytes:
        (choice,) = choices
        blocks: list[dict[str, Any]] = []
        arguments = ""
        for piece in [*self._reader.pieces(choice.text, is_last=True), None]:
            if not isinstance(piece, CallArguments) and blocks and blocks[-1]["type"] == "tool_use":
                blocks[-1]["input"], arguments = _input(arguments or "{}"), ""
            match piece:
                case Content(text) | Reasoning(text):
                    kind = "text" if isinstance(piece, Content) else "thinking"
                    if not blocks or blocks[-1]["type"] != kind:
                        blocks.append(_opened(kind))
                    blocks[-1][kind] += text
                case CallBegun(_, name):
                    blocks.append(self._call(name))
                case CallArguments(_, text):
                    arguments += text
        reason, sequence = self._stopped(choice.finish_reason, choice.stopped_by)
        return orjson.dumps(self._message(blocks, usage(counted), reason, sequence))

    def _message(
        self,
        blocks: list[dict[str, Any]],
        counted: dict[str, Any],
        reason: str | None = None,
        sequence: str | None = None,
    ) -> dict[str, Any]:
        return {
            "id": self._plan.id,
            "type": "message",
            "role": "assistant",
            "model": self._plan.model,
            "content": blocks,
            "stop_reason": reason,
            "stop_sequence": sequence,
            "usage": counted,
            "seed": self._plan.seed,
            **warnings_field(self._plan.warnings),
        }

    def _stopped(self, reason: str | None, stopped_by: str | int | None) -> tuple[str | None, str | None]:
        if reason == "length":
            return "max_tokens", None
        if isinstance(stopped_by, str):
            return "stop_sequence", stopped_by
        return ("tool_use" if self._reader.has_calls else "end_turn"), None

    def _piece(self, piece: Piece) -> list[bytes]:
        match piece:
            case Content(text):
                return [*self._open("text"), self._more({"type": "text_delta", "text": text})]
            case Reasoning(text):
                return [*self._open("thinking"), self._more({"type": "thinking_delta", "thinking": text})]
            case CallBegun(_, name):
                return [*self._close(), *self._open("tool_use", self._call(name))]
            case CallArguments(_, text):
                return [self._more({"type": "input_json_delta", "partial_json": text})]

    def _open(self, kind: str, block: dict[str, Any] | None = None) -> list[bytes]:
        if self._block == kind:
            return []
        closed = self._close()
        self._block, index = kind, self._num_blocks
        self._num_blocks += 1
        return [*closed, _event("content_block_start", {"index": index, "content_block": block or _opened(kind)})]

    def _close(self) -> list[bytes]:
        if self._block is None:
            return []
        self._block = None
        return [_event("content_block_stop", {"index": self._num_blocks - 1})]

    def _more(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", {"index": self._num_blocks - 1, "delta": delta})

    def _call(self, name: str) -> dict[str, Any]:
        return {"type": "tool_use", "id": self._plan.form.new_call_id(), "name": name, "input": {}}


def _opened(kind: str) -> dict[str, Any]:
    return {"type": kind, kind: ""} | ({"signature": ""} if kind == "thinking" else {})


def _input(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:  # cut by a limit
        return {}


def _event(kind: str, fields: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **fields}))
