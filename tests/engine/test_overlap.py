"""Steps launched before the one before them is looked at: every answer is what it is without, and nothing leaks."""

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from launching_runner import ScriptedLaunches
from numpy.typing import NDArray
from scripted_engine import (
    LIMITS,
    VOCAB_SIZE,
    Answers,
    collect,
    make_request,
    noise,
    run_all,
    run_alone,
    token_ids,
)

from penstock_engine.engine import Engine, Failure
from penstock_engine.limits import Limits, most_blocks
from penstock_engine.outputs import Finish, StepOutput
from penstock_engine.request import GenerationRequest

# What a step can be launched with, and what it cannot.
LAUNCHED: tuple[dict[str, object], ...] = (
    {"temperature": 0},
    {"temperature": 0, "n": 2},
    {"temperature": 1.3, "top_k": 7},
    {"temperature": 0.7, "top_p": 0.8, "n": 3},
    {"repetition_penalty": 1.3, "frequency_penalty": 0.5, "presence_penalty": 0.2, "min_p": 0.05, "n": 2},
    {"num_logprobs": 3, "n": 4},
)
COMPUTED: tuple[dict[str, object], ...] = (
    {"decoding": {"strategy": "beam", "width": 3}},
    {"decoding": {"strategy": "stochastic_beam", "width": 2}},
    {"best_of": 3},
    {"logit_bias": {"3": 2.0}, "n": 2},
    {"min_tokens": 3},
    {"num_processed_logprobs": 1},
)


def make_launching(
    limits: Limits = LIMITS, *, is_late: bool = True, prefix_caching: bool = True
) -> tuple[Engine, ScriptedLaunches]:
    """An engine that launches steps, and its runner."""
    runner = ScriptedLaunches(noise, num_blocks=limits.num_blocks, block_size=limits.block_size, is_late=is_late)
    return Engine(runner, limits, prefix_caching=prefix_caching), runner


def random_request(name: str, rng: random.Random) -> GenerationRequest:
    """A request that can be launched, or at times one that cannot; stop tokens that come soon or late."""
    fields = rng.choice(LAUNCHED if rng.random() < 0.85 else COMPUTED)
    shared = tuple(range(1, 10)[: rng.randrange(10)])
    return make_request(
        name,
        (*shared, *(rng.randrange(VOCAB_SIZE) for _ in range(rng.randrange(1, 12)))),
        {"seed": rng.randrange(2**40), **fields},
        max_tokens=rng.randrange(1, 24),
        stop_token_ids=rng.choice([(), (0,), (0, 5, 11, 17, 23)]),
        min_tokens=3 if "min_tokens" in fields else 0,
        priority=rng.choice([0, 0, 1]),
        cache_salt=rng.choice("ab"),
    )


def random_limits(requests: list[GenerationRequest], rng: random.Random) -> Limits:
    """At times just the blocks that the largest request needs, at times room for all."""
    block_size = rng.choice([1, 2, 4, 16])
    most = max(most_blocks(len(r.prompt), r.stop.max_tokens, 4, block_size) for r in requests)
    num_blocks = most + rng.choice([0, 3, 20, 400])
    return replace(LIMITS, block_size=block_size, num_blocks=num_blocks, max_batch_tokens=rng.choice([8, 13, 64]))


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_output_equals_the_solo_output(seed: int) -> None:
    """Random arrivals, chunks, preemptions and stops among launched and other requests: the answers of an engine that
    waits for each step, and no block left behind."""
    rng = random.Random(seed)
    requests = [random_request(str(i), rng) for i in range(8)]
    engine, runner = make_launching(
        random_limits(requests, rng), is_late=rng.random() < 0.7, prefix_caching=rng.random() < 0.7
    )
    arriving, answers = list(requests), Answers()
    rate = rng.choice([0.1, 0.5])
    while arriving or engine.has_work:
        while arriving and rng.random() < rate:
            engine.add(arriving.pop())
        collect(engine, answers)
    assert engine.stats.num_blocks_in_use == 0
    assert runner.most_under_way <= 2
    alone: Answers = {}
    for request in requests:
        alone |= run_alone(request)
    assert answers == alone


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_aborts_free_everything_and_touch_nobody_else(seed: int) -> None:
    """Requests and single answers aborted while steps that compute them are under way: nothing of theirs comes out any
    more, their blocks are free once that step has landed, and the others go on unchanged."""
    rng = random.Random(seed)
    requests = [random_request(str(i), rng) for i in range(8)]
    engine, _ = make_launching(random_limits(requests, rng), is_late=rng.random() < 0.7)
    arriving, answers = list(requests), Answers()
    aborted: set[tuple[str, int]] = set()
    while arriving or engine.has_work:
        while arriving and rng.random() < 0.5:
            engine.add(arriving.pop())
        arrived = [request for request in requests if request not in arriving]
        if arrived and rng.random() < 0.3:
            victim = rng.choice(arrived)
            choice = rng.choice([None, 0, 1, 3])
            engine.abort(victim.id, choice)
            engine.check()
            aborted |= {(victim.id, c) for c in (range(8) if choice is None else [choice])}
            before = {key: len(answers.get(key, [])) for key in aborted}
            collect(engine, answers)
            assert before == {key: len(answers.get(key, [])) for key in aborted}, "an aborted answer went on"
        collect(engine, answers)
    assert engine.stats.num_blocks_in_use == 0
    for request in requests:
        if request.decoding.strategy.name not in ("greedy", "sample"):
            continue
        for key, answer in run_alone(request).items():
            got = answers.get(key, [])
            assert got == answer[: len(got)]
            assert key in aborted or len(got) == len(answer)


