"""Whatever shares the batch, the cache or the pool, and however steps are made: a prompt tells what it tells alone."""

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from launching_runner import ScriptedLaunches
from reading_requests import Heard, having_read, hear_alone, hear_step
from scripted_engine import LIMITS, VOCAB_SIZE, make_request, noise

from penstock_engine.engine import Engine
from penstock_engine.limits import Limits, most_blocks
from penstock_engine.request import GenerationRequest, Pooling
from penstock_engine.scripted import ScriptedRunner

SHARED_START = tuple(range(1, 14))

FIELDS: tuple[dict[str, object], ...] = (
    {"temperature": 0},
    {"temperature": 1.3, "top_k": 7, "n": 3},
    {"repetition_penalty": 1.3, "min_p": 0.05, "num_logprobs": 1},
    {"best_of": 3},
    {"decoding": {"strategy": "beam", "width": 3}},
    {"decoding": {"strategy": "stochastic_beam", "width": 2}, "num_logprobs": 2},
)
POOLINGS: tuple[Pooling | None, ...] = (None, "mean", "last")


def random_request(name: str, rng: random.Random) -> GenerationRequest:
    """Two of three have their prompt read, some of them nothing else."""
    start = SHARED_START[: rng.randrange(len(SHARED_START) + 1)]
    prompt = (*start, *(rng.randrange(VOCAB_SIZE) for _ in range(rng.randrange(0 if start else 1, 25))))
    request = make_request(
        name,
        prompt,
        {"seed": rng.randrange(2**40), **rng.choice(FIELDS)},
        max_tokens=rng.randrange(1, 18),
        priority=rng.choice([0, 0, 1]),
        cache_salt=rng.choice("ab"),
    )
    num_logprobs, pooling = rng.choice([None, 0, 3]), rng.choice(POOLINGS)
    if num_logprobs is None and pooling is None:
        return replace(request, is_watched=rng.random() < 0.2)
    first = rng.choice([1, rng.randrange(1, len(prompt) + 1)])
    return having_read(request, num_logprobs, pooling, max_tokens=rng.choice([0, request.stop.max_tokens]), first=first)


def tight_limits(requests: list[GenerationRequest], rng: random.Random) -> Limits:
    """The smallest pool in which each request fits alone, and a few blocks more at times."""
    block_size = rng.choice([1, 2, 4, 16])
    most = max(
        most_blocks(len(each.prompt), each.stop.max_tokens, 3 if each.stop.max_tokens else 1, block_size)
        for each in requests
    )
    return replace(
        LIMITS, block_size=block_size, num_blocks=most + rng.randrange(4), max_batch_tokens=rng.choice([8, 13, 64])
    )


def make_random_engine(requests: list[GenerationRequest], rng: random.Random) -> Engine:
    """With steps launched ahead or not, a prefix cache or none."""
    limits = tight_limits(requests, rng)
    kind = ScriptedLaunches if rng.random() < 0.5 else ScriptedRunner
    runner = kind(noise, num_blocks=limits.num_blocks, block_size=limits.block_size)
    return Engine(runner, limits, prefix_caching=rng.random() < 0.7)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_prompt_tells_what_it_tells_alone(seed: int) -> None:
    """Random arrivals, chunks, preemptions, forks and prefix hits among prompts that are read and others: what is told
    of each prompt, and every answer, is to the bit what the request gets by itself in one go."""
    rng = random.Random(seed)
    requests = [random_request(str(i), rng) for i in range(9)]
    engine = make_random_engine(requests, rng)
    by_id = {request.id: request for request in requests}
    heard, arriving = {name: Heard() for name in by_id}, list(requests)
    while arriving or engine.has_work:
        while arriving and rng.random() < 0.5:
            engine.add(arriving.pop())
        hear_step(engine, by_id, heard)
    assert engine.stats.num_blocks_in_use == 0
    for request in requests:
        assert heard[request.id].is_over
        assert request.reading is None or heard[request.id].is_complete(request)
        assert heard[request.id] == hear_alone(request)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_an_abort_at_any_moment_touches_nobody_else(seed: int) -> None:
    """Requests aborted while their prompts are read, or later: nothing more is told of them, and what had been is the
    beginning of all there is; the others never notice."""
    rng = random.Random(seed)
    requests = [random_request(str(i), rng) for i in range(8)]
    engine = make_random_engine(requests, rng)
    by_id = {request.id: request for request in requests}
    heard, arriving, aborted = {name: Heard() for name in by_id}, list(requests), set[str]()
    while arriving or engine.has_work:
        while arriving and rng.random() < 0.5:
            engine.add(arriving.pop())
        running = [name for name in by_id if by_id[name] not in arriving and not heard[name].is_over]
        if running and rng.random() < 0.15:
            victim = rng.choice(running)
            engine.abort(victim)
            engine.check()
            heard[victim].is_over = True
            aborted.add(victim)
        hear_step(engine, by_id, heard)
    assert engine.stats.num_blocks_in_use == 0
    for request in requests:
        own, alone = heard[request.id], hear_alone(request)
        if request.id in aborted:
            assert own.prompt_logprobs == alone.prompt_logprobs[: len(own.prompt_logprobs)]
        else:
            assert own == alone
