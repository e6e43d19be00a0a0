"""`/v1/chat/completions` replies."""

from collections.abc import Sequence
from typing import Any

import orjson

from penstock_engine.outputs import TokenLogprobs
from penstock_server.answers import Choice, Delta, ShownToken
from penstock_server.plan import Plan
from penstock_server.replies.layout import Frame, chain_trace, more_fields, search_fields, shown
from penstock_server.text.tokenizer import Tokenizer

_ROLE = b'{"role":"assistant","content":""}'


class ChatLayout:
    """Replies to one chat request. A choice's first chunk gives its role, its last one nothing but the reason."""

    def __init__(self, plan: Plan, tokenizer: Tokenizer, fingerprint: str) -> None:
        self._frame = Frame(plan, "chat.completion", fingerprint)
        self._tokenizer = tokenizer
        self._has_logprobs = plan.num_logprobs is not None
        self._has_processed = plan.num_processed_logprobs is not None
        self._has_trace = plan.has_chain_trace

    def chunks(self, deltas: Sequence[Delta]) -> bytes:
        choices: list[bytes] = []
        for delta in deltas:
            if delta.is_first:
                choices.append(self._choice(delta.choice, _ROLE))
            if delta.text or delta.tokens:
                content = b'{"content":%b}' % orjson.dumps(delta.text)
                choices.append(self._choice(delta.choice, content, tokens=delta.tokens))
            if delta.finish_reason is not None:
                reason, more = orjson.dumps(delta.finish_reason), more_fields(search_fields(delta))
                choices.append(self._choice(delta.choice, b"{}", reason=reason, more=more))
        head, tail = self._frame.head, self._frame.tail
        return b"".join([b"%b%b%b" % (head, choice, tail) for choice in choices])

    def usage_chunk(self, usage: dict[str, Any]) -> bytes:
        return self._frame.usage_chunk(usage)

    def whole(self, choices: Sequence[Choice], usage: dict[str, Any]) -> bytes:
        rendered = [
            {
                "index": choice.index,
                "message": {"role": "assistant", "content": choice.text, "refusal": None},
                "logprobs": self._logprobs(choice.tokens),
                "finish_reason": choice.finish_reason,
                **self._trace(choice.tokens),
                **search_fields(choice),
            }
            for choice in choices
        ]
        return self._frame.whole(rendered, usage)

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
            logprobs, more = orjson.dumps(self._logprobs(tokens)), more_fields(self._trace(tokens))
        return b'{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b%b}' % (index, content, logprobs, reason, more)

    def _trace(self, tokens: Sequence[ShownToken]) -> dict[str, Any]:
        return {"chain_trace": chain_trace(tokens, self._tokenizer)} if self._has_trace else {}

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
            "token": self._tokenizer.label(token_id),
            "logprob": shown(logprob),
            "bytes": list(self._tokenizer.own_bytes(token_id)),
        }
