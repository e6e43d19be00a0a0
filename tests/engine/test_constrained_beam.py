"""Required words and allowed sequences through the engine: whatever the company, the answers are the request's own."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

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
    noise,
    run_all,
    run_alone,
    token_ids,
)

from penstock_engine.engine import Failure
from penstock_engine.errors import RequestRefused
from penstock_engine.limits import most_blocks
from penstock_engine.request import GenerationRequest

Tokens = tuple[int, ...]

END = 0


def holds(text: Sequence[int], word: Sequence[int]) -> bool:
    return any(list(text[i : i + len(word)]) == list(word) for i in range(len(text)))


def random_words(rng: random.Random) -> list[list[int]]:
    """Up to three words of up to three tokens, of few different tokens so that they overlap."""
    return [[rng.randrange(1, 5) for _ in range(rng.randrange(1, 4))] for _ in range(rng.randrange(1, 4))]


def random_sequences(rng: random.Random) -> list[list[int]]:
    return [[rng.randrange(1, 6) for _ in range(rng.randrange(1, 5))] for _ in range(rng.randrange(1, 12))]


def random_request(name: str, rng: random.Random) -> GenerationRequest:
    """A constrained beam, a strategy over allowed sequences, both at once, or a plain sample."""
    width = rng.randrange(1, 5)
    strategies: list[dict[str, Any]] = [
        {"decoding": {"strategy": "sample"}, "n": rng.randrange(1, 4)},
        {"decoding": {"strategy": "greedy"}},
        {"decoding": {"strategy": "beam", "width": width}, "n": rng.randrange(1, width + 1)},
    ]
    words = random_words(rng)
    constrained = {"decoding": {"strategy": "constrained_beam", "width": width, "words": words}, "n": width}
    fields: dict[str, Any] = rng.choice([constrained, constrained, rng.choice(strategies)])
    if "words" not in fields["decoding"] and rng.random() < 0.7:
        fields = {**fields, "allowed_sequences": random_sequences(rng)}
    chain = {
        "repetition_penalty": rng.choice([1, 1.3]),
        "seed": rng.randrange(2**40),
        "num_logprobs": rng.choice([0, None]),
    }
    prompt = [rng.randrange(VOCAB_SIZE) for _ in range(rng.randrange(1, 20))]
    return make_request(name, prompt, fields | chain, max_tokens=9 + rng.randrange(4), priority=rng.randrange(2))


def alone(requests: Sequence[GenerationRequest]) -> Answers:
    answers: Answers = {}
    for request in requests:
        answers |= run_alone(request)
    return answers


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_output_equals_the_solo_output(seed: int) -> None:
    """Random arrivals and small pools change no answer; every answer keeps to what was asked; nothing leaks."""
    rng = random.Random(seed)
    requests = [random_request(str(i), rng) for i in range(7)]
    most = max(most_blocks(len(r.prompt), r.stop.max_tokens, 4, 4) for r in requests)
    engine = make_engine(replace(LIMITS, num_blocks=most + rng.randrange(9), max_batch_tokens=rng.choice([8, 64])))
    arriving, answers = list(requests), Answers()
    while arriving or engine.has_work:
        while arriving and rng.random() < 0.5:
            engine.add(arriving.pop())
        collect(engine, answers)
    assert engine.stats.num_blocks_in_use == 0
    assert answers == alone(requests)
    for request in requests:
        told = [token_ids(answer) for (name, _), answer in answers.items() if name == request.id]
        assert told
        for text in told:
            if request.decoding.strategy.name == "constrained_beam":
                assert all(holds(text, word) for word in request.decoding.strategy.params.words)
            for step in request.decoding.chain:
                if step.name == "allowed_sequences":
                    assert text[-1] == END and tuple(text[:-1]) in step.params.sequences


def test_preemption_really_happens_and_is_invisible() -> None:
    """Guards the property above against never meeting a preemption: words half said, places in a trie, all return."""
    words = [[1, 2, 3], [4, 5], [3, 3]]
    requests = [
        make_request(
            f"beam {i}",
            [i, 1, 2, 3, 4],
            {"decoding": {"strategy": "constrained_beam", "width": 3, "words": words}, "n": 2},
            max_tokens=16,
        )
        for i in range(3)
    ]
    long = [[a, b, *range(1, 12)] for a in range(1, 6) for b in range(1, 6)]
    fields = {"allowed_sequences": long, "n": 3, "seed": 1}
    requests += [make_request(f"sample {i}", [i, 6, 7], fields, max_tokens=16) for i in range(3)]
    engine = make_engine(replace(LIMITS, num_blocks=18))
    answers = run_all(engine, requests)
    assert engine.stats.num_preemptions >= 2
    assert answers == alone(requests)


def test_beam_search_over_allowed_sequences_ranks_them_all() -> None:
    """With a beam for each, beam search gives the sequences in the order of their probability, as one computes it by
    hand: at each step the softmax over what is allowed."""
    sequences: list[Tokens] = [(1, 2), (1, 3), (1,), (2, 2, 2), (7,), (2, 5)]
    prompt = (3, 4)
    request = make_request(
        "all",
        prompt,
        {"decoding": {"strategy": "beam", "width": 16, "length_penalty": 0.0}, "n": 6, "allowed_sequences": sequences},
        max_tokens=8,
    )
    answers = run_alone(request)
    expected = {}
    for sequence in sequences:
        logprob, told = 0.0, (*sequence, END)
        for i, token in enumerate(told):
            logits = noise((*prompt, *told[:i])).astype(np.float64)
            on = {s[i] for s in sequences if len(s) > i and s[:i] == told[:i]} | (
                {END} if told[:i] in sequences else set()
            )
            logprob += logits[token] - np.log(np.exp(logits[sorted(on)]).sum())
        expected[told] = logprob
    found = [(tuple(token_ids(answer)), answer[-1].score) for _, answer in sorted(answers.items())]
    assert [text for text, _ in found] == sorted(expected, key=lambda text: -expected[text])
    assert [score for _, score in found] == pytest.approx([expected[text] for text, _ in found], abs=1e-4)


def test_a_search_without_an_answer_fails_alone() -> None:
    """Words that the allowed sequences do not hold: that request fails and says so, its neighbour goes on."""
    fields = {
        "decoding": {"strategy": "constrained_beam", "width": 2, "words": [[5, 5]]},
        "allowed_sequences": [[1, 2]],
    }
    hopeless, fine = make_request("hopeless", [1], fields), make_request("fine", [2], {"seed": 1})
    engine = make_engine()
    engine.add(hopeless)
    engine.add(fine)
    failures: dict[str, str] = {}
    answers: Answers = {}
    while engine.has_work:
        for request_id, output in engine.step():
            if isinstance(output, Failure):
                failures[request_id] = output.message
            elif request_id == "fine":
                for token in output.tokens:
                    answers.setdefault((request_id, token.choice), []).append(token)
        engine.check()
    assert list(failures) == ["hopeless"] and "without an answer" in failures["hopeless"]
    assert answers == run_alone(fine)


def test_words_and_sequences_together() -> None:
    """The answers are the allowed sequences that hold the words."""
    fields = {
        "decoding": {"strategy": "constrained_beam", "width": 4, "words": [[2, 2]]},
        "allowed_sequences": [[1, 2], [2, 2, 1], [1, 2, 2], [2, 1, 2]],
        "n": 4,
    }
    answers = run_alone(make_request("both", [1], fields))
    assert sorted(token_ids(answer) for answer in answers.values()) == [[1, 2, 2, END], [2, 2, 1, END]]


@pytest.mark.parametrize(
    ("fields", "stops", "param", "message"),
    [
        ({"allowed_sequences": [[1, 2]]}, (), "allowed_sequences.sequences", "needs a stop token"),
        ({"allowed_sequences": [[1] * 9]}, (END,), "allowed_sequences.sequences", "could be cut short"),
        (
            {"decoding": {"strategy": "constrained_beam", "width": 2, "words": [[1, END]]}},
            (END,),
            "decoding.words",
            "ends",
        ),
    ],
)
def test_what_could_never_be_is_refused(fields: dict[str, object], stops: Tokens, param: str, message: str) -> None:
    """Stop conditions that contradict the parameters: refused when the request comes, by name."""
    with pytest.raises(RequestRefused) as caught:
        make_engine().add(make_request("x", [1], fields, stop_token_ids=stops))
    assert caught.value.param == param and message in str(caught.value)


def test_one_token_sequences_need_no_stop_token() -> None:
    """Choosing a label by one token: with max_tokens 1 the length ends the answer."""
    fields = {"allowed_sequences": [[4], [9], [11]], "temperature": 0}
    answers = run_alone(make_request("label", [3], fields, max_tokens=1, stop_token_ids=()))
    (best,) = answers[("label", 0)]
    assert best.token_id == max((4, 9, 11), key=lambda token: float(noise((3,))[token]))
