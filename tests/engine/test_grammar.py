"""Grammars through the engine: every answer is a sentence, and is the same whatever shares the batch."""

import random
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from scripted_engine import END, LIMITS, VOCAB_SIZE, Answers, collect, make_request, noise, run_all, token_ids

from penstock_decoding.grammar.vocabulary import Vocabulary
from penstock_engine.engine import Engine
from penstock_engine.errors import RequestRefused
from penstock_engine.limits import Limits
from penstock_engine.outputs import Finish, TokenOutput
from penstock_engine.scripted import ScriptedRunner

# Token 0 is the end; the others are one or two letters.
PIECES = ["", *"abcde", "ab", "ba", "cab", "dd", *("0", "1", "00", "(", ")")]
VOCABULARY = Vocabulary(tuple(piece.encode() for piece in PIECES))
REGEX = "(ab|c[ab]?|dd)*[01]+"


def grammar_engine(limits: Limits = LIMITS) -> Engine:
    runner = ScriptedRunner(noise, num_blocks=limits.num_blocks, block_size=limits.block_size)
    return Engine(runner, limits, vocabulary=VOCABULARY)


def text_of(answer: Sequence[TokenOutput]) -> str:
    return "".join(PIECES[token] for token in token_ids(answer) if token < len(PIECES))


def is_beginning(text: str) -> bool:
    """Whether some sentence of `REGEX` begins so: its automaton by hand."""
    return re.fullmatch("(ab|c[ab]?|dd)*(a|d)?|(ab|c[ab]?|dd)*[01]+", text) is not None


FIELDS: list[dict[str, object]] = [
    {"guided_regex": REGEX, "n": 3, "seed": 1},
    {"guided_regex": REGEX, "temperature": 0},
    {"guided_regex": REGEX, "temperature": 2.0, "top_k": 5, "seed": 3},
    {"decoding": {"strategy": "beam", "width": 3, "n": 2, "chain": [{"grammar": {"regex": REGEX}}]}},
    {"guided_choice": ["cab", "ab", "dd01"], "n": 4, "seed": 5},
    {"seed": 6, "n": 2},
    {"temperature": 0},
]


@pytest.mark.parametrize("seed", range(4))
def test_mixed_equals_alone(seed: int) -> None:
    """Samples, beams and plain requests in one small batch: each answer is what it is alone, and what
    ended by itself is a sentence."""
    rng = random.Random(seed)
    requests = [
        make_request(f"{i}", [rng.randrange(1, VOCAB_SIZE) for _ in range(rng.randrange(1, 9))], fields, max_tokens=10)
        for i, fields in enumerate(rng.sample(FIELDS, len(FIELDS)))
    ]
    answers = run_all(grammar_engine(replace(LIMITS, num_blocks=16)), requests)
    for request in requests:
        alone = run_all(grammar_engine(replace(LIMITS, num_blocks=256, max_batch_tokens=512)), [request])
        assert alone == {key: answer for key, answer in answers.items() if key[0] == request.id}
        for answer in alone.values():
            steps = [step.params.regex for step in request.decoding.chain if step.name == "grammar"]
            if steps == [REGEX]:
                assert is_beginning(text_of(answer))
                assert answer[-1].finish is not Finish.STOP or re.fullmatch(REGEX, text_of(answer))
            elif steps:
                assert answer[-1].finish is Finish.STOP and text_of(answer) in ("cab", "ab", "dd01")


def test_preempted_equals_alone() -> None:
    """Two requests of which the cache holds one: a sequence that is computed again is where it was in its grammar."""
    requests = [
        make_request(
            name, [1, 2, 3], {"guided_regex": "(a0|ab1){40}", "seed": i, "n": 2}, max_tokens=20, stop_token_ids=[28]
        )
        for i, name in enumerate("xy")
    ]
    engine = grammar_engine(replace(LIMITS, num_blocks=14))
    answers = run_all(engine, requests)
    assert engine.stats.num_preemptions > 0
    for request in requests:
        alone = run_all(grammar_engine(replace(LIMITS, num_blocks=64)), [request])
        assert alone == {key: answer for key, answer in answers.items() if key[0] == request.id}
        assert all(re.fullmatch("(a0|ab1)*(a|ab)?", text_of(answer)) for answer in alone.values())


