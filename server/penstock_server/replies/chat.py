"""`/v1/chat/completions` replies: messages of content, reasoning and calls of tools."""

from collections.abc import Sequence
from typing import Any

import orjson

from penstock_engine.outputs import TokenLogprobs
from penstock_server.answers import Choice, Delta, ShownToken
from penstock_server.errors import ApiError
from penstock_server.plan import Plan
from penstock_server.replies.layout import (
    Frame,
    chain_trace,
    ending_fields,
    error_event,
    labels,
    more_fields,
    shown,
    token_ids,
)
from penstock_server.replies.message_reader import MessageReader
from penstock_server.replies.prompt_logprobs import PromptLogprobs
from penstock_server.text.tokenizer import Tokenizer

_ROLE = b'{"role":"assistant","content":""}'
# It may turn out that nothing is said beside calls: then the message's content is null.
_ROLE_OF_PARTS = b'{"role":"assistant","content":null}'


class ChatLayout:
    """Replies to one chat request. A choice's first chunk gives its role, its last one nothing but the reason."""

    def __init__(self, plan: Plan, tokenizer: Tokenizer, fingerprint: str) -> None:
        self._frame = Frame(plan, "chat.completion", fingerprint)
        self._tokenizer = tokenizer
        self._plan = plan
        self._label = labels(plan, tokenizer)
        self._prompt_logprobs = PromptLogprobs(plan, tokenizer)
        self._readers: dict[int, MessageReader] = {}
        self._has_logprobs = plan.num_logprobs is not None
        self._has_processed = plan.num_processed_logprobs is not None
        self._has_trace = plan.has_chain_trace
        self._is_plain = plan.form.new_parser is None and not plan.tells_tokens

    def chunks(self, deltas: Sequence[Delta]) -> bytes:
        if self._is_plain and len(deltas) == 1 and deltas[0].is_plain:
            index, text = deltas[0].choice, orjson.dumps(deltas[0].text)
            choice = b'{"index":%d,"delta":{"content":%b},"logprobs":null,"finish_reason":null}' % (index, text)
            return b"%b%b%b" % (self._frame.head, choice, self._frame.tail)
        choices: list[bytes] = []
        for delta in deltas:
            if delta.is_first:
                role = _ROLE if self._plan.form.new_parser is None else _ROLE_OF_PARTS
                choices.append(self._choice(delta.choice, role, more=more_fields(self._prompt(delta))))
            choices += self._parts(delta)
            if delta.finish_reason is not None:
                reason = orjson.dumps(self._reader(delta.choice).finish_reason(delta.finish_reason))
                choices.append(self._choice(delta.choice, b"{}", reason=reason, more=more_fields(ending_fields(delta))))
        head, tail = self._frame.head, self._frame.tail
        return b"".join([b"%b%b%b" % (head, choice, tail) for choice in choices])

    def begin(self, usage: dict[str, Any]) -> bytes:
        return b""

    def count(self, usage: dict[str, Any]) -> None:
        self._frame.count(usage)

    def end(self, usage: dict[str, Any]) -> bytes:
        return self._frame.end(usage)

    def fault(self, error: ApiError) -> bytes:
        return error_event(error)

    def whole(self, choices: Sequence[Choice], usage: dict[str, Any]) -> bytes:
        return self._frame.whole([self._whole(choice) for choice in choices], usage, self._prompt(choices[0]))

    def _whole(self, choice: Choice) -> dict[str, Any]:
        reader = self._reader(choice.index)
        message = reader.message(choice.text)
        return {
            "index": choice.index,
            "message": message,
            "logprobs": self._logprobs(choice.tokens),
            "finish_reason": reader.finish_reason(choice.finish_reason),
            **self._per_token(choice.tokens),
            **ending_fields(choice),
        }

    def _reader(self, choice: int) -> MessageReader:
        if choice not in self._readers:
            self._readers[choice] = MessageReader(self._plan.form)
        return self._readers[choice]

    def _parts(self, delta: Delta) -> list[bytes]:
        """A chunk for each part of the message; the first one tells of the tokens."""
        if self._plan.form.new_parser is None:
            parts = [b'{"content":%b}' % orjson.dumps(delta.text)] if delta.text else []
        else:
            reader = self._reader(delta.choice)
            parts = [orjson.dumps(part) for part in reader.deltas(delta.text, is_last=delta.finish_reason is not None)]
        if delta.tokens and not parts:
            parts = [b'{"content":""}']
        return [self._choice(delta.choice, part, tokens=() if i else delta.tokens) for i, part in enumerate(parts)]

    def _choice(
        self,
        index: int,
        content: bytes,
        *,
        tokens: Sequence[ShownToken] = (),
        reason: bytes = b"null",
        more: bytes = b"",
    ) -> bytes:
        logprobs = b"null"
        if tokens:
            logprobs, more = orjson.dumps(self._logprobs(tokens)), more_fields(self._per_token(tokens))
        return b'{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b%b}' % (index, content, logprobs, reason, more)

    def _per_token(self, tokens: Sequence[ShownToken]) -> dict[str, Any]:
        told: dict[str, Any] = {"chain_trace": chain_trace(tokens, self._label)} if self._has_trace else {}
        if self._plan.tells_token_ids:
            told["token_ids"] = token_ids(tokens)
        return told

    def _prompt(self, choice: Choice | Delta) -> dict[str, Any]:
        """Chat has one prompt, and vLLM tells of it beside the choices; in a stream with each choice's first."""
        told: dict[str, Any] = {"prompt_token_ids": self._plan.requests[0].prompt} if self._plan.tells_token_ids else {}
        logprobs = self._prompt_logprobs.of(0, choice.prompt_logprobs)
        return told if logprobs is None else told | {"prompt_logprobs": logprobs}

    def _logprobs(self, tokens: Sequence[ShownToken]) -> dict[str, Any] | None:
        if not self._has_logprobs and not self._has_processed:
            return None
        model = self._content([(token.token_id, token.logprobs) for token in tokens]) if self._has_logprobs else None
        told: dict[str, Any] = {"content": model, "refusal": None}
        if self._has_processed:
            processed = self._content([(token.token_id, token.processed) for token in tokens])
            told["processed_logprobs"] = {"content": processed, "refusal": None}
        return told

    def _content(self, tokens: Sequence[tuple[int, TokenLogprobs | None]]) -> list[dict[str, Any]]:
        return [
            {
                **self._candidate(token_id, logprobs.chosen),
                "top_logprobs": [self._candidate(other, logprob) for other, logprob in logprobs.top],
            }
            for token_id, logprobs in tokens
            if logprobs is not None
        ]

    def _candidate(self, token_id: int, logprob: float) -> dict[str, Any]:
        return {
            "token": self._label(token_id),
            "logprob": shown(logprob),
            "bytes": list(self._tokenizer.own_bytes(token_id)),
        }