def test_steady_decoding_is_launched_one_step_ahead() -> None:
    """One prompt step, then every token from a launched step, two of which are under way at a time."""
    engine, runner = make_launching()
    request = make_request("a", [1, 2, 3], {"seed": 1}, max_tokens=12, stop_token_ids=())
    answers = run_all(engine, [request])
    assert (runner.num_forwards, runner.num_launched, runner.most_under_way) == (1, 11, 2)
    assert answers == run_alone(request)
    assert engine.stats.num_steps == 12


def test_a_token_computed_once_too_often_is_not_told_and_not_counted() -> None:
    """A stop token is seen one step late: the row was in the next step already. Its neighbour goes on."""
    free = make_request("a", [1, 2, 3], {"temperature": 0}, max_tokens=12, stop_token_ids=())
    tokens = token_ids(run_alone(free)["a", 0])
    place = next(i for i in range(3, 12) if tokens[i] not in tokens[:i])
    stopping = replace(free, stop=replace(free.stop, token_ids=(tokens[place],)))
    neighbour = make_request("b", [4], {"seed": 3}, max_tokens=12, stop_token_ids=())
    engine, runner = make_launching()
    answers = run_all(engine, [stopping, neighbour])
    assert token_ids(answers["a", 0]) == tokens[: place + 1]
    assert answers["a", 0][-1].finish == Finish.STOP
    assert answers["b", 0] == run_alone(neighbour)["b", 0]
    assert engine.stats.num_generated_tokens == place + 1 + 12
    alone, runner = make_launching()
    run_all(alone, [stopping])
    assert runner.num_launched == place + 1, "the last launched step was for nothing"


def test_the_last_token_by_length_is_known_beforehand() -> None:
    """No row is computed past `max_tokens`: of two lengths, the last launched steps have one row."""
    engine, runner = make_launching()
    short = make_request("short", [1], {"seed": 1}, max_tokens=4, stop_token_ids=())
    long = make_request("long", [2], {"seed": 2}, max_tokens=9, stop_token_ids=())
    answers = run_all(engine, [short, long])
    assert answers == run_alone(short) | run_alone(long)
    assert runner.num_launched == 8


def test_blocks_of_an_aborted_request_stay_until_the_step_under_way_has_landed() -> None:
    """The launched step still writes into them; the next step frees them."""
    engine, _ = make_launching()
    engine.add(make_request("a", [1] * 9, {"seed": 1}, max_tokens=20, stop_token_ids=()))
    for _ in range(4):
        engine.step()
    in_use = engine.stats.num_blocks_in_use
    assert engine.abort("a")
    engine.check()
    assert engine.stats.num_blocks_in_use == in_use > 0
    assert engine.has_work
    assert engine.step() == []
    engine.check()
    assert engine.stats.num_blocks_in_use == 0
    assert not engine.has_work


def test_blocks_of_a_row_that_stopped_stay_until_the_step_under_way_has_landed() -> None:
    """As for an abort, but found out by landing the step before."""
    free = make_request("a", [1, 2, 3], {"temperature": 0}, max_tokens=12, stop_token_ids=())
    stop = token_ids(run_alone(free)["a", 0])[2]
    engine, _ = make_launching()
    engine.add(replace(free, stop=replace(free.stop, token_ids=(stop,))))
    outputs: list[StepOutput] = []
    while not (outputs and outputs[-1].is_last):
        for _, output in engine.step():
            assert not isinstance(output, Failure)
            outputs.append(output)
        engine.check()
    assert engine.stats.num_blocks_in_use > 0
    assert engine.step() == []
    engine.check()
    assert engine.stats.num_blocks_in_use == 0


def test_a_new_request_is_taken_up_after_the_step_under_way() -> None:
    """It waits for one step, gets its prompt computed with the others' tokens, and steps are launched again."""
    engine, runner = make_launching()
    answers: Answers = {}
    first = make_request("first", [1], {"seed": 1}, max_tokens=20, stop_token_ids=())
    second = make_request("second", [2, 3, 4], {"seed": 2}, max_tokens=6, stop_token_ids=())
    engine.add(first)
    for _ in range(6):
        collect(engine, answers)
    num_launched = runner.num_launched
    engine.add(second)
    collect(engine, answers)
    assert runner.num_launched == num_launched, "a step was launched before the prompt was computed"
    assert runner.num_forwards == 1
    collect(engine, answers)
    assert runner.num_forwards == 2 and len(answers["second", 0]) == 1
    while engine.has_work:
        collect(engine, answers)
    assert answers == run_alone(first) | run_alone(second)
    assert runner.num_forwards == 2


