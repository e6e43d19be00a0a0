"""The engine's rules one by one, on known logits."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chisquare
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
from penstock_engine.errors import QueueFull, RequestRefused
from penstock_engine.outputs import Finish
from penstock_engine.request import GenerationRequest


def test_greedy_is_the_argmax_of_every_prefix() -> None:
    """The oracle is the script itself, followed by hand."""
    request = make_request("a", [3, 1, 4, 1, 5, 9, 2, 6, 5], {"temperature": 0}, max_tokens=12)
    prefix = list(request.prompt)
    expected: list[int] = []
    while len(expected) < 12 and (not expected or expected[-1] != END):
        expected.append(int(noise(prefix).argmax()))
        prefix.append(expected[-1])
    assert token_ids(run_all(make_engine(), [request])["a", 0]) == expected


def test_sampled_frequencies_match_the_distribution() -> None:
    """4000 samples of one position against softmax, by chi-square; false-alarm probability 1e-4, seed fixed."""
    limits = replace(LIMITS, max_rows=4000, max_batch_tokens=4000, num_blocks=4100)
    request = make_request("a", [1, 2, 3], {"n": 128, "temperature": 0.8, "seed": 11}, max_tokens=1)
    counts: Counter[int] = Counter()
    for seed in range(32):
        fields = {"n": 128, "temperature": 0.8, "seed": seed}
        answers = run_all(make_engine(limits), [make_request("a", request.prompt, fields, max_tokens=1)])
        counts.update(answer[0].token_id for answer in answers.values())
    weights = np.exp(noise(request.prompt).astype(np.float64) / 0.8)
    expected = weights / weights.sum() * counts.total()
    observed = [counts[token] for token in range(VOCAB_SIZE)]
    assert chisquare(observed, expected).pvalue > 1e-4


def test_samples_of_one_request_differ_and_a_seed_replays_them() -> None:
    """n samples are n draws, the same ones for the same seed, and sample i of a seed is not sample 0 of seed + i."""
    fields = {"n": 4, "seed": 7, "temperature": 1.5}
    first = run_alone(make_request("a", [1, 2], fields, max_tokens=12, stop_token_ids=()))
    again = run_alone(make_request("a", [1, 2], fields, max_tokens=12, stop_token_ids=()))
    assert first == again
    assert len({tuple(token_ids(answer)) for answer in first.values()}) == 4
    neighbour = run_alone(make_request("a", [1, 2], {**fields, "seed": 8}, max_tokens=12, stop_token_ids=()))
    assert not {tuple(token_ids(a)) for a in first.values()} & {tuple(token_ids(a)) for a in neighbour.values()}


def test_a_prompt_extended_by_its_answer_continues_that_answer() -> None:
    """Draws depend on the absolute position, not on where the prompt ended."""
    whole = token_ids(run_alone(make_request("a", [5, 6], {"seed": 3}, max_tokens=10, stop_token_ids=()))["a", 0])
    rest = make_request("a", [5, 6, *whole[:4]], {"seed": 3}, max_tokens=6, stop_token_ids=())
    assert token_ids(run_alone(rest)["a", 0]) == whole[4:]


def test_n_answers_compute_the_prompt_once() -> None:
    """One row carries the prompt; the forks share its blocks."""
    engine = make_engine()
    engine.add(make_request("a", range(1, 13), {"n": 4, "seed": 1}, max_tokens=8, stop_token_ids=()))
    collect(engine, {})
    assert engine.stats.num_blocks_in_use == 3
    collect(engine, {})
    assert engine.stats.num_blocks_in_use == 3 + 4


def test_a_repeated_prompt_comes_from_the_cache() -> None:
    """Full blocks are found again, the last prompt token is always computed, and the answer does not change."""
    request = make_request("a", range(1, 17), {"seed": 5})
    engine = make_engine()
    cold = run_all(engine, [request])
    engine.add(request)
    _, output = engine.step()[0]
    assert not isinstance(output, Failure)
    assert output.num_cached_tokens == 12  # of 16: the last block holds the last token, which must be computed
    warm: Answers = {("a", 0): list(output.tokens)}
    while engine.has_work:
        collect(engine, warm)
    assert warm == cold


def test_a_salt_keeps_caches_apart() -> None:
    """Another salt finds nothing; the same one does. Guards against timing one tenant's prompts from another's."""
    engine = make_engine()
    hits = []
    for salt in ("red", "blue", "red"):
        run_all(engine, [make_request("a", range(1, 17), {"seed": 5}, cache_salt=salt)])
        hits.append(engine.stats.num_prefix_hit_tokens)
    assert hits == [0, 0, 12]


def test_without_prefix_caching_nothing_is_shared() -> None:
    """Two equal prompts in turn are both computed."""
    engine = make_engine(prefix_caching=False)
    for _ in range(2):
        run_all(engine, [make_request("a", range(1, 17), {"seed": 5})])
    assert engine.stats.num_prefix_hit_tokens == 0


def test_the_least_recently_used_prefix_is_evicted_first() -> None:
    """With room for two of three cached prompts, the one used longest ago is gone."""
    engine = make_engine(replace(LIMITS, num_blocks=10))
    prompts = {name: [start] * 16 for name, start in (("old", 1), ("used", 2), ("new", 3))}
    for name in ("old", "used", "old", "new"):
        run_all(engine, [make_request(name, prompts[name], {"seed": 5}, max_tokens=1)])
    before = engine.stats.num_prefix_hit_tokens
    run_all(engine, [make_request("old", prompts["old"], {"seed": 5}, max_tokens=1)])
    assert engine.stats.num_prefix_hit_tokens > before
    before = engine.stats.num_prefix_hit_tokens
    run_all(engine, [make_request("used", prompts["used"], {"seed": 5}, max_tokens=1)])
    assert engine.stats.num_prefix_hit_tokens - before < 12


def test_stop_tokens_end_an_answer_and_are_reported() -> None:
    """The ending token is the last one, with reason stop; max_tokens ends with reason length."""
    greedy = make_request("a", [1, 2, 3], {"temperature": 0}, max_tokens=6, stop_token_ids=())
    free = run_alone(greedy)["a", 0]
    assert [token.finish for token in free] == [Finish.OPEN] * 5 + [Finish.LENGTH]
    stopped = run_alone(replace(greedy, stop=replace(greedy.stop, token_ids=(free[2].token_id,))))["a", 0]
    place = token_ids(free).index(free[2].token_id)
    assert token_ids(stopped) == token_ids(free)[: place + 1]
    assert stopped[-1].finish == Finish.STOP


def test_min_tokens_keeps_stop_tokens_away() -> None:
    """A distribution that wants to stop at once is held off for exactly min_tokens tokens."""

    def eager(prefix: Sequence[int]) -> NDArray[np.float32]:
        scores = noise(prefix)
        scores[END] = 99
        return scores

    engine = make_engine(script=eager)
    request = make_request("a", [1], {"temperature": 0, "min_tokens": 4}, min_tokens=4, max_tokens=9)
    answer = token_ids(run_all(engine, [request])["a", 0])
    assert answer.index(END) == 4


def test_logprobs_are_the_models_own_whatever_the_chain() -> None:
    """Temperature, filters and penalties leave the reported log-probabilities alone."""
    fields = {"temperature": 0.5, "top_k": 3, "repetition_penalty": 1.5, "num_logprobs": 4, "seed": 1}
    request = make_request("a", [1, 2, 3], fields, max_tokens=3, stop_token_ids=())
    prefix = list(request.prompt)
    for token in run_alone(request)["a", 0]:
        scores = noise(prefix).astype(np.float64)
        logprobs = scores - math.log(np.exp(scores).sum())
        assert token.logprobs is not None
        assert token.logprobs.chosen == pytest.approx(logprobs[token.token_id], abs=1e-5)
        best = np.argsort(-logprobs)[:4]
        assert [value for _, value in token.logprobs.top] == pytest.approx(logprobs[best].tolist(), abs=1e-5)
        prefix.append(token.token_id)


def test_a_row_without_finite_scores_fails_alone() -> None:
    """NaN, +inf or nothing left: that request gets an error; its neighbour's answer is untouched, nothing leaks."""

    def broken(prefix: Sequence[int]) -> NDArray[np.float32]:
        scores = noise(prefix)
        if prefix[0] == 7 and len(prefix) == 4:
            scores[3] = np.nan
        return scores

    engine = make_engine(script=broken)
    neighbour = make_request("well", [1, 2, 3], {"seed": 1}, stop_token_ids=())
    engine.add(make_request("ill", [7, 7, 7], {"seed": 1, "n": 2}, stop_token_ids=()))
    engine.add(neighbour)
    outputs = [pair for _ in range(8) for pair in engine.step()]
    engine.check()
    failures = [(name, output) for name, output in outputs if isinstance(output, Failure)]
    assert [name for name, _ in failures] == ["ill"]
    assert "finite" in failures[0][1].message
    well = [t for name, o in outputs if name == "well" and not isinstance(o, Failure) for t in o.tokens]
    assert well == run_alone(neighbour)["well", 0]
    assert engine.stats.num_blocks_in_use == 0


