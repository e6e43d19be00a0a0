"""What leaves the engine: per request and step, which answer got which tokens. Torch-free, text-free."""

import enum
from dataclasses import dataclass
from typing import NamedTuple

from penstock_decoding.finish import Finish as Finish
from penstock_decoding.sample_row import StepTrace as StepTrace


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log-probabilities at one position: the chosen token's, and (token id, log-probability) of the likeliest tokens.

    `top` comes likeliest first, has as many entries as were asked for, and need not hold the chosen token. `rank`: the
    chosen token's place among all tokens, 1 for the likeliest; told of prompt tokens only.
    """

    chosen: float
    top: tuple[tuple[int, float], ...]
    rank: int | None = None


class TokenOutput(NamedTuple):
    """One token of one answer. (A named tuple, as `StepOutput` is: there is one for every token, and a frozen dataclass
    takes four times as long to make.)

    `choice` is the answer's index in 0..n-1. `finish` other than OPEN says that this token is its last; the token
    that ended it (an end-of-text or stop token id) is included. `logprobs`: the model's own, log-softmax of untouched
    logits; `processed`: of the distribution that was chosen from; each None unless the request asked or, for
    `processed`, is watched. `score`: what a search ranked the answer by, and `inclusion_probability`: that of being
    among the answers of a search without replacement; None but on the last token of an answer that has one. `trace`:
    the steps of the chain at this token; None unless asked.
    """

    choice: int
    token_id: int
    finish: Finish
    logprobs: TokenLogprobs | None = None
    processed: TokenLogprobs | None = None
    score: float | None = None
    inclusion_probability: float | None = None
    trace: tuple[StepTrace, ...] | None = None


class Fate(enum.IntEnum):
    """What became of a node in the step that added it: it is gone on from, it ends an answer, or neither."""

    LIVE = 0
    COMPLETE = 1
    DROPPED = 2


@dataclass(frozen=True, slots=True)
class WatchedStep:
    """What one step did to a request's search, for whoever watches it.

    The first five have an entry for each node that the step added: its number, which is never given again, the node it
    follows (0 is the prompt), its token, the log-probability of all tokens up to it in the processed distributions, and
    its fate. `dropped`: nodes of earlier steps that no answer can go through any more. `settled`: (answer, node) pairs,
    in order: the tokens that now belong to an answer for good. `tentative`: of the live hypothesis with the highest
    score, the tokens that come after what is settled of answer 0; None if the strategy settles every token at once.
    """

    node: tuple[int, ...]
    parent: tuple[int, ...]
    token_id: tuple[int, ...]
    score: tuple[float, ...]
    fate: tuple[Fate, ...]
    dropped: tuple[int, ...]
    settled: tuple[tuple[int, int], ...]
    tentative: tuple[int, ...] | None


class StepOutput(NamedTuple):
    """What one engine step gave one request: each answer's tokens in order. A search may settle several at once.

    `is_last`: no further output follows; an answer that has not ended by then does not exist: a search found fewer.
    `num_cached_tokens`: prompt tokens that came from the prefix cache. `watched`: None unless the request is.

    What a request with a `reading` gets: `prompt_logprobs`, those of the prompt tokens that this step has read, on from
    where the step before stopped, beginning with the token that the request names; all of them have come before, or
    with, the first generated token. `embedding`: float32 [hidden_size], not normalised, in the step that
    ends the prompt. Without tokens to generate, that step is the last one.
    """

    tokens: tuple[TokenOutput, ...]
    is_last: bool
    num_cached_tokens: int = 0
    watched: WatchedStep | None = None
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    embedding: bytes | None = None
