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
    ending_fields,
    error_event,
    labels,
    more_fields,
    shown,
    token_ids,
    top_by_label,
)
from penstock_server.replies.prompt_logprobs import PromptLogprobs
from penstock_server.text.tokenizer import Tokenizer


class CompletionLayout:
    """Replies to one completions request. What is told of a prompt comes with the first chunk of each choice."""

    def __init__(self, plan: Plan, tokenizer: Tokenizer, fingerprint: str) -> None:
        self._frame = Frame(plan, "text_completion", fingerprint)
        self._plan = plan
        self._prompt_logprobs = PromptLogprobs(plan, tokenizer)
        self._columns_echoed: dict[int, dict[str, list[Any]]] = {}
        self._label = labels(plan, tokenizer)
        self._has_logprobs = plan.num_logprobs is not None
        self._has_processed = plan.num_processed_logprobs is not None
        self._has_trace = plan.has_chain_trace
        self._is_plain = not plan.tells_tokens

    def chunks(self, deltas: Sequence[Delta]) -> bytes:
        head, tail = self._frame.head, self._frame.tail
        if self._is_plain and len(deltas) == 1 and deltas[0].is_plain:
            index, text = deltas[0].choice, orjson.dumps(deltas[0].text)
            return b'%b{"index":%d,"text":%b,"logprobs":null,"finish_reason":null}%b' % (head, index, text, tail)
        return b"".join([b"%b%b%b" % (head, self._choice(delta), tail) for delta in deltas])

    def begin(self, usage: dict[str, Any]) -> bytes:
        return b""

    def count(self, usage: dict[str, Any]) -> None:
        self._frame.count(usage)

    def end(self, usage: dict[str, Any]) -> bytes:
        return self._frame.end(usage)

    def fault(self, error: ApiError) -> bytes:
        return error_event(error)

    def whole(self, choices: Sequence[Choice], usage: dict[str, Any]) -> bytes:
        rendered = [
            {
                "index": choice.index,
                "text": choice.text,
                "logprobs": self._logprobs(choice),
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
            orjson.dumps(self._logprobs(delta)),
            orjson.dumps(delta.finish_reason),
            more_fields(self._more(delta)),
        )

    def _more(self, choice: Choice | Delta) -> dict[str, Any]:
        told: dict[str, Any] = {"chain_trace": chain_trace(choice.tokens, self._label)} if self._has_trace else {}
        if self._plan.tells_token_ids:
            told["token_ids"] = token_ids(choice.tokens)
        return told | self._prompt(choice) | ending_fields(choice)

    def _prompt(self, choice: Choice | Delta) -> dict[str, Any]:
        """What is told once of a choice's prompt, beside the answer."""
        if isinstance(choice, Delta) and not choice.is_first:
            return {}
        told: dict[str, Any] = {}
        prompt = self._prompt_of(choice)
        if self._plan.tells_token_ids:
            told["prompt_token_ids"] = self._plan.requests[prompt].prompt
        logprobs = self._prompt_logprobs.of(prompt, choice.prompt_logprobs)
        return told if logprobs is None else told | {"prompt_logprobs": logprobs}

    def _prompt_of(self, choice: Choice | Delta) -> int:
        index = choice.choice if isinstance(choice, Delta) else choice.index
        return index // self._plan.num_choices

    def _logprobs(self, choice: Choice | Delta) -> dict[str, Any] | None:
        told: dict[str, Any] = {}
        if self._has_logprobs:
            told = self._columns([(token, token.logprobs) for token in choice.tokens])
            if isinstance(choice, Choice) or choice.is_first:
                echoed = self._echoed(choice)
                told = {name: [*echoed[name], *column] for name, column in told.items()} if echoed else told
        if self._has_processed:  # the prompt was not chosen from anything
            told["processed_logprobs"] = self._columns([(token, token.processed) for token in choice.tokens])
        return told or None

    def _echoed(self, choice: Choice | Delta) -> dict[str, list[Any]]:
        """The columns of an echoed prompt. Nothing comes before its first token, which so has no log-probability."""
        prompt = self._prompt_of(choice)
        ids, places = self._plan.requests[prompt].prompt, self._plan.echoes[prompt].places
        if places is None:
            return {}
        if prompt in self._columns_echoed:
            return self._columns_echoed[prompt]
        told, count = list(zip(ids[1:], choice.prompt_logprobs, strict=True)), self._plan.num_logprobs or 0
        self._columns_echoed[prompt] = {
            "tokens": [self._label(token_id) for token_id in ids],
            "token_logprobs": [None, *(shown(logprobs.chosen) for _, logprobs in told)],
            "top_logprobs": [
                None,
                *(top_by_label(token_id, logprobs, self._label, count) for token_id, logprobs in told),
            ],
            "text_offset": list(places),
        }
        return self._columns_echoed[prompt]

    def _columns(self, tokens: Sequence[tuple[ShownToken, TokenLogprobs | None]]) -> dict[str, Any]:
        label = self._label
        told = [(token.token_id, logprobs) for token, logprobs in tokens if logprobs is not None]
        return {
            "tokens": [label(token_id) for token_id, _ in told],
            "token_logprobs": [shown(logprobs.chosen) for _, logprobs in told],
            "top_logprobs": [top_by_label(token_id, logprobs, label) for token_id, logprobs in told],
            "text_offset": [token.offset for token, _ in tokens],
        }