def test_decoding_rows_go_before_prompts_and_keep_streaming() -> None:
    """A long prompt is computed in chunks beside a decoding row, which gets a token at every step."""
    engine = make_engine()
    engine.add(make_request("short", [1], {"seed": 1}, max_tokens=20, stop_token_ids=()))
    engine.step()
    engine.add(make_request("long", [2] * 60, {"seed": 1}, max_tokens=2, stop_token_ids=()))
    names = [[name for name, _ in engine.step()] for _ in range(4)]
    assert names == [["short"], ["short"], ["short"], ["short", "long"]]  # 4 x 15 of the 16-token budget


def test_priorities_come_before_arrival() -> None:
    """With room for one, the lower number is served first whatever came first."""
    engine = make_engine(replace(LIMITS, max_rows=1))
    for name, priority in (("late", 5), ("urgent", -1), ("normal", 0)):
        engine.add(make_request(name, [1, 2], {"seed": 1}, max_tokens=2, stop_token_ids=(), priority=priority))
    order: Answers = {}
    while engine.has_work:
        collect(engine, order)
    assert [name for name, _ in order] == ["urgent", "normal", "late"]


def test_a_full_queue_refuses_with_a_time_to_come_back() -> None:
    """The bound is on waiting requests; running ones do not count."""
    engine = make_engine(replace(LIMITS, max_queue=2, max_rows=1))
    for name in "ab":
        engine.add(make_request(name, [1], {"seed": 1}))
    with pytest.raises(QueueFull) as full:
        engine.add(make_request("c", [1], {"seed": 1}))
    assert full.value.num_waiting == 2
    assert 1 <= full.value.retry_after <= 60
    engine.step()
    engine.add(make_request("c", [1], {"seed": 1}))


