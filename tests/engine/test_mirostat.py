"""Mirostat through the engine: forks of a shared prompt, preemption and company change no answer's control loop."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scripted_engine import (
    LIMITS,
    Answers,
    collect,
    make_engine,
    make_request,
    noise,
    run_alone,
    token_ids,
)

from penstock_engine.limits import most_blocks
from penstock_engine.outputs import TokenOutput
from penstock_engine.request import GenerationRequest

TARGET, RATE = 2.0, 0.7
FIELDS = {"mirostat": 2, "mirostat_tau": TARGET, "mirostat_eta": RATE, "num_processed_logprobs": 0}


def requests() -> list[GenerationRequest]:
    """Several answers each, of equal length, on prompts that share a start."""
    return [
        make_request(str(i), [1, 2, 3, 4, 5, i], FIELDS | {"n": 4, "seed": i}, max_tokens=14, stop_token_ids=())
        for i in range(3)
    ]


def assert_controlled(prompt: tuple[int, ...], answer: list[TokenOutput]) -> None:
    """Every token was drawn from the tokens within mu, mu moved by the definition from the first token on."""
    mu, prefix = 2 * TARGET, list(prompt)
    for token in answer:
        logits = noise(prefix).astype(np.float64)
        bits = -np.log2(np.exp(logits) / np.exp(logits).sum())
        allowed = (bits <= mu) | (logits == logits.max())
        assert allowed[token.token_id]
        surprise = bits[token.token_id] + math.log2((2.0 ** -bits[allowed]).sum())
        assert token.processed is not None
        assert token.processed.chosen == pytest.approx(-surprise * math.log(2), abs=1e-4)
        mu -= RATE * (surprise - TARGET)
        prefix.append(token.token_id)


def test_preempted_and_in_company_equals_alone() -> None:
    """A pool with room for hardly one request at a time preempts the others again and again."""
    wanted, alone = requests(), Answers()
    for request in wanted:
        alone |= run_alone(request)
    longest = max(len(request.prompt) for request in wanted)
    engine = make_engine(replace(LIMITS, num_blocks=most_blocks(longest, 14, 4, LIMITS.block_size) + 3))
    answers = Answers()
    for request in wanted:
        engine.add(request)
    while engine.has_work:
        collect(engine, answers)
    assert engine.stats.num_preemptions > 0
    assert answers == alone
    for request in wanted:
        for choice in range(4):
            assert_controlled(request.prompt, answers[request.id, choice])
    assert len({tuple(token_ids(answer)) for answer in answers.values()}) == 12