def test_a_search_within_a_grammar_finds_the_best_sentences() -> None:
    """A beam as wide as the language: its answers are all sentences, in the order of their own log-probabilities."""
    choices = ["cab", "ab", "dd", "c", "ab0"]
    search = {
        "strategy": "beam",
        "width": 8,
        "n": 5,
        "length_penalty": 0.0,
        "chain": [{"grammar": {"choice": choices}}],
    }
    request = make_request("x", [1, 2], {"decoding": search}, max_tokens=6)
    answers = run_all(grammar_engine(replace(LIMITS, max_rows=16)), [request])
    assert {text_of(answer) for answer in answers.values()} <= set(choices)
    scores = [answers["x", i][-1].score or 0.0 for i in range(len(answers))]
    assert min(scores) < 0 and scores == sorted(scores, reverse=True)


def test_preparing() -> None:
    """A request with a grammar is made ready first; a grammar that is none is refused by name."""
    engine = grammar_engine()
    assert engine.prepare(make_request("plain", [1], {})) is None
    good = engine.prepare(make_request("good", [1], {"guided_regex": REGEX}))
    assert good is not None
    good.finish()
    assert good.is_done
    bad = engine.prepare(make_request("bad", [1], {"guided_regex": "("}))
    assert bad is not None
    with pytest.raises(RequestRefused, match="invalid regex") as caught:
        bad.finish()
    assert caught.value.param == "grammar.regex"


def test_what_the_request_lacks_is_told() -> None:
    """A grammar needs the tokens' texts, and a stop token to end by."""
    request = make_request("x", [1], {"guided_regex": REGEX})
    plain = Engine(ScriptedRunner(noise, num_blocks=64, block_size=4), LIMITS)
    for call in (plain.prepare, plain.add):
        with pytest.raises(RequestRefused, match="no tokenizer") as caught:
            call(request)
        assert caught.value.param == "grammar"
    for request in (
        make_request("x", [1], {"guided_regex": REGEX}, stop_token_ids=()),
        make_request("x", [1], {"guided_regex": REGEX}, min_tokens=2),
    ):
        with pytest.raises(RequestRefused, match="end") as caught:
            grammar_engine().prepare(request)
        assert caught.value.param == "grammar.regex"


def test_a_grammar_that_was_not_prepared_is_late_and_no_more() -> None:
    """Added without being made ready, it is compiled while its prompt is computed."""
    answers = run_all(grammar_engine(), [make_request("x", [1, 2], {"guided_choice": ["cab"]})])
    assert text_of(answers["x", 0]) == "cab" and answers["x", 0][-1].token_id == END


def test_one_that_cannot_be_compiled_fails_alone() -> None:
    """Should it be added all the same, its neighbours never notice."""
    engine, answers = grammar_engine(), Answers()
    engine.add(make_request("bad", [1, 2], {"guided_regex": "("}))
    engine.add(make_request("good", [3], {"guided_regex": REGEX, "seed": 2}))
    failed = []
    while engine.has_work:
        for name, output in engine.step():
            if not hasattr(output, "tokens"):
                failed.append((name, output.message))
            else:
                for token in output.tokens:
                    answers.setdefault((name, token.choice), []).append(token)
        engine.check()
    assert [name for name, _ in failed] == ["bad"] and "invalid regex" in failed[0][1]
    good = make_request("good", [3], {"guided_regex": REGEX, "seed": 2})
    assert answers == run_all(grammar_engine(), [good])


def test_aborted_at_any_step() -> None:
    """However far it has come, an aborted request leaves nothing behind."""
    for num_steps in range(5):
        engine = grammar_engine()
        engine.add(make_request("x", [1, 2], FIELDS[num_steps % 4], max_tokens=10))
        for _ in range(num_steps):
            collect(engine, {})
        engine.abort("x")
        engine.check()
        assert not engine.has_work
