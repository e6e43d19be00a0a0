"""`best_of` through the engine: the likeliest of the answers that a plain request would return."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from scripted_engine import LIMITS, Answers, collect, make_engine, make_request, run_all, run_alone, token_ids

from penstock_engine.limits import most_blocks
from penstock_engine.outputs import TokenOutput
from penstock_engine.request import GenerationRequest, StopConditions

FIELDS: Mapping[str, object] = {"seed": 11, "temperature": 1.2, "top_k": 20}


def contest(n: int, best_of: int, **more: object) -> GenerationRequest:
    """The n best of `best_of` answers."""
    fields = {**FIELDS, **more, "decoding": {"strategy": "sample", "best_of": best_of}, "n": n}
    return make_request("contest", [3, 1, 4, 1, 5], fields, max_tokens=20)


def mean_logprob(answer: list[TokenOutput]) -> float:
    """Of the processed distribution, per token."""
    logprobs = [token.processed.chosen for token in answer if token.processed is not None]
    assert len(logprobs) == len(answer)
    return sum(logprobs) / len(logprobs)


@pytest.mark.parametrize(("n", "best_of"), [(1, 2), (1, 6), (3, 6), (5, 6)])
def test_best_of_the_plain_answers(n: int, best_of: int) -> None:
    """The answers are those of a plain request for all of them, token for token and with the same log-probabilities,
    ranked by their mean; their score says it."""
    asked = {"num_logprobs": 1, "num_processed_logprobs": 0}
    plain = run_alone(make_request("plain", [3, 1, 4, 1, 5], {**FIELDS, **asked, "n": best_of}, max_tokens=20))
    ranked = sorted(plain.values(), key=mean_logprob, reverse=True)
    assert len({len(answer) for answer in ranked}) > 1
    found = run_alone(contest(n, best_of, **asked))
    assert found.keys() == {("contest", choice) for choice in range(n)}
    for choice in range(n):
        answer = found["contest", choice]
        assert [token._replace(choice=0, score=None) for token in answer] == [
            token._replace(choice=0) for token in ranked[choice]
        ]
        assert answer[-1].score == pytest.approx(mean_logprob(answer), abs=1e-6)
        assert answer[-1].inclusion_probability is None


def test_nothing_is_told_before_the_end() -> None:
    """All answers come with the last step."""
    request = contest(2, 4)
    engine = make_engine(replace(LIMITS, num_blocks=1024))
    engine.add(request)
    steps: list[Answers] = []
    while engine.has_work:
        steps.append({})
        collect(engine, steps[-1])
    assert len(steps) > 2
    assert not any(steps[:-1])
    assert steps[-1] == run_alone(request)


def test_preempted_and_mixed_equals_alone() -> None:
    """A contest that is preempted beside others returns what it returns alone."""
    requests = [
        replace(contest(2, 5), priority=1, stop=StopConditions(max_tokens=20)),
        make_request("first", range(1, 10), {"seed": 1}, max_tokens=14, stop_token_ids=()),
        make_request("beam", range(1, 6), {"decoding": {"strategy": "stochastic_beam", "width": 3}, "seed": 2}),
    ]
    engine = make_engine(replace(LIMITS, num_blocks=most_blocks(5, 20, 5, LIMITS.block_size)))
    answers: Answers = {}
    engine.add(requests[0])
    for _ in range(4):
        collect(engine, answers)
    answers |= run_all(engine, requests[1:])
    assert engine.stats.num_preemptions >= 1
    alone: Answers = {}
    for request in requests:
        alone |= run_alone(request)
    assert answers == alone


def test_abort() -> None:
    """A contest goes on for the answer that is still wanted, and ends with the last of them."""
    engine = make_engine(replace(LIMITS, num_blocks=1024))
    engine.add(contest(2, 4))
    answers: Answers = {}
    collect(engine, answers)
    assert not engine.abort("contest", 0)
    while engine.has_work:
        collect(engine, answers)
    whole = run_alone(contest(2, 4))
    assert answers == {("contest", 1): whole["contest", 1]}
    engine.add(replace(contest(2, 4), id="again"))
    collect(engine, answers)
    assert not engine.abort("again", 1)
    assert engine.abort("again", 0)
    engine.check()
    assert engine.stats.num_blocks_in_use == 0
    assert token_ids(whole["contest", 0]) != token_ids(whole["contest", 1])
