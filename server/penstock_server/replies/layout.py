"""`Layout`: how one API writes its replies, and `Frame`: the part of a reply that is the same for a whole request."""

from collections.abc import Sequence
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

    def usage_chunk(self, usage: dict[str, Any]) -> bytes:
        """The last SSE event before [DONE], for `stream_options.include_usage`."""
        ...

    def whole(self, choices: Sequence[Choice], usage: dict[str, Any]) -> bytes:
        """The body of an unstreamed reply."""
        ...


class Frame:
    """Everything of a reply but its choices and its usage.

    A chunk is `head + choice + tail`, bytes that only the choice has to be made for.
    """

    __slots__ = ("_fields", "_id", "_object", "head", "tail")

    def __init__(self, plan: Plan, object_name: str, fingerprint: str) -> None:
        self._id, self._object = plan.id, object_name
        self._fields = {
            "created": plan.created,
            "model": plan.model,
            "system_fingerprint": fingerprint,
            "seed": plan.seed,
        }
        self.head = b"data: " + self._open(f"{object_name}.chunk" if object_name == "chat.completion" else object_name)
        self.tail = b'],"usage":null}\n\n' if plan.includes_usage else b"]}\n\n"

    def _open(self, object_name: str) -> bytes:
        return orjson.dumps({"id": self._id, "object": object_name, **self._fields})[:-1] + b',"choices":['

    def usage_chunk(self, usage: dict[str, Any]) -> bytes:
        return self.head + b'],"usage":' + orjson.dumps(usage) + b"}\n\n"

    def whole(self, choices: Sequence[dict[str, Any]], usage: dict[str, Any]) -> bytes:
        return orjson.dumps(
            {"id": self._id, "object": self._object, **self._fields, "choices": choices, "usage": usage}
        )


def search_fields(choice: Choice | Delta) -> dict[str, float]:
    """What a search told of an answer beside it, as further fields of its choice."""
    told = {"score": choice.score, "inclusion_probability": choice.inclusion_probability}
    return {name: value for name, value in told.items() if value is not None}


def chain_trace(tokens: Sequence[ShownToken], tokenizer: Tokenizer) -> dict[str, Any]:
    """What each step of the chain did, token by token; orjson writes a `StepTrace` as an object."""
    return {"content": [{"token": tokenizer.label(token.token_id), "steps": token.trace or ()} for token in tokens]}


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


def chosen_and_top(token_id: int, logprobs: TokenLogprobs) -> list[tuple[int, float]]:
    """The likeliest tokens, and the chosen one after them if it is not among them."""
    top = list(logprobs.top)
    if all(candidate != token_id for candidate, _ in top):
        top.append((token_id, logprobs.chosen))
    return top
