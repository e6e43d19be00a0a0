"""Builders for engine tests on a scripted runner: known logits, no model."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from penstock_decoding.params import read_decoding
from penstock_engine.engine import Engine, Failure
from penstock_engine.limits import Limits
from penstock_engine.outputs import TokenOutput
from penstock_engine.request import GenerationRequest, StopConditions
from penstock_engine.scripted import Script, ScriptedRunner

VOCAB_SIZE = 29
END = 0

LIMITS = Limits(
    max_model_len=128,
    max_rows=8,
    max_batch_tokens=16,
    max_queue=64,
    num_blocks=64,
    block_size=4,
    vocab_size=VOCAB_SIZE,
)

Answers = dict[tuple[str, int], list[TokenOutput]]


def noise(prefix: Sequence[int]) -> NDArray[np.float32]:
    """Logits that any change of the prefix changes beyond recognition."""
    digest = blake2b(np.asarray(prefix, np.int64).tobytes(), digest_size=2 * VOCAB_SIZE)
    return np.frombuffer(digest.digest(), np.uint16).astype(np.float32) / np.float32(2**14)


def make_engine(limits: Limits = LIMITS, script: Script = noise, *, prefix_caching: bool = True) -> Engine:
    """An engine on a scripted runner."""
    runner = ScriptedRunner(script, num_blocks=limits.num_blocks, block_size=limits.block_size)
    return Engine(runner, limits, prefix_caching=prefix_caching)


def make_request(
    name: str,
    prompt: Sequence[int],
    fields: Mapping[str, object],
    *,
    max_tokens: int = 8,
    stop_token_ids: Sequence[int] = (END,),
    min_tokens: int = 0,
    priority: int = 0,
    cache_salt: str = "",
) -> GenerationRequest:
    """A request whose decoding is read from API fields."""
    return GenerationRequest(
        id=name,
        prompt=tuple(prompt),
        decoding=read_decoding(fields, vocab_size=VOCAB_SIZE),
        stop=StopConditions(max_tokens, tuple(stop_token_ids), min_tokens),
        priority=priority,
        cache_salt=cache_salt,
    )


def collect(engine: Engine, answers: Answers) -> None:
    """One step; its tokens are added to `answers`, and the engine's books are checked."""
    for request_id, output in engine.step():
        assert not isinstance(output, Failure), output
        for token in output.tokens:
            answers.setdefault((request_id, token.choice), []).append(token)
    engine.check()


def run_all(engine: Engine, requests: Iterable[GenerationRequest]) -> Answers:
    """All requests at once, to their ends."""
    answers: Answers = {}
    for request in requests:
        engine.add(request)
    while engine.has_work:
        collect(engine, answers)
    return answers


def run_alone(request: GenerationRequest) -> Answers:
    """The request by itself in an engine with room and budget for everything at once."""
    return run_all(make_engine(replace(LIMITS, num_blocks=1024, max_batch_tokens=1024, max_rows=64)), [request])


def token_ids(answer: Sequence[TokenOutput]) -> list[int]:
    """The tokens of one answer."""
    return [token.token_id for token in answer]
