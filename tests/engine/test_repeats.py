"""Processors that look back at what was written: through the engine no fork, preemption or neighbour changes that."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_engine import LIMITS, Answers, make_engine, make_request, run_all, run_alone, token_ids

from penstock_engine.request import GenerationRequest

# So few blocks that requests push one another out and come back later.
TIGHT = replace(LIMITS, num_blocks=13)
PROMPT = [3, 4, 5, 3, 4, 6, 3, 4]
CHAINS: dict[str, list[dict[str, object]]] = {
    "ngram": [{"no_repeat_ngram": 2}, {"top_k": 6}],
    "dry": [{"dry": {"multiplier": 3.0, "allowed_length": 1, "breakers": [[5], [6, 3]]}}, {"top_k": 4}],
    "words": [{"bad_words": {"words": [[3], [4, 7], [9, 10, 11], [12, 13]]}}, {"top_k": 8}],
    "xtc": [{"xtc": {"probability": 0.5, "threshold": 0.05}}],
    "all": [
        {"bad_words": {"words": [[3], [4, 7]]}},
        {"allowed_tokens": list(range(14))},
        {"no_repeat_ngram": 3},
        {"force_end": 7},
        {"dry": {"multiplier": 2.0, "allowed_length": 1, "breaker_texts": []}},
        {"xtc": {"probability": 0.3, "threshold": 0.1}},
    ],
}
STRATEGIES: dict[str, dict[str, object]] = {
    "samples": {"strategy": "sample", "n": 3},
    "beam": {"strategy": "beam", "width": 3, "n": 2},
    "greedy": {"strategy": "greedy"},
}


def request(name: str, strategy: str, chain: str, seed: int = 1, max_tokens: int = 12) -> GenerationRequest:
    decoding = STRATEGIES[strategy] | {"chain": CHAINS[chain]}
    return make_request(name, PROMPT, {"decoding": decoding, "seed": seed}, max_tokens=max_tokens)


def tokens(answers: Answers, name: str) -> dict[int, list[int]]:
    return {choice: token_ids(answer) for (owner, choice), answer in answers.items() if owner == name}


@given(
    asked=st.lists(
        st.tuples(st.sampled_from(list(STRATEGIES)), st.sampled_from(list(CHAINS)), st.integers(0, 50)),
        min_size=2,
        max_size=5,
    )
)
@settings(max_examples=15, deadline=None)
def test_mixed_and_preempted_equals_alone(asked: list[tuple[str, str, int]]) -> None:
    """Every request of a batch that does not fit into the cache gets what it gets alone."""
    requests = [request(f"r{i}", *case) for i, case in enumerate(asked)]
    engine = make_engine(TIGHT)
    answers = run_all(engine, requests)
    for one in requests:
        assert tokens(answers, one.id) == tokens(run_alone(one), one.id)


def test_requests_are_preempted() -> None:
    """The test above would prove little if everything fitted."""
    engine = make_engine(TIGHT)
    run_all(engine, [request(f"r{i}", "samples", "xtc", i) for i in range(4)])
    assert engine.stats.num_preemptions > 0


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_answer_repeats_a_bigram(strategy: str) -> None:
    """Through forks and searches, no answer ends a pair of tokens that stood before, in it or in the prompt."""
    for seed in range(5):
        answers = run_all(make_engine(), [request("r", strategy, "ngram", seed, max_tokens=20)])
        for answer in tokens(answers, "r").values():
            whole = PROMPT + answer
            pairs = [tuple(whole[i : i + 2]) for i in range(len(whole) - 1)]
            assert all(pairs.index(pairs[i]) == i for i in range(len(PROMPT) - 1, len(pairs)))


def test_replays_behind_a_longer_prompt() -> None:
    """A prompt extended by the first tokens of an answer continues the same answer: strikes and repeats look at the
    whole, not at what was the prompt."""
    for chain in ("ngram", "dry", "words", "xtc"):
        fields = {"decoding": {"chain": CHAINS[chain]}, "seed": 9}
        answer = tokens(run_alone(make_request("r", PROMPT, fields, max_tokens=12)), "r")[0]
        for split in (1, 4, 7):
            if split < len(answer):
                rest = make_request("r", PROMPT + answer[:split], fields, max_tokens=12 - split)
                assert tokens(run_alone(rest), "r")[0] == answer[split:]
