"""`/v1/chat/completions` replies."""

from collections.abc import Sequence
from typing import Any

import orjson

from penstock_server.answers import Choice, Delta, ShownToken
from penstock_server.plan import Plan
from penstock_server.replies.layout import Frame, shown
from penstock_server.text.tokenizer import Tokenizer

_ROLE = b'{"role":"assistant","content":""}'


class ChatLayout:
    """Replies to one chat request. A choice's first chunk gives its role, its last one nothing but the reason."""

    def __init__(self, plan: Plan, tokenizer: Tokenizer, fingerprint: str) -> None:
        self._frame = Frame(plan, "chat.completion", fingerprint)
        self._tokenizer = tokenizer
        self._has_logprobs = plan.num_logprobs is not None

    def chunks(self, deltas: Sequence[Delta]) -> bytes:
        choices: list[bytes] = []
        for delta in deltas:
            if delta.is_first:
                choices.append(self._choice(delta.choice, _ROLE))
            if delta.text or delta.tokens:
                content = b'{"content":%b}' % orjson.dumps(delta.text)
                choices.append(self._choice(delta.choice, content, tokens=delta.tokens))
            if delta.finish_reason is not None:
                choices.append(self._choice(delta.choice, b"{}", reason=orjson.dumps(delta.finish_reason)))
        head, tail = self._frame.head, self._frame.tail
        return b"".join([b"%b%b%b" % (head, choice, tail) for choice in choices])

    def usage_chunk(self, usage: dict[str, Any]) -> bytes:
        return self._frame.usage_chunk(usage)

    def whole(self, choices: Sequence[Choice], usage: dict[str, Any]) -> bytes:
        rendered = [
            {
                "index": i,
                "message": {"role": "assistant", "content": choice.text, "refusal": None},
                "logprobs": self._logprobs(choice.tokens) if self._has_logprobs else None,
                "finish_reason": choice.finish_reason,
            }
            for i, choice in enumerate(choices)
        ]
        return self._frame.whole(rendered, usage)

    def _choice(
        self, index: int, content: bytes, *, tokens: Sequence[ShownToken] = (), reason: bytes = b"null"
    ) -> bytes:
        logprobs = orjson.dumps(self._logprobs(tokens)) if tokens else b"null"
        return b'{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}' % (index, content, logprobs, reason)

    def _logprobs(self, tokens: Sequence[ShownToken]) -> dict[str, Any]:
        content = [
            {
                **self._candidate(token.token_id, token.logprobs.chosen),
                "top_logprobs": [self._candidate(token_id, logprob) for token_id, logprob in token.logprobs.top],
            }
            for token in tokens
        ]
        return {"content": content, "refusal": None}

    def _candidate(self, token_id: int, logprob: float) -> dict[str, Any]:
        return {
            "token": self._tokenizer.label(token_id),
            "logprob": shown(logprob),
            "bytes": list(self._tokenizer.own_bytes(token_id)),
        }
