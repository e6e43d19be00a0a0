"""`/v1/completions` replies, with the older layout of log-probabilities."""

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
    chosen_and_top,
    error_event,
    labels,
    more_fields,
    search_fields,
    shown,
    token_ids,
)
from penstock_server.text.tokenizer import Tokenizer


class CompletionLayout:
    """Replies to one completions request."""

    def __init__(self, plan: Plan, tokenizer: Tokenizer, fingerprint: str) -> None:
        self._frame = Frame(plan, "text_completion", fingerprint)
        self._plan = plan
        self._label = labels(plan, tokenizer)
        self._has_logprobs = plan.num_logprobs is not None
        self._has_processed = plan.num_processed_logprobs is not None
        self._has_trace = plan.has_chain_trace

    def chunks(self, deltas: Sequence[Delta]) -> bytes:
        head, tail = self._frame.head, self._frame.tail
        return b"".join([b"%b%b%b" % (head, self._choice(delta), tail) for delta in deltas])

    def begin(self, usage: dict[str, Any]) -> bytes:
        return b""

    def end(self, usage: dict[str, Any]) -> bytes:
        return self._frame.end(usage)

    def fault(self, error: ApiError) -> bytes:
        return error_event(error)

    def whole(self, choices: Sequence[Choice], usage: dict[str, Any]) -> bytes:
        rendered = [
            {
                "index": choice.index,
                "text": choice.text,
                "logprobs": self._logprobs(choice.tokens),
                "finish_reason": choice.finish_reason,
                **self._more(choice),
            }
            for choice in choices
        ]
        return self._frame.whole(rendered, usage)

    def _choice(self, delta: Delta) -> bytes:
        return b'{"index":%d,"text":%b,"logprobs":%b,"finish_reason":%b%b}' % (
            delta.choice,
            orjson.dumps(delta.text),
            orjson.dumps(self._logprobs(delta.tokens)),
            orjson.dumps(delta.finish_reason),
            more_fields(self._more(delta)),
        )

    def _more(self, choice: Choice | Delta) -> dict[str, Any]:
        told: dict[str, Any] = {"chain_trace": chain_trace(choice.tokens, self._label)} if self._has_trace else {}
        if self._plan.tells_token_ids:
            told["token_ids"] = token_ids(choice.tokens)
            index = choice.choice if isinstance(choice, Delta) else choice.index
            if isinstance(choice, Choice) or choice.is_first:
                told["prompt_token_ids"] = self._plan.requests[index // self._plan.num_choices].prompt
        return told | search_fields(choice)

    def _logprobs(self, tokens: Sequence[ShownToken]) -> dict[str, Any] | None:
        told = self._columns([(token, token.logprobs) for token in tokens]) if self._has_logprobs else {}
        if self._has_processed:
            told["processed_logprobs"] = self._columns([(token, token.processed) for token in tokens])
        return told or None

    def _columns(self, tokens: Sequence[tuple[ShownToken, TokenLogprobs | None]]) -> dict[str, Any]:
        label = self._label
        told = [(token.token_id, logprobs) for token, logprobs in tokens if logprobs is not None]
        return {
            "tokens": [label(token_id) for token_id, _ in told],
            "token_logprobs": [shown(logprobs.chosen) for _, logprobs in told],
            "top_logprobs": [self._top(token_id, logprobs) for token_id, logprobs in told],
            "text_offset": [token.offset for token, _ in tokens],
        }

    def _top(self, token_id: int, logprobs: TokenLogprobs) -> dict[str, float]:
        # Two ids can have the same text; the likelier comes first and keeps the key.
        top: dict[str, float] = {}
        for candidate, logprob in chosen_and_top(token_id, logprobs):
            top.setdefault(self._label(candidate), shown(logprob))
        return top
