"""Beam search through the engine on known logits: the right answers at the right time, and nothing left behind."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
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
from slow_beam import SlowSearch, Tokens, slow_beam

from penstock_engine.engine import Failure
from penstock_engine.errors import RequestRefused
from penstock_engine.messages import ENCODER, TO_ENGINE, Submit, pack_request, unpack_request
from penstock_engine.outputs import Finish, TokenOutput
from penstock_engine.request import GenerationRequest

# The engine's log-probabilities are float32; two numbers closer than this, relative to their size, it may confuse.
_TIE = 1e-5


def beam(width: int, **params: object) -> dict[str, object]:
    """The fields of a beam search."""
    return {"decoding": {"strategy": "beam", "width": width, **params}}


def log_softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = scores - scores.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def oracle(
    request: GenerationRequest, reshape: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None
) -> SlowSearch:
    """What a plain reading finds on the script `noise`, whose scores `reshape` may change."""
    params = request.decoding.strategy.params

    def table(answers: list[Tokens]) -> NDArray[np.float64]:
        scores = [noise((*request.prompt, *answer)).astype(np.float64) for answer in answers]
        return np.stack([log_softmax(row if reshape is None else reshape(row)) for row in scores])

    return slow_beam(
        table,
        width=params.width,
        stop=request.stop.token_ids,
        max_tokens=request.stop.max_tokens,
        min_tokens=request.stop.min_tokens,
        length_penalty=params.length_penalty,
        early_stopping=params.early_stopping,
        groups=params.groups,
        diversity_penalty=params.diversity_penalty,
        n=params.n,
    )


def assert_found(answers: Answers, request: GenerationRequest, expected: SlowSearch) -> None:
    """The answers of this request are the oracle's, best first, each with its score on its last token only."""
    n = request.decoding.strategy.params.n
    assert expected.margin > _TIE, "choose another prompt: the oracle met a tie"
    found = {choice: answer for (name, choice), answer in answers.items() if name == request.id}
    assert sorted(found) == list(range(min(n, len(expected.found))))
    for choice, (score, tokens) in enumerate(expected.found[:n]):
        assert tuple(token_ids(found[choice])) == tokens
        assert found[choice][-1].score == pytest.approx(score, rel=1e-5)
        assert all(token.score is None and token.finish == Finish.OPEN for token in found[choice][:-1])
        ends = tokens[-1] in request.stop.token_ids and len(tokens) > request.stop.min_tokens
        assert found[choice][-1].finish == (Finish.STOP if ends else Finish.LENGTH)


