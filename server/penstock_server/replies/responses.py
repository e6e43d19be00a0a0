"""Replies of OpenAI's `/v1/responses`: a response object, whole or as the events that build it."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from penstock_server.answers import Choice, Delta, ShownToken
from penstock_server.errors import ApiError
from penstock_server.plan import Plan
from penstock_server.replies.json import warnings_field
from penstock_server.replies.layout import chain_trace, ending_fields
from penstock_server.replies.responses_output import EventWriter, Output
from penstock_server.text.tokenizer import Tokenizer


class ResponsesLayout:
    """Replies to one request, which has one answer."""

    def __init__(
        self,
        plan: Plan,
        tokenizer: Tokenizer,
        echoes: Mapping[str, Any],
        keep: Callable[[dict[str, Any]], None] | None,
    ) -> None:
        """`echoes`: what the response says of its request; `keep`: takes the response once it is complete."""
        self._plan = plan
        self._label = tokenizer.label
        self._echoes = echoes
        self._keep = keep
        self._events = EventWriter()
        self._output = Output(plan, tokenizer, self._events)
        self._is_cut = False
        self._tokens: list[ShownToken] = []
        self._search: dict[str, Any] = {}

    def begin(self, counted: dict[str, Any]) -> bytes:
        response = {"response": self._response("in_progress", [])}
        return self._events.event("response.created", response) + self._events.event("response.in_progress", response)

    def chunks(self, deltas: Sequence[Delta]) -> bytes:
        events = []
        for delta in deltas:
            events += self._output.push(delta.text, delta.tokens)
            if self._plan.has_chain_trace:
                self._tokens += delta.tokens
            if delta.finish_reason is not None:
                self._is_cut = delta.finish_reason == "length"
                self._search = ending_fields(delta)
                events += self._output.finish(is_cut=self._is_cut)
        return b"".join(events)

    def count(self, counted: dict[str, Any]) -> None:
        """OpenAI's events do not count."""

    def end(self, counted: dict[str, Any]) -> bytes:
        response = self._complete(counted)
        return self._events.event(f"response.{response['status']}", {"response": response})

    def fault(self, error: ApiError) -> bytes:
        told = {"code": error.code, "message": error.message, "param": error.param}
        failed = self._response("failed", self._output.snapshot())
        failed["error"] = {"code": "server_error", "message": error.message}  # OpenAI has a list of codes
        return self._events.event("error", told) + self._events.event("response.failed", {"response": failed})

    def whole(self, choices: Sequence[Choice], counted: dict[str, Any]) -> bytes:
        (choice,) = choices
        self._output.push(choice.text, choice.tokens)
        self._is_cut = choice.finish_reason == "length"
        self._output.finish(is_cut=self._is_cut)
        self._tokens, self._search = choice.tokens, ending_fields(choice)
        return orjson.dumps(self._complete(counted))

    def _complete(self, counted: dict[str, Any]) -> dict[str, Any]:
        response = self._response("incomplete" if self._is_cut else "completed", self._output.items)
        if self._is_cut:
            response["incomplete_details"] = {"reason": "max_output_tokens"}
        else:
            response["completed_at"] = int(time.time())
        response["usage"] = usage(counted, self._output.num_reasoning_tokens)
        response |= self._search
        if self._plan.has_chain_trace:
            response["chain_trace"] = chain_trace(self._tokens, self._label)
        if self._keep is not None:
            self._keep(response)
        return response

    def _response(self, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._plan.id,
            "object": "response",
            "created_at": self._plan.created,
            "completed_at": None,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": self._plan.model,
            "output": output,
            "usage": None,
            "seed": self._plan.seed,
            **self._echoes,
            **warnings_field(self._plan.warnings),
        }


def usage(counted: Mapping[str, Any], num_reasoning_tokens: int) -> dict[str, Any]:
    """The counts of chat in the names of responses."""
    cached = counted["prompt_tokens_details"]["cached_tokens"]
    return {
        "input_tokens": counted["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": counted["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": num_reasoning_tokens},
        "total_tokens": counted["total_tokens"],
    }
