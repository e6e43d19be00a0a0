"""Whatever shares the batch, whatever the pool, whenever requests come and go: each output is the request's own."""

import random
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_engine import (
    LIMITS,
    VOCAB_SIZE,
    Answers,
    collect,
    make_engine,
    make_request,
    run_all,
    run_alone,
)

from penstock_decoding.draws import Best
from penstock_decoding.params import DecodingParams, Step
from penstock_decoding.strategies import STRATEGIES
from penstock_decoding.strategy import Branches, Drawn, Live, StopRule
from penstock_engine.limits import Limits, most_blocks
from penstock_engine.request import GenerationRequest

SHARED_START = tuple(range(1, 14))


@dataclass(frozen=True, slots=True)
class TreeParams:
    """How many rows to keep."""

    width: int


class Tree:
    """A small beam search: forks, drops and reorders rows at every step, which the shipped strategies rarely do.

    The i-th kept row's token is reported as answer i, though it may continue another row's answer.
    """

    Params = TreeParams

    def __init__(self, params: TreeParams) -> None:
        self.max_live = params.width
        self._width = params.width
        self._scores = np.zeros(1)

    def draw(self, live: Live, stop: StopRule) -> Best:
        return Best(count=3)

    def advance(self, live: Live, drawn: Drawn, stop: StopRule) -> Branches:
        scores = (self._scores[:, None] + drawn.logprobs).reshape(-1)
        kept = np.argsort(-scores, kind="stable")[: self._width]
        kept = kept[np.argsort(kept // 3, kind="stable")]
        token = drawn.tokens.reshape(-1)[kept]
        finish = stop.finishes(token, live.num_generated + 1)
        self._scores = scores[kept][finish == 0]
        return Branches(parent=kept // 3, token=token, choice=np.arange(len(kept)), finish=finish)

    def drop(self, choice: int) -> list[int]:
        return []


@pytest.fixture(autouse=True)
def _with_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRATEGIES, "tree", Tree)


def random_request(name: str, rng: random.Random) -> GenerationRequest:
    """A request of any kind: strategies, chains, lengths, shared prompt starts, priorities."""
    start = SHARED_START[: rng.randrange(len(SHARED_START) + 1)]
    prompt = (*start, *(rng.randrange(VOCAB_SIZE) for _ in range(rng.randrange(1, 16))))
    fields = {
        "temperature": rng.choice([0, 0.7, 1.3]),
        "top_k": rng.choice([0, 5]),
        "top_p": rng.choice([1, 0.8]),
        "repetition_penalty": rng.choice([1, 1.3]),
        "frequency_penalty": rng.choice([0, 0.5]),
        "n": rng.choice([1, 1, 2, 4]),
        "seed": rng.randrange(2**40),
        "num_logprobs": rng.choice([None, 0, 3]),
    }
    request = make_request(
        name,
        prompt,
        fields,
        max_tokens=rng.randrange(1, 18),
        priority=rng.choice([0, 0, 1]),
        cache_salt=rng.choice("ab"),
    )
    if rng.random() < 0.3:
        width = rng.randrange(1, 5)
        decoding = DecodingParams(Step("tree", TreeParams(width)), request.decoding.chain, seed=1)
        return replace(request, decoding=decoding)
    return request


def tight_limits(requests: list[GenerationRequest], rng: random.Random) -> Limits:
    """The smallest pool in which each request fits alone, and a few blocks more at times."""
    block_size = rng.choice([1, 3, 4, 16])
    most = max(
        most_blocks(
            len(r.prompt),
            r.stop.max_tokens,
            STRATEGIES[r.decoding.strategy.name](r.decoding.strategy.params).max_live,
            block_size,
        )
        for r in requests
    )
    return replace(
        LIMITS, block_size=block_size, num_blocks=most + rng.randrange(4), max_batch_tokens=rng.choice([8, 13, 64])
    )


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_output_equals_the_solo_output(seed: int) -> None:
    """Random arrivals, chunk sizes, forks, preemptions and tiny pools change nothing, and nothing leaks."""
    rng = random.Random(seed)
    requests = [random_request(str(i), rng) for i in range(9)]
    engine = make_engine(tight_limits(requests, rng), prefix_caching=rng.random() < 0.7)
    arriving, answers = list(requests), Answers()
    while arriving or engine.has_work:
        while arriving and rng.random() < 0.5:
            engine.add(arriving.pop())
        collect(engine, answers)
    assert engine.stats.num_blocks_in_use == 0
    alone: Answers = {}
    for request in requests:
        alone |= run_alone(request)
    assert answers == alone


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_aborts_free_everything_and_touch_nobody_else(seed: int) -> None:
    """Requests and single answers aborted at any moment: their blocks are free at once, the others go on unchanged."""
    rng = random.Random(seed)
    requests = [random_request(str(i), rng) for i in range(9)]
    engine = make_engine(tight_limits(requests, rng))
    arriving, answers = list(requests), Answers()
    aborted: set[tuple[str, int]] = set()
    while arriving or engine.has_work:
        while arriving and rng.random() < 0.5:
            engine.add(arriving.pop())
        arrived = [request for request in requests if request not in arriving]
        if arrived and rng.random() < 0.3:
            victim = rng.choice(arrived)
            choice = rng.choice([None, 0, 1, 3]) if victim.decoding.strategy.name != "tree" else None
            engine.abort(victim.id, choice)
            engine.check()
            aborted |= {(victim.id, c) for c in (range(8) if choice is None else [choice])}
            before = {key: len(answers.get(key, [])) for key in aborted}
            collect(engine, answers)
            assert before == {key: len(answers.get(key, [])) for key in aborted}, "an aborted answer went on"
        collect(engine, answers)
    assert engine.stats.num_blocks_in_use == 0
    for request in requests:
        for key, answer in run_alone(request).items():
            got = answers.get(key, [])
            assert got == answer[: len(got)]
            assert key in aborted or len(got) == len(answer)


def test_preemption_really_happens_and_is_invisible() -> None:
    """Guards the property above against never meeting a preemption: here several must happen."""
    requests = [make_request(str(i), [i, 1, 2, 3, 4], {"seed": i}, max_tokens=20, stop_token_ids=()) for i in range(6)]
    engine = make_engine(replace(LIMITS, num_blocks=14))
    answers = run_all(engine, requests)
    assert engine.stats.num_preemptions >= 2
    for request in requests:
        assert {key: answers[key] for key in answers if key[0] == request.id} == run_alone(request)


def test_forks_survive_preemption_in_a_pool_just_large_enough() -> None:
    """Samples of one request share their prompt again when they come back: otherwise they would not fit at all."""
    limits = replace(LIMITS, num_blocks=most_blocks(18, 12, 4, 4))
    requests = [
        make_request("many", range(1, 19), {"n": 4, "seed": 3}, max_tokens=12, stop_token_ids=(), priority=1),
        make_request("first", range(5, 25), {"seed": 4}, max_tokens=12, stop_token_ids=()),
    ]
    engine = make_engine(limits)
    answers: Answers = {}
    engine.add(requests[0])
    for _ in range(5):
        collect(engine, answers)
    engine.add(requests[1])
    while engine.has_work:
        collect(engine, answers)
    assert answers == run_alone(requests[0]) | run_alone(requests[1])
