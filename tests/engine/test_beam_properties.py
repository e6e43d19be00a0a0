"""Searches among other requests, whatever the pool, whenever anything comes or goes: each finds what it finds alone."""

import random
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_engine import LIMITS, VOCAB_SIZE, Answers, collect, make_engine, make_request, run_alone

from penstock_decoding.strategies import STRATEGIES
from penstock_engine.limits import Limits, most_blocks
from penstock_engine.request import GenerationRequest

SHARED_START = tuple(range(1, 14))


def random_search(rng: random.Random) -> dict[str, object]:
    """The `decoding` of a beam search of any kind."""
    width = rng.choice([1, 2, 3, 4, 6])
    groups = rng.choice([group for group in (1, 2, 3) if width % group == 0])
    return {
        "strategy": "beam",
        "width": width,
        "n": rng.randrange(1, width + 1),
        "length_penalty": rng.choice([-1.0, 0.0, 0.6, 1.0, 2.0]),
        "early_stopping": rng.choice([False, True, "never"]),
        "groups": groups,
        "diversity_penalty": rng.choice([0.0, 0.5, 3.0]) if groups > 1 else 0.0,
    }


def random_request(name: str, rng: random.Random) -> GenerationRequest:
    """A search more often than not, a sample or a greedy answer otherwise; any chain, length and priority."""
    start = SHARED_START[: rng.randrange(len(SHARED_START) + 1)]
    prompt = (*start, *(rng.randrange(VOCAB_SIZE) for _ in range(rng.randrange(1, 16))))
    fields: dict[str, object] = {
        "top_k": rng.choice([0, 5]),
        "repetition_penalty": rng.choice([1, 1.3]),
        "frequency_penalty": rng.choice([0, 0.5]),
        "seed": rng.randrange(2**40),
        "num_logprobs": rng.choice([None, 0, 3]),
    }
    if rng.random() < 0.7:
        fields |= {"decoding": random_search(rng), "temperature": rng.choice([0.7, 1.3])}
    else:
        fields |= {"n": rng.choice([1, 3]), "temperature": rng.choice([0, 1.0])}
    return make_request(
        name, prompt, fields, max_tokens=rng.randrange(1, 12), priority=rng.choice([0, 0, 1]), stop_token_ids=(0, 5)
    )


def tight_limits(requests: Sequence[GenerationRequest], rng: random.Random) -> Limits:
    """The smallest pool in which each request fits alone, and a few blocks more at times."""
    block_size = rng.choice([1, 3, 4, 16])
    most = max(most_blocks(len(r.prompt), r.stop.max_tokens, max_live(r), block_size) for r in requests)
    return replace(
        LIMITS, block_size=block_size, num_blocks=most + rng.randrange(4), max_batch_tokens=rng.choice([8, 13, 64])
    )


def max_live(request: GenerationRequest) -> int:
    return STRATEGIES[request.decoding.strategy.name](request.decoding.strategy.params).max_live


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_output_equals_the_solo_output(seed: int) -> None:
    """Random arrivals, chunk sizes, preemptions and tiny pools: tokens, scores and log-probabilities do not change."""
    rng = random.Random(seed)
    requests = [random_request(str(i), rng) for i in range(7)]
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


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_aborts_free_everything_and_touch_nobody_else(seed: int) -> None:
    """Searches and single answers aborted at any moment: what comes is a beginning of what would have come."""
    rng = random.Random(seed)
    requests = [random_request(str(i), rng) for i in range(7)]
    engine = make_engine(tight_limits(requests, rng))
    arriving, answers = list(requests), Answers()
    aborted: set[tuple[str, int]] = set()
    while arriving or engine.has_work:
        while arriving and rng.random() < 0.5:
            engine.add(arriving.pop())
        arrived = [request for request in requests if request not in arriving]
        if arrived and rng.random() < 0.3:
            victim, choice = rng.choice(arrived), rng.choice([None, 0, 1, 3])
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