@pytest.mark.parametrize(
    ("request_", "param", "numbers"),
    [
        (make_request("a", [], {}), "prompt", []),
        (make_request("a", [VOCAB_SIZE], {}), "prompt", ["29"]),
        (make_request("a", [-1], {}), "prompt", ["29"]),
        (make_request("a", [1], {}, max_tokens=0), "max_tokens", []),
        (make_request("a", [1] * 100, {}, max_tokens=29), "max_tokens", ["100", "29", "128"]),
        (make_request("a", [1], {"n": 9}), "n", ["9", "8"]),
        (make_request("a", [1] * 60, {"n": 8}, max_tokens=60), "max_tokens", ["135", "64"]),
    ],
)
def test_what_can_never_fit_is_refused_with_the_numbers(
    request_: GenerationRequest, param: str, numbers: list[str]
) -> None:
    """Refused at once, by field, and nothing of it stays in the engine."""
    engine = make_engine()
    with pytest.raises(RequestRefused) as refused:
        engine.add(request_)
    assert refused.value.param == param
    assert all(number in refused.value.message for number in numbers)
    assert not engine.has_work
    engine.check()


def test_what_a_failed_request_computed_is_found_by_nobody() -> None:
    """Keys and values behind scores that are NaN may be NaN themselves. Their blocks stayed in the prefix cache, and
    every request with that beginning failed for as long as they lay there."""
    prompt = list(range(1, 14))

    def script(prefix: Sequence[int]) -> NDArray[np.float32]:
        return np.full(VOCAB_SIZE, np.nan, np.float32) if len(prefix) == 15 else noise(prefix)

    engine = make_engine(script=script)
    cached = {}
    for name, max_tokens in (("broken", 8), ("again", 1), ("once more", 1)):
        engine.add(make_request(name, prompt, {"temperature": 0}, max_tokens=max_tokens, stop_token_ids=()))
        while engine.has_work:
            for _, output in engine.step():
                assert name == "broken" or not isinstance(output, Failure)
                if not isinstance(output, Failure):
                    cached[name] = output.num_cached_tokens
            engine.check()
    assert cached == {"broken": 0, "again": 0, "once more": 12}
