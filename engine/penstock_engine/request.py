"""`GenerationRequest`: what a user asked the engine for. Torch-free, text-free."""

from dataclasses import dataclass
from typing import Literal

from penstock_decoding.params import DecodingParams


@dataclass(frozen=True, slots=True)
class StopConditions:
    """When an answer ends, told in tokens (stop strings are matched by whoever turns tokens into text).

    `token_ids` end an answer that has at least `min_tokens` tokens before; the ending token is the answer's last one.
    `max_tokens` is the most tokens generated for one answer: at least 1, or 0 for a request that has its prompt read.
    """

    max_tokens: int
    token_ids: tuple[int, ...] = ()
    min_tokens: int = 0


Pooling = Literal["mean", "last"]


@dataclass(frozen=True, slots=True)
class PromptReading:
    """What is told of the prompt itself.

    `num_logprobs`: the log-probability of each prompt token from token `first` on, and so many of the likeliest tokens
    at its place; None: none. Token 0 has none, so that `first` is at least 1; what comes before may be taken from the
    prefix cache. `pooling`: which hidden states behind the model's last norm become the prompt's embedding, the mean of
    all of them or that of the last token; None: there is none.
    """

    num_logprobs: int | None = None
    pooling: Pooling | None = None
    first: int = 1


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One request: a prompt, how to choose tokens, when to stop.

    A lower `priority` number is served first; equal ones in order of arrival. Requests with different `cache_salt`
    never share cached prompt blocks. `is_watched`: each step tells what it did to the search. `reading`: None if
    nothing is asked about the prompt; otherwise what is told is computed, whatever the prefix cache holds.
    """

    id: str
    prompt: tuple[int, ...]
    decoding: DecodingParams
    stop: StopConditions
    priority: int = 0
    cache_salt: str = ""
    is_watched: bool = False
    reading: PromptReading | None = None
