"""`Output`: the items of one response as its text comes, and the events that tell of them.

Whole replies come out of the same items, so that they are what a stream adds up to.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from penstock_engine.outputs import TokenLogprobs
from penstock_server.answers import ShownToken
from penstock_server.plan import Plan
from penstock_server.replies.layout import shown
from penstock_server.replies.message_reader import MessageReader
from penstock_server.text.pieces import CallArguments, CallBegun, Content, Piece, Reasoning
from penstock_server.text.reasoning import CLOSE
from penstock_server.text.tokenizer import Tokenizer


class EventWriter:
    """Server-sent events, numbered from 0."""

    def __init__(self) -> None:
        self._count = 0

    def event(self, kind: str, fields: dict[str, Any]) -> bytes:
        data = orjson.dumps({"type": kind, "sequence_number": self._number(), **fields})
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)

    def delta(self, head: bytes, text: str, more: bytes = b"") -> bytes:
        """The event that `head` begins, with more of a text; `more`: further fields, each after a comma."""
        return b'%b%d,"delta":%b%b}\n\n' % (head, self._number(), orjson.dumps(text), more)

    def _number(self) -> int:
        number, self._count = self._count, self._count + 1
        return number


def delta_head(kind: str, fields: dict[str, Any]) -> bytes:
    """All of an event of this kind up to its number."""
    data = orjson.dumps({"type": kind, **fields})[:-1]
    return b'event: %b\ndata: %b,"sequence_number":' % (kind.encode(), data)


class _Kind(NamedTuple):
    """A type of items: how their ids begin, the events of their text, what a new one has, and the part with its text.

    A call's text, its arguments, is in no part.
    """

    prefix: str
    events: str
    fields: dict[str, Any]
    part: dict[str, Any] | None


_KINDS = {
    "message": _Kind(
        "msg",
        "response.output_text",
        {"role": "assistant", "content": []},
        {"type": "output_text", "annotations": [], "logprobs": []},
    ),
    "reasoning": _Kind(
        "rs",
        "response.reasoning_text",
        {"summary": [], "content": [], "encrypted_content": None},
        {"type": "reasoning_text"},
    ),
    "function_call": _Kind("fc", "response.function_call_arguments", {"arguments": ""}, None),
}


class Output:
    """One answer, read once: items of reasoning, messages and calls, one of them open at a time.

    Attributes:
        items: all so far; the open one without its text.
        num_reasoning_tokens: known once the answer is over. None are counted unless the plan tells its tokens.
    """

    def __init__(self, plan: Plan, tokenizer: Tokenizer, events: EventWriter) -> None:
        self._reader = MessageReader(plan.form)
        self._form = plan.form
        self._tokenizer = tokenizer
        self._has_logprobs = plan.num_logprobs is not None
        self._events = events
        self.items: list[dict[str, Any]] = []
        self.num_reasoning_tokens = 0
        self._is_open = False
        self._texts: list[str] = []  # of the open item
        self._logprobs: list[dict[str, Any]] = []  # of the open item
        self._head = b""
        self._held: list[ShownToken] = []  # tokens whose text, or what it belongs to, is still to come
        self._num_characters = 0
        # Until something is said or called, it may all be a thought.
        self._is_thought = plan.form.new_parser is not None
        self._thought = ""
        self._thought_offsets: list[int] = []
        self._speech_begins = 0

    def push(self, text: str, tokens: Sequence[ShownToken]) -> list[bytes]:
        """The events of more text, and of the tokens it came from."""
        return [event for part, some in self._apart(text, tokens) for event in self._push(part, some)]

    def finish(self, *, is_cut: bool) -> list[bytes]:
        """What is left to tell; `is_cut`: the answer did not end by itself."""
        pieces = self._reader.pieces("", is_last=True)
        events = [event for piece in pieces for event in self._piece(piece)]
        self._end_thought()
        if not self.items:
            events += self._open("message")
        if self._held and self._is_open and self.items[-1]["type"] == "message":  # the token that ended it
            events += self._said("")
        return events + self._close("incomplete" if is_cut else "completed")

    def snapshot(self) -> list[dict[str, Any]]:
        """The items so far, of which the open one is not complete."""
        return [*self.items[:-1], self._filled("incomplete")[0]] if self._is_open else self.items

    def _apart(self, text: str, tokens: Sequence[ShownToken]) -> Iterator[tuple[str, Sequence[ShownToken]]]:
        """The text in pieces that each came from one token, if it is told where tokens begin."""
        first, self._num_characters = self._num_characters, self._num_characters + len(text)
        if len(tokens) < 2:
            yield text, tokens
            return
        starts = [0, *(min(max(token.offset - first, 0), len(text)) for token in tokens[1:]), len(text)]
        for token, start, end in zip(tokens, starts, starts[1:], strict=False):
            yield text[start:end], (token,)

    def _push(self, text: str, tokens: Sequence[ShownToken]) -> list[bytes]:
        if self._has_logprobs:
            self._held += tokens
        if self._is_thought:
            self._thought += text
            self._thought_offsets += [token.offset for token in tokens]
        return [event for piece in self._reader.pieces(text, is_last=False) for event in self._piece(piece)]

    def _piece(self, piece: Piece) -> list[bytes]:
        match piece:
            case Content(text):
                self._end_thought()
                return [*self._enter("message"), *self._said(text)]
            case Reasoning(text):
                self._held.clear()
                return [*self._enter("reasoning"), *self._more(text)]
            case CallBegun(_, name):
                self._end_thought()
                self._held.clear()
                call = {"call_id": self._form.new_call_id(), "name": name}
                return [*self._close("completed"), *self._open("function_call", call)]
            case CallArguments(_, text):
                self._held.clear()
                return self._more(text)

    def _end_thought(self) -> None:
        """Counts the tokens of the thought, the mark that ends it included."""
        if not self._is_thought:
            return
        self._is_thought = False
        end = self._thought.find(CLOSE)
        if any(item["type"] == "reasoning" for item in self.items):
            self._speech_begins = end + len(CLOSE) if end >= 0 else len(self._thought) + 1
            self.num_reasoning_tokens = sum(offset < self._speech_begins for offset in self._thought_offsets)

    def _enter(self, kind: str) -> list[bytes]:
        """An item of this type is open then, if need be a new one."""
        if self._is_open and self.items[-1]["type"] == kind:
            return []
        return [*self._close("completed"), *self._open(kind)]

    def _open(self, kind: str, more: Mapping[str, Any] | None = None) -> list[bytes]:
        prefix, events_kind, fields, part = _KINDS[kind]
        item = {"type": kind, "id": f"{prefix}_{secrets.token_hex(16)}", "status": "in_progress", **fields}
        self.items.append(item | dict(more or {}))
        self._is_open = True
        self._texts, self._logprobs = [], []
        added = {"output_index": self._index, "item": self.items[-1]}
        events = [self._events.event("response.output_item.added", added)]
        if part is not None:
            begun = {**self._place(), "part": part | {"text": ""}}
            events.append(self._events.event("response.content_part.added", begun))
        self._head = delta_head(f"{events_kind}.delta", self._place())
        return events

    def _more(self, text: str, more: bytes = b"") -> list[bytes]:
        self._texts.append(text)
        return [self._events.delta(self._head, text, more)]

    def _said(self, text: str) -> list[bytes]:
        told = [
            self._logprob(token.token_id, token.logprobs)
            for token in self._held
            if token.logprobs is not None and token.offset >= self._speech_begins
        ]
        self._held.clear()
        self._logprobs += told
        return self._more(text, b',"logprobs":' + orjson.dumps(told))

    def _close(self, status: str) -> list[bytes]:
        if not self._is_open:
            return []
        item, part = self._filled(status)
        self._is_open = False
        self.items[-1] = item
        place, kind = self._place(), _KINDS[item["type"]].events
        if part is None:
            done = {"arguments": item["arguments"], "name": item["name"]}
            events = [self._events.event(f"{kind}.done", place | done)]
        else:
            told = {name: part[name] for name in ("text", "logprobs") if name in part}
            events = [
                self._events.event(f"{kind}.done", place | told),
                self._events.event("response.content_part.done", place | {"part": part}),
            ]
        return [*events, self._events.event("response.output_item.done", {"output_index": self._index, "item": item})]

    def _filled(self, status: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """The open item with its text, and the part that has it."""
        item, text = self.items[-1], "".join(self._texts)
        part = _KINDS[item["type"]].part
        if part is None:
            return item | {"arguments": text, "status": status}, None
        part = part | {"text": text}
        if "logprobs" in part:
            part["logprobs"] = self._logprobs
        return item | {"content": [part], "status": status}, part

    @property
    def _index(self) -> int:
        return len(self.items) - 1

    def _place(self) -> dict[str, Any]:
        item = self.items[-1]
        place = {"item_id": item["id"], "output_index": self._index}
        return place if item["type"] == "function_call" else place | {"content_index": 0}

    def _logprob(self, token_id: int, logprobs: TokenLogprobs) -> dict[str, Any]:
        top = [self._candidate(other, logprob) for other, logprob in logprobs.top]
        return {**self._candidate(token_id, logprobs.chosen), "top_logprobs": top}

    def _candidate(self, token_id: int, logprob: float) -> dict[str, Any]:
        return {
            "token": self._tokenizer.label(token_id),
            "bytes": list(self._tokenizer.own_bytes(token_id)),
            "logprob": shown(logprob),
        }
