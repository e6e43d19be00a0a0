"""`prompt_logprobs`, as vLLM writes it: for each token of a prompt, an object of the likeliest ones at its place.

It is long, and each choice of a reply has it: `PromptLogprobs` writes it once for each prompt.
"""

import functools
from collections.abc import Sequence
from typing import Any

import orjson

from penstock_engine.outputs import TokenLogprobs
from penstock_server.plan import Plan
from penstock_server.replies.layout import shown
from penstock_server.text.tokenizer import Tokenizer


class PromptLogprobs:
    """Those of one reply."""

    def __init__(self, plan: Plan, tokenizer: Tokenizer) -> None:
        self._plan = plan
        self._tokenizer = tokenizer
        self._written: dict[int, orjson.Fragment] = {}

    def of(self, prompt: int, read: Sequence[TokenLogprobs]) -> orjson.Fragment | None:
        """What is told of one of the request's prompts, fit for orjson; None if nothing is. `read`: as below."""
        count = self._plan.num_prompt_logprobs
        if count is None:
            return None
        if prompt not in self._written:
            told = prompt_logprobs(self._plan.requests[prompt].prompt, read, count, self._tokenizer)
            self._written[prompt] = orjson.Fragment(orjson.dumps(told))
        return self._written[prompt]


def prompt_logprobs(
    token_ids: Sequence[int], read: Sequence[TokenLogprobs], count: int, tokenizer: Tokenizer
) -> list[dict[str, Any] | None]:
    """One object per token, None for the first, which nothing comes before.

    An object has the prompt's own token and the `count` likeliest ones, by their ids. `read`: of the tokens from the
    second one on.
    """

    label = functools.cache(tokenizer.label)  # the likeliest tokens of a text are much the same ones

    def told(logprob: float, rank: int | None, token_id: int) -> dict[str, Any]:
        return {"logprob": shown(logprob), "rank": rank, "decoded_token": label(token_id)}

    objects: list[dict[str, Any] | None] = [None]
    for own_id, logprobs in zip(token_ids[1:], read, strict=True):
        at_place = {str(own_id): told(logprobs.chosen, logprobs.rank, own_id)}
        for rank, (token_id, logprob) in enumerate(logprobs.top[:count], 1):
            at_place[str(token_id)] = told(logprob, rank, token_id)
        objects.append(at_place)
    return objects
