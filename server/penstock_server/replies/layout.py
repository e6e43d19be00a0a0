"""`Layout`: how one API writes its replies, and `Frame`: the part of a reply that is the same for a whole request."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import orjson

from penstock_engine.outputs import TokenLogprobs
from penstock_server.answers import Answers, Choice, Delta, ShownToken
from penstock_server.errors import ApiError
from penstock_server.plan import Plan
from penstock_server.text.tokenizer import Tokenizer

DONE = b"data: [DONE]\n\n"

# OpenAI's stand-in for a probability of zero: JSON has no -Infinity.
LEAST_LOGPROB = -9999.0


class Layout(Protocol):
    """One API's replies to one request."""

    def chunks(self, deltas: Sequence[Delta]) -> bytes:
        """SSE events for what one step settled."""
        ...

    def begin(self, usage: dict[str, Any]) -> bytes:
        """What comes before the first of them."""
        ...

    def count(self, usage: dict[str, Any]) -> None:
        """The tokens so far, for the chunks that come next; only if the plan `counts_each_chunk`."""
        ...

    def end(self, usage: dict[str, Any]) -> bytes:
        """What comes after the last of them."""
        ...

    def fault(self, error: ApiError) -> bytes:
        """What ends a stream that broke off."""
        ...

    def whole(self, choices: Sequence[Choice], usage: dict[str, Any]) -> bytes:
        """The body of an unstreamed reply."""
        ...


class Frame:
    """Everything of a reply but its choices and its usage.

    A chunk is `head + choice + tail`, bytes that only the choice has to be made for; the tail counts the tokens so far
    if each chunk is to.
    """

    __slots__ = ("_fields", "_id", "_includes_usage", "_object", "head", "tail")

    def __init__(self, plan: Plan, object_name: str, fingerprint: str) -> None:
        self._id, self._object = plan.id, object_name
        self._includes_usage = plan.includes_usage
        self._fields: dict[str, Any] = {
            "created": plan.created,
            "model": plan.model,
            "system_fingerprint": fingerprint,
            "seed": plan.seed,
        }
        if plan.warnings:
            self._fields["warnings"] = plan.warnings
        self.head = b"data: " + self._open(f"{object_name}.chunk" if object_name == "chat.completion" else object_name)
        self.tail = b'],"usage":null}\n\n' if plan.includes_usage else b"]}\n\n"

    def _open(self, object_name: str) -> bytes:
        return orjson.dumps({"id": self._id, "object": object_name, **self._fields})[:-1] + b',"choices":['

    def count(self, usage: dict[str, Any]) -> None:
        self.tail = b'],"usage":' + orjson.dumps(usage) + b"}\n\n"

    def end(self, usage: dict[str, Any]) -> bytes:
        """The count of tokens, if it was asked for, and the end mark."""
        if not self._includes_usage:
            return DONE
        return self.head + b'],"usage":' + orjson.dumps(usage) + b"}\n\n" + DONE

    def whole(
        self, choices: Sequence[dict[str, Any]], usage: dict[str, Any], more: Mapping[str, Any] | None = None
    ) -> bytes:
        frame = {"id": self._id, "object": self._object, **self._fields}
        return orjson.dumps(frame | {"choices": choices, "usage": usage} | dict(more or {}))


def ending_fields(choice: Choice | Delta) -> dict[str, float | str]:
    """What is told of an answer with its end, as further fields of its choice: by the search, and what ended it."""
    told = {
        "stop_reason": choice.stopped_by,
        "score": choice.score,
        "inclusion_probability": choice.inclusion_probability,
    }
    return {name: value for name, value in told.items() if value is not None}


def labels(plan: Plan, tokenizer: Tokenizer) -> Callable[[int], str]:
    """How the reply names a token: by its text, or by its id, as vLLM writes it, which no two tokens share."""
    return "token_id:{}".format if plan.labels_by_id else functools.cache(tokenizer.label)


def chain_trace(tokens: Sequence[ShownToken], label: Callable[[int], str]) -> dict[str, Any]:
    """What each step of the chain did, token by token; orjson writes a `StepTrace` as an object."""
    return {"content": [{"token": label(token.token_id), "steps": token.trace or ()} for token in tokens]}


def token_ids(tokens: Sequence[ShownToken]) -> list[int]:
    """The ids of these tokens, also of those whose text a stop string has cut off."""
    return [token.token_id for token in tokens]


def more_fields(fields: dict[str, Any]) -> bytes:
    """Fields to go on with inside an object of JSON."""
    return b"," + orjson.dumps(fields)[1:-1] if fields else b""


def usage_of(answers: Answers) -> dict[str, Any]:
    """OpenAI's `usage`: each prompt counted once, the tokens of all choices."""
    num_prompt, num_generated = answers.plan.num_prompt_tokens, answers.num_generated_tokens
    return {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_generated,
        "total_tokens": num_prompt + num_generated,
        "prompt_tokens_details": {"cached_tokens": answers.num_cached_tokens},
    }


def error_event(error: ApiError) -> bytes:
    """A fault after the first byte, as an SSE event of its own kind."""
    return b"event: error\ndata: " + orjson.dumps(error.body()) + b"\n\n"


def shown(logprob: float) -> float:
    """A log-probability as JSON can hold it."""
    return max(logprob, LEAST_LOGPROB)


def chosen_and_top(token_id: int, logprobs: TokenLogprobs, count: int | None = None) -> list[tuple[int, float]]:
    """The likeliest tokens, no more than `count`, and the chosen one after them if it is not among them."""
    top = list(logprobs.top[:count])
    if all(candidate != token_id for candidate, _ in top):
        top.append((token_id, logprobs.chosen))
    return top


def top_by_label(
    token_id: int, logprobs: TokenLogprobs, label: Callable[[int], str], count: int | None = None
) -> dict[str, float]:
    """The same by their names, as the older layout has them."""
    # Two ids can have the same text; the likelier comes first and keeps the key.
    top: dict[str, float] = {}
    for candidate, logprob in chosen_and_top(token_id, logprobs, count):
        top.setdefault(label(candidate), shown(logprob))
    return top
