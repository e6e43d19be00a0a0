"""Stochastic beam search through the engine: mixed, preempted, warm or cold, it finds what it finds alone."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scripted_engine import (
    END,
    LIMITS,
    VOCAB_SIZE,
    Answers,
    collect,
    make_engine,
    make_request,
    noise,
    run_all,
    run_alone,
    token_ids,
)

from penstock_engine.engine import Failure
from penstock_engine.limits import most_blocks
from penstock_engine.outputs import Finish
from penstock_engine.request import GenerationRequest


def beam_request(
    *,
    width: int = 4,
    seed: int = 7,
    prompt: Sequence[int] = (3, 1, 4, 1, 5),
    max_tokens: int = 14,
    stop_token_ids: Sequence[int] = (END,),
    priority: int = 0,
    **more: object,
) -> GenerationRequest:
    """A search; `more`: its other API fields."""
    fields = {"decoding": {"strategy": "stochastic_beam", "width": width}, "seed": seed, **more}
    return make_request("beam", prompt, fields, max_tokens=max_tokens, stop_token_ids=stop_token_ids, priority=priority)


def test_answers() -> None:
    """As many different answers as the search is wide, each ended for one reason; as score the sum of the processed
    log-probabilities of its tokens; the first in the order of the noise, not of the score."""
    request = beam_request(temperature=0.7, top_k=12, num_processed_logprobs=0)
    answers = run_alone(request)
    assert answers.keys() == {("beam", choice) for choice in range(4)}
    assert len({tuple(token_ids(answer)) for answer in answers.values()}) == 4
    for answer in answers.values():
        assert all(token.finish == Finish.OPEN and token.score is None for token in answer[:-1])
        last = answer[-1]
        assert last.finish == (Finish.STOP if last.token_id == END else Finish.LENGTH)
        assert last.score is not None and last.inclusion_probability is not None
        logprobs = [token.processed.chosen for token in answer if token.processed is not None]
        assert len(logprobs) == len(answer)
        assert last.score == pytest.approx(sum(logprobs), abs=1e-6)
        assert 0 < last.inclusion_probability <= 1


def test_seed_decides() -> None:
    """The same seed finds the same answers, another one others; the prompt's first answers stay when more are asked."""
    assert run_alone(beam_request()) == run_alone(beam_request())
    assert run_alone(beam_request(seed=8)) != run_alone(beam_request())
    wide = run_alone(beam_request(width=7))
    for key, answer in run_alone(beam_request(width=3)).items():
        assert token_ids(wide[key]) == token_ids(answer)


def test_fewer_answers_than_width() -> None:
    """`n` answers of a wider search are those of a narrower one, chances to be included and all."""
    assert run_alone(beam_request(width=6, n=3)) == run_alone(beam_request(width=3))


@given(
    widths=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    block_size=st.sampled_from([1, 3, 4]),
    spare=st.integers(0, 3),
    seed=st.integers(0, 2**32),
    is_warm=st.booleans(),
)
@settings(max_examples=6, deadline=None)
def test_mixed_equals_alone(widths: list[int], block_size: int, spare: int, seed: int, is_warm: bool) -> None:
    """Beside samples, greedy answers and each other, in a pool just large enough for the largest, every search finds,
    bit for bit, what it finds alone."""
    requests = [
        make_request(
            f"beam {i}",
            range(1, 4 + i),
            {
                "decoding": {"strategy": "stochastic_beam", "width": width},
                "seed": seed + i,
                "temperature": 1.5,
                "num_logprobs": [None, 1][i % 2],
            },
            max_tokens=6 + 3 * i,
        )
        for i, width in enumerate(widths)
    ]
    requests.append(make_request("samples", range(1, 9), {"n": 3, "seed": seed}, max_tokens=12))
    requests.append(make_request("greedy", range(1, 7), {"temperature": 0}, max_tokens=12, priority=-1))
    most = max(
        most_blocks(len(r.prompt), r.stop.max_tokens, rows, block_size)
        for r, rows in zip(requests, [*widths, 3, 1], strict=True)
    )
    limits = replace(LIMITS, num_blocks=most + spare, block_size=block_size, max_rows=16)
    engine = make_engine(limits)
    alone: Answers = {}
    for request in requests:
        alone |= run_alone(request)
    assert run_all(engine, requests) == alone
    if is_warm:
        assert run_all(engine, requests) == alone
    assert engine.stats.num_blocks_in_use == 0


