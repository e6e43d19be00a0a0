"""`/v1/completions` replies, with the older layout of log-probabilities."""

from collections.abc import Sequence
from typing import Any

import orjson

from penstock_server.answers import Choice, Delta, ShownToken
from penstock_server.plan import Plan
from penstock_server.replies.layout import Frame, chosen_and_top, shown
from penstock_server.text.tokenizer import Tokenizer


class CompletionLayout:
    """Replies to one completions request."""

    def __init__(self, plan: Plan, tokenizer: Tokenizer, fingerprint: str) -> None:
        self._frame = Frame(plan, "text_completion", fingerprint)
        self._tokenizer = tokenizer
        self._has_logprobs = plan.num_logprobs is not None

    def chunks(self, deltas: Sequence[Delta]) -> bytes:
        head, tail = self._frame.head, self._frame.tail
        return b"".join([b"%b%b%b" % (head, self._choice(delta), tail) for delta in deltas])

    def usage_chunk(self, usage: dict[str, Any]) -> bytes:
        return self._frame.usage_chunk(usage)

    def whole(self, choices: Sequence[Choice], usage: dict[str, Any]) -> bytes:
        rendered = [
            {
                "index": i,
                "text": choice.text,
                "logprobs": self._logprobs(choice.tokens) if self._has_logprobs else None,
                "finish_reason": choice.finish_reason,
            }
            for i, choice in enumerate(choices)
        ]
        return self._frame.whole(rendered, usage)

    def _choice(self, delta: Delta) -> bytes:
        return b'{"index":%d,"text":%b,"logprobs":%b,"finish_reason":%b}' % (
            delta.choice,
            orjson.dumps(delta.text),
            orjson.dumps(self._logprobs(delta.tokens)) if self._has_logprobs else b"null",
            orjson.dumps(delta.finish_reason),
        )

    def _logprobs(self, tokens: Sequence[ShownToken]) -> dict[str, Any]:
        label = self._tokenizer.label
        return {
            "tokens": [label(token.token_id) for token in tokens],
            "token_logprobs": [shown(token.logprobs.chosen) for token in tokens],
            "top_logprobs": [self._top(token) for token in tokens],
            "text_offset": [token.offset for token in tokens],
        }

    def _top(self, token: ShownToken) -> dict[str, float]:
        # Two ids can have the same text; the likelier comes first and keeps the key.
        top: dict[str, float] = {}
        for token_id, logprob in chosen_and_top(token.token_id, token.logprobs):
            top.setdefault(self._tokenizer.label(token_id), shown(logprob))
        return top
