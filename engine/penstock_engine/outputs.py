"""What leaves the engine: per request and step, which answer got which token. Torch-free, text-free."""

from dataclasses import dataclass

from penstock_decoding.finish import Finish as Finish


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log-probabilities at one position: the model's own, log-softmax of untouched logits.

    `top` holds (token id, log-probability) of the likeliest tokens, likeliest first; it has as many entries as the
    request's `num_logprobs`, and need not hold the chosen token.
    """

    chosen: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class TokenOutput:
    """One token of one answer.

    `choice` is the answer's index in 0..n-1. `finish` other than OPEN says that this token is its last; the token
    that ended it (an end-of-text or stop token id) is included. `logprobs` is None unless the request asked.
    """

    choice: int
    token_id: int
    finish: Finish
    logprobs: TokenLogprobs | None = None


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What one engine step gave one request: at most one token per answer, in order of `choice`.

    `is_last`: no further output follows. `num_cached_tokens`: prompt tokens that came from the prefix cache.
    """

    tokens: tuple[TokenOutput, ...]
    is_last: bool
    num_cached_tokens: int = 0