def test_preempted_equals_alone() -> None:
    """Guards the property above against never meeting a preemption: here a search must be preempted and come back."""
    beam = beam_request(stop_token_ids=(), priority=1)
    first = make_request("first", range(1, 10), {"seed": 1}, max_tokens=14, stop_token_ids=())
    engine = make_engine(replace(LIMITS, num_blocks=most_blocks(5, 14, 4, LIMITS.block_size)))
    answers: Answers = {}
    engine.add(beam)
    for _ in range(6):
        collect(engine, answers)
    engine.add(first)
    while engine.has_work:
        collect(engine, answers)
    assert engine.stats.num_preemptions >= 1
    assert answers == run_alone(beam) | run_alone(first)


def test_first_answer_streams() -> None:
    """What every answer still possible shares is told before the end, and it is the first answer's beginning."""

    def script(prefix: Sequence[int]) -> NDArray[np.float32]:
        scores = noise(prefix).copy()
        scores[1 + len(prefix) % 7] += 40 * (len(prefix) < 10)  # almost certain at first, then open
        return scores

    for width, least in ((4, 9), (1, 19)):
        request = beam_request(width=width, stop_token_ids=(), prompt=(5,), max_tokens=20)
        engine = make_engine(replace(LIMITS, num_blocks=1024), script)
        engine.add(request)
        answers: Answers = {}
        early = 0
        while engine.has_work:
            early = len(answers.get(("beam", 0), []))
            assert ("beam", 1) not in answers
            collect(engine, answers)
        assert early >= least
        assert {len(answer) for answer in answers.values()} == {20}
        assert len({tuple(token_ids(answer)) for answer in answers.values()}) == width


def test_abort_frees_everything() -> None:
    """Aborted on its way, whole or answer by answer, a search leaves nothing behind; its neighbour never notices."""
    other = make_request("other", [2, 7, 1], {"seed": 2}, max_tokens=12, stop_token_ids=())
    for choices in ([None], [2, 0, 3, 1]):
        engine = make_engine(replace(LIMITS, num_blocks=1024))
        answers: Answers = {}
        engine.add(beam_request(max_tokens=20, stop_token_ids=()))
        engine.add(other)
        for _ in range(5):
            collect(engine, answers)
        assert [engine.abort("beam", choice) for choice in choices][-1]
        engine.check()
        while engine.has_work:
            collect(engine, answers)
        assert engine.stats.num_blocks_in_use == 0
        assert {key: answers[key] for key in answers if key[0] == "other"} == run_alone(other)


def test_no_answer_fails_alone() -> None:
    """A search in which nothing can be said fails; its neighbour goes on."""

    def script(prefix: Sequence[int]) -> NDArray[np.float32]:
        scores = np.linspace(0, 1, VOCAB_SIZE, dtype=np.float32)
        return scores if prefix[0] == 2 or len(prefix) < 8 else np.full_like(scores, -np.inf)

    engine = make_engine(script=script)
    engine.add(beam_request(max_tokens=9, stop_token_ids=()))
    engine.add(make_request("other", [2, 7, 1], {"seed": 2}, max_tokens=9, stop_token_ids=()))
    outputs = []
    while engine.has_work:
        outputs += engine.step()
        engine.check()
    failures = [(name, output.message) for name, output in outputs if isinstance(output, Failure)]
    assert [name for name, _ in failures] == ["beam"]
    assert "without an answer" in failures[0][1]
    told = [output for name, output in outputs if name == "other" and not isinstance(output, Failure)]
    assert sum(len(output.tokens) for output in told) == 9
