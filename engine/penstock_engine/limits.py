"""What a request may ask for at most, so that one that can never be served is refused at once, with the numbers."""

from dataclasses import dataclass

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import NeedsStop
from penstock_engine.errors import RequestRefused
from penstock_engine.request import GenerationRequest


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes decided at start. Lengths in tokens."""

    max_model_len: int
    max_rows: int
    max_batch_tokens: int
    max_queue: int
    num_blocks: int
    block_size: int
    vocab_size: int


def check_request(request: GenerationRequest, num_rows: int, limits: Limits) -> None:
    """Refuse a request that could not be served even if it were alone. `num_rows`: what it holds at once at most.

    Raises:
        RequestRefused: names the field and the numbers.
    """
    num_prompt, max_tokens = len(request.prompt), request.stop.max_tokens
    if num_prompt == 0:
        raise RequestRefused("prompt", "the prompt has no tokens")
    if not all(0 <= token < limits.vocab_size for token in request.prompt):
        raise RequestRefused("prompt", f"the prompt has token ids outside the vocabulary of {limits.vocab_size}")
    _check_reading(request, limits)
    if num_prompt + max_tokens > limits.max_model_len:
        raise RequestRefused(
            "max_tokens",
            f"the prompt has {num_prompt} tokens and max_tokens is {max_tokens}: "
            f"together more than the context length of {limits.max_model_len}",
        )
    _check_stop(request)
    if num_rows > limits.max_rows:
        # A search may need more rows than it returns answers: then it is not their number that is too large.
        field = "n" if num_rows == getattr(request.decoding.strategy.params, "n", None) else "decoding"
        raise RequestRefused(field, f"needs {num_rows} rows at once; this server runs at most {limits.max_rows}")
    needed = most_blocks(num_prompt, max_tokens, num_rows, limits.block_size)
    if needed > limits.num_blocks:
        raise RequestRefused(
            "max_tokens",
            f"{num_rows} x ({num_prompt} prompt + {max_tokens} generated) tokens need {needed} KV cache blocks of "
            f"{limits.block_size}; this server has {limits.num_blocks}",
        )


def _check_reading(request: GenerationRequest, limits: Limits) -> None:
    reading, max_tokens = request.reading, request.stop.max_tokens
    if max_tokens < 0 or (max_tokens == 0 and reading is None):
        raise RequestRefused("max_tokens", "must be at least 1, or 0 where something is asked about the prompt")
    if reading is None:
        return
    count = reading.num_logprobs
    if count is None and reading.pooling is None:
        raise RequestRefused("reading", "asks for nothing")
    if not 1 <= reading.first <= len(request.prompt):
        raise RequestRefused("reading", f"tells of tokens from {reading.first} on: must be 1 to {len(request.prompt)}")
    if count is not None and not 0 <= count <= limits.vocab_size:
        raise RequestRefused("prompt_logprobs", f"must be from 0 to the size of the vocabulary, {limits.vocab_size}")


def _check_stop(request: GenerationRequest) -> None:
    stop, decoding = request.stop, request.decoding
    for path, step in (("decoding", decoding.strategy), *((step.name, step) for step in decoding.chain)):
        if isinstance(step.params, NeedsStop):
            try:
                step.params.check_stop(stop.token_ids, stop.min_tokens, stop.max_tokens)
            except ParameterError as error:
                raise RequestRefused(f"{path}.{error.param}", error.message) from None


def most_blocks(num_prompt: int, max_tokens: int, num_rows: int, block_size: int) -> int:
    """Blocks a request holds at most. Rows share the prompt's full blocks; an answer's last token is never computed."""
    per_row = -(-(num_prompt + max(max_tokens - 1, 0)) // block_size)
    shared = num_prompt // block_size if num_rows > 1 else 0
    return shared + num_rows * (per_row - shared)