def test_full_blocks_are_found_by_others_only_once_their_tokens_are_known() -> None:
    """What a request decoded in launched steps is a prefix like any other: a second one starts from it."""
    engine, _ = make_launching()
    first = make_request("a", [1, 2, 3, 4, 5], {"seed": 1}, max_tokens=12, stop_token_ids=())
    told = token_ids(run_all(engine, [first])["a", 0])
    again = make_request("b", [*first.prompt, *told], {"temperature": 0}, max_tokens=2, stop_token_ids=())
    engine.add(again)
    before = engine.stats.num_prefix_hit_tokens
    answers = run_all(engine, [])
    assert engine.stats.num_prefix_hit_tokens - before == 16  # four full blocks of the seventeen tokens
    assert answers == run_alone(again)


def test_preemption_waits_for_the_step_under_way_and_is_invisible() -> None:
    """In a pool that cannot hold all answers to their ends, requests go back to the queue between launched steps."""
    requests = [make_request(str(i), [i, 1, 2, 3, 4], {"seed": i}, max_tokens=20, stop_token_ids=()) for i in range(6)]
    engine, runner = make_launching(replace(LIMITS, num_blocks=14))
    answers = run_all(engine, requests)
    assert engine.stats.num_preemptions >= 2
    assert runner.num_launched > 20
    for request in requests:
        assert {key: answers[key] for key in answers if key[0] == request.id} == run_alone(request)


def test_a_step_that_the_runner_refuses_is_computed() -> None:
    """Launched as long as the runner has room for it, and from then on computed, with the blocks it was given."""
    runner = ScriptedLaunches(noise, num_blocks=LIMITS.num_blocks, block_size=LIMITS.block_size, most_tokens=30)
    engine = Engine(runner, LIMITS)
    requests = [make_request(str(i), [i, 1, 2], {"seed": i}, max_tokens=20, stop_token_ids=()) for i in range(2)]
    answers = run_all(engine, requests)
    assert answers == run_alone(requests[0]) | run_alone(requests[1])
    assert (runner.num_launched, runner.num_forwards) == (12, 8)
    assert engine.stats.num_blocks_in_use == 0


@pytest.mark.parametrize("fields", COMPUTED, ids=lambda fields: next(iter(fields)))
def test_what_cannot_be_launched_is_computed_step_by_step(fields: dict[str, object]) -> None:
    """Searches and processors of the host hold every step back, and neighbours get what they get alone."""
    request = make_request("a", [1, 2], {"seed": 1, **fields}, max_tokens=5, stop_token_ids=())
    neighbour = make_request("b", [3], {"seed": 2}, max_tokens=9, stop_token_ids=())
    engine, runner = make_launching()
    answers = run_all(engine, [request, neighbour])
    assert answers == run_alone(request) | run_alone(neighbour)
    assert 0 < runner.num_launched < 8


def test_a_watched_request_is_computed_step_by_step() -> None:
    """Whoever watches is told of each step as it is made."""
    request = replace(make_request("a", [1, 2], {"seed": 1}, max_tokens=5, stop_token_ids=()), is_watched=True)
    engine, runner = make_launching()
    run_all(engine, [request])
    assert runner.num_launched == 0


def test_a_fault_in_a_launched_step_fails_that_request_alone() -> None:
    """Scores that are not finite are found out one step late; the row has been computed once more by then."""

    def broken(prefix: Sequence[int]) -> NDArray[np.float32]:
        scores = noise(prefix)
        if prefix[0] == 7 and len(prefix) == 6:
            scores[3] = np.nan
        return scores

    runner = ScriptedLaunches(broken, num_blocks=LIMITS.num_blocks, block_size=LIMITS.block_size)
    engine = Engine(runner, LIMITS)
    neighbour = make_request("well", [1, 2, 3], {"seed": 1}, stop_token_ids=())
    engine.add(make_request("ill", [7, 7, 7], {"seed": 1, "n": 2}, stop_token_ids=()))
    engine.add(neighbour)
    outputs = []
    while engine.has_work:
        outputs += engine.step()
        engine.check()
    failures = [(name, output) for name, output in outputs if isinstance(output, Failure)]
    assert [name for name, _ in failures] == ["ill"]
    assert "finite" in failures[0][1].message
    well = [t for name, o in outputs if name == "well" and not isinstance(o, Failure) for t in o.tokens]
    assert well == run_alone(neighbour)["well", 0]
    assert engine.stats.num_blocks_in_use == 0
