"""`DecodingEvents`: server-sent events that tell how answers are found, for `stream_options.decoding_events`.

An event of its own kind, `penstock.decoding`, after the ordinary chunks of the same step. Clients that do not look at
an event's kind find an ordinary chunk without choices in it.
"""

from typing import Any

import orjson

from penstock_server.answers import Watched
from penstock_server.plan import Plan
from penstock_server.text.tokenizer import Tokenizer


class DecodingEvents:
    """The events of one request."""

    def __init__(self, plan: Plan, tokenizer: Tokenizer) -> None:
        frame = {"id": plan.id, "object": "penstock.decoding", "created": plan.created, "model": plan.model}
        self._head = b"event: penstock.decoding\ndata: " + orjson.dumps(frame | {"choices": []})[:-1] + b","
        self._num_choices = plan.num_choices
        self._tokenizer = tokenizer

    def event(self, watched: Watched) -> bytes:
        """What one step did."""
        step, label = watched.step, self._tokenizer.label
        columns = zip(step.node, step.parent, step.token_id, step.score, step.fate, strict=True)
        told: dict[str, Any] = {
            "prompt": watched.prompt,
            "step": watched.num_steps,
            "nodes": [
                {
                    "node": node,
                    "parent": parent,
                    "token_id": token_id,
                    "token": label(token_id),
                    "score": score,
                    "fate": fate.name.lower(),
                }
                for node, parent, token_id, score, fate in columns
            ],
            "dropped": step.dropped,
            "settled": [
                {"index": watched.prompt * self._num_choices + choice, "node": node} for choice, node in step.settled
            ],
            "tentative": None
            if watched.tentative is None
            else {"index": watched.choice, "text": watched.tentative, "retracted": watched.num_retracted},
        }
        return self._head + orjson.dumps(told)[1:] + b"\n\n"