CASES: list[dict[str, object]] = [
    beam(1),
    beam(2, n=2),
    beam(5, n=3, early_stopping=True),
    beam(8, n=8, early_stopping="never", length_penalty=2.0),
    beam(7, n=2, length_penalty=-1.0),
    beam(6, n=6, groups=3, diversity_penalty=0.7),
    beam(8, n=4, groups=4, diversity_penalty=2.0, early_stopping=True, length_penalty=0.0),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_all_searches_share_one_batch_and_find_the_plain_readings_answers(case: int) -> None:
    """Each case beside all the others, with three stop tokens of 29, so that short answers are common."""
    requests = [
        make_request(f"{i}", [3, i, 11], fields, max_tokens=9, stop_token_ids=(END, 3, 17))
        for i, fields in enumerate(CASES)
    ]
    limits = replace(LIMITS, num_blocks=512, max_batch_tokens=128, max_rows=64)
    answers = run_all(make_engine(limits), [requests[case], *requests[:case], *requests[case + 1 :]])
    assert_found(answers, requests[case], oracle(requests[case]))


def test_short_and_long_answers_both_occur() -> None:
    """Guards the test above against never meeting an ending token."""
    request = make_request("a", [1, 2], beam(8, n=8, length_penalty=0.0), max_tokens=9, stop_token_ids=(END, 3, 17))
    answers = run_alone(request)
    assert {answer[-1].finish for answer in answers.values()} >= {Finish.STOP}
    longer = run_alone(replace(request, stop=replace(request.stop, token_ids=())))
    assert {answer[-1].finish for answer in longer.values()} == {Finish.LENGTH}


def test_scores_are_those_of_the_processed_distribution() -> None:
    """Temperature and min_tokens reshape what the search adds up."""
    fields = {"temperature": 0.5, "min_tokens": 3, **beam(4, n=4)}
    request = make_request("a", [2, 9], fields, max_tokens=6, stop_token_ids=(END, 3), min_tokens=3)
    assert run_alone(request)
    depth: list[int] = []

    def reshape(scores: NDArray[np.float64]) -> NDArray[np.float64]:
        return scores / 0.5

    def table(answers: list[Tokens]) -> NDArray[np.float64]:
        rows = []
        for answer in answers:
            scores = reshape(noise((*request.prompt, *answer)).astype(np.float64))
            if len(answer) < 3:
                scores[[END, 3]] = -np.inf
            rows.append(log_softmax(scores))
        depth.append(len(answers[0]))
        return np.stack(rows)

    expected = slow_beam(table, width=4, stop=(END, 3), max_tokens=6, min_tokens=3, n=4)
    assert_found(run_alone(request), request, expected)


def test_a_width_for_everything_finds_the_true_best() -> None:
    """Brute force through the engine: of a vocabulary of 3 all answers of at most 4 tokens, exactly in order."""

    def script(prefix: Sequence[int]) -> NDArray[np.float32]:
        return noise(prefix)[:3]

    def answers_from(answer: Tokens) -> list[tuple[float, Tokens]]:
        if answer and (answer[-1] == END or len(answer) == 4):
            return [(0.0, answer)]
        logprobs = log_softmax(script((5, *answer)).astype(np.float64))
        return [(float(logprobs[t]) + rest, whole) for t in range(3) for rest, whole in answers_from((*answer, t))]

    everything = sorted(((total / len(answer), answer) for total, answer in answers_from(())), reverse=True)
    request = make_request("a", [5], beam(64, n=64, early_stopping="never"), max_tokens=4)
    engine = make_engine(replace(LIMITS, num_blocks=1024, max_batch_tokens=64, max_rows=64), script)
    found = run_all(engine, [request])
    assert [tuple(token_ids(found["a", i])) for i in range(len(found))] == [answer for _, answer in everything]
    assert [found["a", i][-1].score for i in range(len(found))] == pytest.approx([score for score, _ in everything])


def peaked(prefix: Sequence[int]) -> NDArray[np.float32]:
    """Mostly one token, now and then a choice of two: hypotheses merge all the time."""
    scores = noise(prefix)
    order = np.argsort(scores)
    scores[order[-1]] += 6
    if len(prefix) % 4 == 0:
        scores[order[-2]] += 6
    return scores


def test_the_best_answer_streams_and_the_others_come_at_the_end() -> None:
    """What was sent step by step is the beginning of the final best answer; nothing of the others comes before it."""
    request = make_request("a", [1, 2, 3], beam(3, n=3), max_tokens=24, stop_token_ids=())
    engine = make_engine(script=peaked)
    engine.add(request)
    told: list[list[TokenOutput]] = []
    is_last = []
    while engine.has_work:
        ((_, output),) = engine.step()
        assert not isinstance(output, Failure)
        told.append(list(output.tokens))
        is_last.append(output.is_last)
    assert is_last == [False] * 23 + [True]
    assert {token.choice for tokens in told[:-1] for token in tokens} == {0}
    assert sum(map(len, told[:-1])) >= 12
    best = [token.token_id for tokens in told for token in tokens if token.choice == 0]
    assert len(best) == 24
    greedy = run_all(make_engine(script=peaked), [replace(request, decoding=make_request("a", [1], beam(3)).decoding)])
    assert best == token_ids(greedy["a", 0])
    assert {token.choice for token in told[-1]} == {0, 1, 2}


def test_the_prompt_is_computed_once_and_beams_share_blocks() -> None:
    """Width 8 on a prompt of 16 tokens: far fewer blocks than eight answers would hold."""
    engine = make_engine(replace(LIMITS, num_blocks=512, max_batch_tokens=64), peaked)
    engine.add(make_request("a", range(1, 17), beam(8), max_tokens=40, stop_token_ids=()))
    most = 0
    while engine.has_work:
        engine.step()
        engine.check()
        most = max(most, engine.stats.num_blocks_in_use)
    assert most < 8 * (16 + 40) // 4 // 2


def test_warm_and_cold_cache_give_the_same() -> None:
    """A search whose prompt is in the cache finds what it found without, scores and log-probabilities included."""
    request = make_request("a", range(1, 20), {"num_logprobs": 2, **beam(4, n=4)}, max_tokens=7)
    engine = make_engine()
    cold = run_all(engine, [request])
    before = engine.stats.num_prefix_hit_tokens
    assert run_all(engine, [request]) == cold
    assert engine.stats.num_prefix_hit_tokens > before
    assert run_all(make_engine(prefix_caching=False), [request]) == cold


def test_preemption_is_invisible() -> None:
    """Searches that push each other out of a small pool find what each finds alone; several preemptions happen."""
    requests = [
        make_request(str(i), [i, 1, 2, 3, 4], beam(3, n=2, early_stopping="never"), max_tokens=10, stop_token_ids=())
        for i in range(4)
    ]
    engine = make_engine(replace(LIMITS, num_blocks=14, max_rows=16))
    answers = run_all(engine, requests)
    assert engine.stats.num_preemptions >= 2
    for request in requests:
        assert {key: answers[key] for key in answers if key[0] == request.id} == run_alone(request)
    assert engine.stats.num_blocks_in_use == 0


def test_a_search_comes_back_in_few_steps() -> None:
    """Pushed out by requests that grow, a search of 16 computes all its rows again together: in fewer steps than it has
    rows. In more than one, for what the rows share is computed before what they do not."""
    engine, answers = make_engine(replace(LIMITS, num_blocks=100, max_batch_tokens=128, max_rows=32)), Answers()
    for i in range(4):
        engine.add(make_request(f"first {i}", [i] * 40, {"seed": i}, max_tokens=60, stop_token_ids=()))
    for _ in range(20):
        collect(engine, answers)
    search = make_request("a", range(1, 20), beam(16, n=16), max_tokens=20, stop_token_ids=(), priority=1)
    engine.add(search)
    group = engine._groups["a"]
    num_steps_back: list[int] = []
    while engine.has_work:
        was_out, before = group in engine._scheduler.waiting, group.num_generated
        collect(engine, answers)
        if before and group in engine._scheduler.running:
            if was_out:
                num_steps_back.append(0)
            if group.num_generated == before:
                num_steps_back[-1] += 1
    assert num_steps_back
    assert 2 <= max(num_steps_back) <= 8
    assert {key: answer for key, answer in answers.items() if key[0] == "a"} == run_alone(search)


def test_logprobs_are_the_models_own_along_each_answer() -> None:
    """Whatever the chain and whenever a token is told: its model log-probability and the likeliest tokens there."""
    fields = {"temperature": 0.5, "num_logprobs": 2, "num_processed_logprobs": 1, **beam(5, n=4)}
    request = make_request("a", [4, 5, 6], fields, max_tokens=7, stop_token_ids=(END, 3))
    answers = run_alone(request)
    assert len(answers) == 4
    for answer in answers.values():
        prefix = list(request.prompt)
        total = 0.0
        for token in answer:
            scores = noise(prefix).astype(np.float64)
            model, processed = log_softmax(scores), log_softmax(scores / 0.5)
            assert token.logprobs is not None and token.processed is not None
            assert token.logprobs.chosen == pytest.approx(model[token.token_id], abs=1e-5)
            assert [value for _, value in token.logprobs.top] == pytest.approx(sorted(model)[:-3:-1], abs=1e-5)
            assert token.processed.chosen == pytest.approx(processed[token.token_id], abs=1e-5)
            total += processed[token.token_id]
            prefix.append(token.token_id)
        assert answer[-1].score == pytest.approx(total / len(answer), abs=1e-5)


def test_a_search_without_an_answer_fails_alone() -> None:
    """Every row of one search comes to where nothing may follow: that request is told so, its neighbour goes on."""

    def script(prefix: Sequence[int]) -> NDArray[np.float32]:
        scores = noise(prefix)
        if prefix[0] == 7 and len(prefix) == 5:
            scores[:] = -np.inf
        return scores

    engine = make_engine(script=script)
    well = make_request("well", [1, 2, 3], beam(3, n=3), stop_token_ids=())
    engine.add(make_request("ill", [7, 7, 7], beam(4), stop_token_ids=()))
    engine.add(well)
    outputs = [pair for _ in range(8) for pair in engine.step()]
    engine.check()
    failures = [(name, output.message) for name, output in outputs if isinstance(output, Failure)]
    assert [name for name, _ in failures] == ["ill"]
    assert "without an answer" in failures[0][1]
    answers: Answers = {}
    for name, output in outputs:
        if not isinstance(output, Failure):
            for token in output.tokens:
                answers.setdefault((name, token.choice), []).append(token)
    assert {key: answer for key, answer in answers.items() if key[0] == "well"} == run_alone(well)
    assert engine.stats.num_blocks_in_use == 0


def test_a_dead_row_leaves_its_search() -> None:
    """A hypothesis after which nothing may come is dropped; the search goes on with the others, and no one fails."""
    likeliest = int(noise([7, 7]).argmax())

    def script(prefix: Sequence[int]) -> NDArray[np.float32]:
        return np.full(VOCAB_SIZE, -np.inf, np.float32) if tuple(prefix[2:]) == (likeliest,) else noise(prefix)

    answers = run_all(make_engine(script=script), [make_request("a", [7, 7], beam(3, n=3), stop_token_ids=())])
    assert len(answers) == 3
    assert all(answer[0].token_id != likeliest for answer in answers.values())


def test_nan_fails_a_search_alone() -> None:
    """One row of NaN fails its search and leaves no block behind."""

    def script(prefix: Sequence[int]) -> NDArray[np.float32]:
        scores = noise(prefix)
        if len(prefix) == 4:
            scores[3] = np.nan
        return scores

    engine = make_engine(script=script)
    engine.add(make_request("a", [7, 7], beam(4), stop_token_ids=()))
    outputs = [output for _ in range(3) for _, output in engine.step()]
    assert isinstance(outputs[-1], Failure)
    engine.check()
    assert engine.stats.num_blocks_in_use == 0


def test_aborting_an_answer_ends_the_search_only_with_the_last() -> None:
    """One answer of two dropped: the other is found as before. Both dropped: all blocks are free at once."""
    request = make_request("a", [1, 2, 3], beam(4, n=2), max_tokens=8, stop_token_ids=())
    whole = run_alone(request)
    for dropped in (0, 1):
        engine, answers = make_engine(), Answers()
        engine.add(request)
        for _ in range(3):
            collect(engine, answers)
        assert not engine.abort("a", dropped)
        while engine.has_work:
            collect(engine, answers)
        assert answers.get(("a", 1 - dropped)) == whole["a", 1 - dropped]
        assert len(answers.get(("a", dropped), [])) < 8
    engine.add(request)
    for _ in range(3):
        collect(engine, {})
    assert not engine.abort("a", 1)
    assert engine.abort("a", 0)
    engine.check()
    assert engine.stats.num_blocks_in_use == 0
    assert not engine.has_work


def test_what_is_kept_for_later_does_not_grow_with_the_candidates() -> None:
    """Log-probabilities are forgotten with the hypotheses they belong to: of thousands drawn, the answers' remain."""
    engine = make_engine(replace(LIMITS, num_blocks=512, max_model_len=1024), peaked)
    request = make_request("a", [1, 2], {"num_logprobs": 0, **beam(8)}, max_tokens=200, stop_token_ids=())
    engine.add(request)
    (group,) = engine._groups.values()
    most = 0
    while engine.has_work:
        collect(engine, {})
        most = max(most, group.record.num_kept)
    assert most <= 200 + 8 * 40


@pytest.mark.parametrize("early", [False, True, "never"])
def test_parameters_travel_to_the_engine_process(early: bool | str) -> None:
    """Each kind of `early_stopping` arrives as what it was."""
    request = make_request("a", [1], beam(4, n=2, groups=2, diversity_penalty=0.5, early_stopping=early))
    message = TO_ENGINE.decode(ENCODER.encode(pack_request(7, request)))
    assert isinstance(message, Submit)
    assert unpack_request(message, "a") == request


@pytest.mark.parametrize(
    ("fields", "param"), [(beam(9), "decoding"), ({"n": 9}, "n"), (beam(9, n=9), "n"), (beam(9, n=2), "decoding")]
)
def test_what_is_too_wide_is_refused_by_its_name(fields: Mapping[str, object], param: str) -> None:
    """More rows than the server runs at once, whoever asks for them."""
    with pytest.raises(RequestRefused) as refused:
        make_engine().add(make_request("a", [1], fields))
    assert refused.value.param == param
    assert "9" in refused.value.message and "8" in refused.value.message


def test_a_wide_search_on_a_larger_vocabulary() -> None:
    """128 rows of 300 tokens, where only a few tokens of most rows are drawn: the plain reading's answers."""

    def script(prefix: Sequence[int]) -> NDArray[np.float32]:
        return np.random.default_rng(list(prefix)).normal(size=300).astype(np.float32) * 2

    def table(answers: list[Tokens]) -> NDArray[np.float64]:
        return np.stack([log_softmax(script((4, *answer)).astype(np.float64)) for answer in answers])

    limits = replace(LIMITS, num_blocks=1024, max_batch_tokens=128, max_rows=128, vocab_size=300)
    request = make_request("a", [4], beam(128, n=8), max_tokens=5)
    answers = run_all(make_engine(limits, script), [request])
    expected = slow_beam(table, width=128, stop=(END,), max_tokens=5, n=8)
    assert expected.margin > _TIE / 10
    assert [tuple(token_ids(answers["a", i])) for i in range(8)] == [tokens for _, tokens in expected.found[:8]]
