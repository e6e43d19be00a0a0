"""Prompts that are read: each token's log-probability and the embedding, whatever else the request does."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from launching_runner import ScriptedLaunches
from numpy.typing import NDArray
from reading_requests import Heard, having_read, hear, hear_alone, hear_step
from scripted_engine import LIMITS, VOCAB_SIZE, make_engine, make_request, noise, run_alone, token_ids

from penstock_decoding.draws import Best
from penstock_decoding.params import DecodingParams, Step
from penstock_decoding.strategies import STRATEGIES
from penstock_decoding.strategies.greedy import Greedy
from penstock_decoding.strategy import Branches, Drawn, Live, StopRule
from penstock_engine.engine import Engine
from penstock_engine.errors import RequestRefused
from penstock_engine.request import GenerationRequest, Pooling, PromptReading, StopConditions
from penstock_engine.scripted import ScriptedRunner

PROMPT = (3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2)
POOLINGS: tuple[Pooling, ...] = ("mean", "last")


def scores(prompt: tuple[int, ...] = PROMPT) -> NDArray[np.float64]:
    """The script's, after each token of the prompt: [tokens, vocab]."""
    return np.stack([noise(prompt[: i + 1]) for i in range(len(prompt))]).astype(np.float64)


def logprobs(prompt: tuple[int, ...] = PROMPT) -> NDArray[np.float64]:
    """What numpy makes of them."""
    own = scores(prompt)
    peaks = own.max(-1, keepdims=True)
    return np.asarray(own - peaks - np.log(np.exp(own - peaks).sum(-1, keepdims=True)))


def pooled(pooling: Pooling, prompt: tuple[int, ...] = PROMPT) -> NDArray[np.float32]:
    """The hidden states of a scripted runner are its scores."""
    own = scores(prompt)
    return np.asarray(own.mean(0) if pooling == "mean" else own[-1], np.float32)


def read(name: str = "a", **fields: object) -> GenerationRequest:
    return having_read(make_request(name, PROMPT, {"temperature": 0, **fields}), 3, max_tokens=0)


def test_each_prompt_token_but_the_first_is_told_as_numpy_has_it() -> None:
    """Its log-probability, its rank and the likeliest tokens at its place, best first; in pieces of 16 tokens."""
    heard = hear(make_engine(), [read()])["a"]
    expected = logprobs()
    for place, told in enumerate(heard.prompt_logprobs):
        own, token = expected[place], PROMPT[place + 1]
        best = np.argsort(-own, kind="stable")
        assert told.chosen == pytest.approx(own[token], abs=1e-5)
        assert told.rank == best.tolist().index(token) + 1
        assert [token_id for token_id, _ in told.top] == best[:3].tolist()
        assert [value for _, value in told.top] == pytest.approx(own[best[:3]], abs=1e-5)
    assert heard.is_complete(read()) and not heard.answers


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("budget", [8, 11, 64])
def test_an_embedding_is_the_hidden_states_pooled(pooling: Pooling, budget: int) -> None:
    """However the prompt is cut: the scripted states are sums of few powers of two, so even the bits are numpy's."""
    request = having_read(make_request("a", PROMPT, {}), pooling=pooling, max_tokens=0)
    heard = hear(make_engine(replace(LIMITS, max_batch_tokens=budget)), [request])["a"]
    assert heard == Heard([], [pooled(pooling).tobytes()], {}, None, True)


def test_a_generated_token_has_the_same_floats_when_it_is_read() -> None:
    """Prompt and answer read in one go: bit for bit what was told beside the tokens when they were chosen."""
    request = make_request("a", PROMPT, {"num_logprobs": 4, "seed": 5}, max_tokens=14, stop_token_ids=())
    answer = run_alone(request)["a", 0]
    again = make_request("b", (*PROMPT, *token_ids(answer)), {})
    heard = hear_alone(having_read(again, 4, max_tokens=0))
    own = [token.logprobs for token in answer]
    assert [replace(told, rank=None) for told in heard.prompt_logprobs[-len(own) :]] == own


FIELDS: tuple[dict[str, object], ...] = (
    {"temperature": 0},
    {"temperature": 1.1, "n": 3, "seed": 2},
    {"best_of": 3, "seed": 4},
    {"num_logprobs": 2, "num_processed_logprobs": 1, "seed": 3},
    {"decoding": {"strategy": "beam", "width": 3}, "n": 2},
    {"decoding": {"strategy": "stochastic_beam", "width": 2}, "seed": 6},
)


@pytest.mark.parametrize("fields", FIELDS)
@pytest.mark.parametrize("is_watched", [False, True])
def test_answers_are_what_they_are_without(fields: dict[str, object], is_watched: bool) -> None:
    """Whatever searches for them; all of the prompt is told before the first token, or with it."""
    request = replace(make_request("a", PROMPT, fields, max_tokens=6), is_watched=is_watched)
    heard = hear_alone(having_read(request, 1, "mean"))
    plain = hear_alone(request)
    assert heard.answers == plain.answers and heard.answers
    assert heard.is_complete(having_read(request, 1, "mean"))
    assert heard.embeddings == [pooled("mean").tobytes()]


@pytest.mark.parametrize("fields", FIELDS)
def test_with_no_tokens_to_generate_the_prompt_is_all(fields: dict[str, object]) -> None:
    """One last output without tokens, whatever search was named."""
    request = having_read(make_request("a", PROMPT, fields), 0, "last", max_tokens=0)
    heard = hear(make_engine(), [request])["a"]
    assert heard.is_complete(request) and not heard.answers and heard.failure is None
    assert heard.embeddings == [pooled("last").tobytes()]
    assert all(told.top == () for told in heard.prompt_logprobs)


def test_a_prompt_of_one_token_has_nothing_to_tell_but_an_embedding() -> None:
    heard = hear(make_engine(), [having_read(make_request("a", [7], {}), 2, "mean", max_tokens=0)])["a"]
    assert heard == Heard([], [pooled("mean", (7,)).tobytes()], {}, None, True)
    heard = hear(make_engine(), [having_read(make_request("a", [7], {}), 2, max_tokens=0)])["a"]
    assert heard == Heard([], [], {}, None, True)


class Untouched(Greedy):
    """A strategy that goes on by itself from the first token on, and remembers what it is asked."""

    going_on = (0,)
    asked: ClassVar[list[str]] = []

    def draw(self, live: Live, stop: StopRule) -> Best:
        self.asked.append("draw")
        return super().draw(live, stop)

    def advance(self, live: Live, drawn: Drawn, stop: StopRule) -> Branches:
        self.asked.append("advance")
        return super().advance(live, drawn, stop)


@pytest.mark.parametrize("launches", [False, True])
def test_nothing_is_drawn_where_no_token_is_wanted(monkeypatch: pytest.MonkeyPatch, launches: bool) -> None:
    """Neither by the ordinary way nor ahead of it: while a prompt is read in chunks beside a request that decodes, the
    last chunk a single token, as in a step that only decodes."""
    monkeypatch.setitem(STRATEGIES, "untouched", Untouched)
    Untouched.asked.clear()
    request = replace(read(), decoding=DecodingParams(Step("untouched", Untouched.Params()), (), seed=1))
    assert len(PROMPT) % 7 == 1, "seven tokens of each step are left to it"
    runner = (ScriptedLaunches if launches else ScriptedRunner)(noise, num_blocks=64, block_size=4)
    other = make_request("b", [1, 2], {"seed": 3}, max_tokens=20, stop_token_ids=())
    heard = hear(Engine(runner, replace(LIMITS, max_batch_tokens=8)), [other, request])
    assert heard["a"].is_complete(request) and heard["a"].failure is None
    assert heard["b"].answers[0] == run_alone(other)["b", 0]
    assert Untouched.asked == []


def test_launched_steps_wait_for_prompts_to_be_read() -> None:
    """A group with `max_tokens` 0 has no token under way and would never have had its turn in a launched step: others
    decode beside it in ordinary steps until it is over, and are launched again from then on."""
    runner = ScriptedLaunches(noise, num_blocks=64, block_size=4)
    engine = Engine(runner, replace(LIMITS, max_batch_tokens=8))
    other = make_request("b", [1, 2], {"seed": 3}, max_tokens=30, stop_token_ids=())
    by_id, heard = {"b": other, "a": read()}, {"a": Heard(), "b": Heard()}
    engine.add(other)
    for _ in range(4):
        hear_step(engine, by_id, heard)
    num_launched = runner.num_launched
    assert num_launched > 0
    engine.add(by_id["a"])
    while not heard["a"].is_over:
        hear_step(engine, by_id, heard)
    assert runner.num_launched == num_launched
    while engine.has_work:
        hear_step(engine, by_id, heard)
    assert runner.num_launched > num_launched + 10
    assert heard["b"].answers[0] == run_alone(other)["b", 0]
    assert heard["a"] == hear_alone(read())


@pytest.mark.parametrize("pooling", [None, *POOLINGS])
@pytest.mark.parametrize("first", [2, 9, 21, 22])
@pytest.mark.parametrize("budget", [8, 64])
def test_only_the_tokens_from_the_first_one_asked_for_are_told(
    first: int, pooling: Pooling | None, budget: int
) -> None:
    """The same floats as among all of them. What comes before it is taken from the cache, but for a mean of it."""
    engine = make_engine(replace(LIMITS, max_batch_tokens=budget))
    hear(engine, [make_request("warm", PROMPT, {}, max_tokens=1)])
    request = having_read(make_request("a", PROMPT, {}), 3, pooling, max_tokens=0, first=first)
    heard = hear(engine, [request])["a"]
    assert heard.is_complete(request)
    assert heard.prompt_logprobs == hear_alone(read()).prompt_logprobs[first - 1 :]
    assert heard.embeddings == ([] if pooling is None else [pooled(pooling).tobytes()])
    num_found = 0 if pooling == "mean" else (min(first, len(PROMPT)) - 1) // LIMITS.block_size * LIMITS.block_size
    assert engine.stats.num_prefix_hit_tokens == num_found


def test_a_warm_cache_hides_nothing() -> None:
    """What others have computed is not taken from the cache but read anew; what it computes they do find, and it finds
    its own. The last hidden state alone needs no more than keys and values, so for that the cache is used."""
    engine = make_engine()
    told = hear(engine, [read("a")])["a"]
    assert engine.stats.num_prefix_hit_tokens == 0
    assert hear(engine, [read("b")])["b"] == told
    assert engine.stats.num_prefix_hit_tokens == 0
    plain = make_request("c", PROMPT, {"temperature": 0})
    assert hear(engine, [plain])["c"].answers[0] == run_alone(plain)["c", 0]
    num_found = engine.stats.num_prefix_hit_tokens
    assert num_found == (len(PROMPT) - 1) // LIMITS.block_size * LIMITS.block_size
    last = hear(engine, [having_read(make_request("d", PROMPT, {}), pooling="last", max_tokens=0)])["d"]
    assert engine.stats.num_prefix_hit_tokens == 2 * num_found
    assert last.embeddings == [pooled("last").tobytes()]
    mean = hear(engine, [having_read(make_request("e", PROMPT, {}), pooling="mean", max_tokens=0)])["e"]
    assert mean.embeddings == [pooled("mean").tobytes()]
    assert engine.stats.num_prefix_hit_tokens == 2 * num_found


def test_a_prompt_preempted_half_way_is_told_once() -> None:
    """Seven answers leave it one token of each step's budget, and in the end none of the blocks. It comes back, and
    goes on where it stopped: nothing twice, nothing left out, the mean over each position once."""
    growing = make_request("b", [1, 2, 3, 4], {"seed": 3, "n": 7}, max_tokens=20, stop_token_ids=())
    request = having_read(make_request("a", PROMPT, {"seed": 1}, max_tokens=2), 2, "mean")
    engine = make_engine(replace(LIMITS, num_blocks=36, max_batch_tokens=8))
    by_id, heard = {"a": request, "b": growing}, {"a": Heard(), "b": Heard()}
    engine.add(growing)
    engine.add(request)
    while engine.stats.num_preemptions == 0:
        hear_step(engine, by_id, heard)
    assert 0 < len(heard["a"].prompt_logprobs) < len(PROMPT) - 1
    while engine.has_work:
        hear_step(engine, by_id, heard)
    assert heard["a"] == hear_alone(request)
    assert heard["b"] == hear_alone(growing)


@pytest.mark.parametrize("length", [125, 126, 128])
def test_a_prompt_may_fill_the_context_and_the_cache(length: int) -> None:
    """With nothing to generate all of a prompt's tokens are computed and none comes after, whatever number of answers
    it would have had: 32 blocks of 4 hold them, and 31 do not."""
    prompt = tuple(i * 7 % VOCAB_SIZE for i in range(length))
    request = having_read(make_request("a", prompt, {"n": 8}), 0, "last", max_tokens=0)
    engine = make_engine(replace(LIMITS, num_blocks=32))
    assert hear(engine, [request])["a"].embeddings == [pooled("last", prompt).tobytes()]
    with pytest.raises(RequestRefused, match="need 32 KV cache blocks of 4; this server has 31"):
        make_engine(replace(LIMITS, num_blocks=31)).add(request)
    with pytest.raises(RequestRefused, match="more than the context length of 128"):
        engine.add(replace(request, prompt=prompt + prompt))


def test_a_prompt_that_is_read_alone_is_one_row() -> None:
    """Answers that it does not have keep no other request waiting."""
    engine = make_engine(replace(LIMITS, max_batch_tokens=8))
    for name in "ab":
        engine.add(having_read(make_request(name, PROMPT[:6], {"n": 8}), 0, max_tokens=0))
    engine.step()
    assert engine.stats.num_running == 1 and engine.stats.num_waiting == 0, "one was over, and left room for the other"


@pytest.mark.parametrize(
    ("reading", "max_tokens", "param"),
    [
        (None, 0, "max_tokens"),
        (PromptReading(1), -1, "max_tokens"),
        (PromptReading(), 3, "reading"),
        (PromptReading(-1), 3, "prompt_logprobs"),
        (PromptReading(VOCAB_SIZE + 1), 3, "prompt_logprobs"),
        (PromptReading(1, first=0), 3, "reading"),
        (PromptReading(1, first=3), 3, "reading"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(reading: PromptReading | None, max_tokens: int, param: str) -> None:
    request = replace(make_request("a", [1, 2], {}), reading=reading, stop=StopConditions(max_tokens))
    with pytest.raises(RequestRefused) as refused:
        make_engine().add(request)
    assert refused.value.param == param


def test_as_many_of_the_likeliest_as_there_are_tokens() -> None:
    request = having_read(make_request("a", PROMPT, {}), VOCAB_SIZE, max_tokens=0)
    for told in hear(make_engine(), [request])["a"].prompt_logprobs:
        assert sorted(token for token, _ in told.top) == list(range(VOCAB_SIZE))
        assert told.rank is not None and told.top[told.rank - 1][1] == told.chosen


@pytest.mark.parametrize("budget", [8, 64])
@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_scores_of_the_prompt_that_are_no_numbers_fail_their_request_alone(broken: float, budget: int) -> None:
    """In the middle of a prompt, where no token is drawn; its neighbours, one of them of the same prompt, read or not,
    get what they get alone, and its blocks are found by nobody afterwards."""
    place = 10

    def script(prefix: Sequence[int]) -> NDArray[np.float32]:
        given = noise(prefix).copy()
        if tuple(prefix) == PROMPT[:place]:
            given[5] = broken
        return given

    runner = ScriptedRunner(script, num_blocks=64, block_size=4)
    engine = Engine(runner, replace(LIMITS, max_batch_tokens=budget))
    others = [
        make_request("b", PROMPT, {"temperature": 0}),
        having_read(make_request("c", PROMPT[1:], {"seed": 3}), 1, "mean"),
        having_read(make_request("d", PROMPT[2:], {"seed": 4, "n": 2}), None, "last"),
    ]
    states = having_read(make_request("e", PROMPT, {}), pooling="mean", max_tokens=0)
    heard = hear(engine, [read(), *others, states])
    assert heard["a"].failure == "the model gave scores of the prompt that are not finite numbers"
    assert heard["e"].failure == "the model gave hidden states of the prompt that are not finite numbers"
    for other in others:
        assert heard[other.id] == hear_alone(other)
    assert engine.stats.num_blocks_in_use == 0


@pytest.mark.parametrize("budget", [8, 64])
def test_what_a_broken_prompt_has_computed_is_not_found_by_others(budget: int) -> None:
    """Keys and values may be as broken as the scores were: the next request of that prompt computes its own, and is
    none the worse for them."""
    is_broken = True

    def script(prefix: Sequence[int]) -> NDArray[np.float32]:
        return np.full(VOCAB_SIZE, np.nan, np.float32) if is_broken and len(prefix) == 10 else noise(prefix)

    runner = ScriptedRunner(script, num_blocks=64, block_size=4)
    engine = Engine(runner, replace(LIMITS, max_batch_tokens=budget))
    assert hear(engine, [read()])["a"].failure
    is_broken = False
    again = make_request("b", PROMPT, {"temperature": 0})
    assert hear(engine, [again])["b"] == hear_alone(again)
    assert engine.stats.num_prefix_hit_tokens == 0


def test_an_abort_amid_the_prompt_ends_it() -> None:
    """All of the request, or its only answer: the blocks are free, and nothing more is told."""
    for choice in (None, 0):
        engine = make_engine(replace(LIMITS, max_batch_tokens=8))
        engine.add(read())
        assert engine.step()
        assert engine.abort("a", choice)
        engine.check()
        assert engine.stats.num_blocks_in_use == 0 and not engine.has_work


def test_work_ahead_is_not_begun_for_tokens_that_nobody_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain whose processor works ahead is checked and prepared as ever, and then left alone."""
    begun: list[int] = []
    engine = make_engine()
    monkeypatch.setattr(engine._sampler, "works_ahead", lambda chain: True)
    monkeypatch.setattr(engine._sampler, "ahead", lambda row, chain: begun.append(row.slot))
    assert hear(engine, [read()])["a"].is_complete(read())
    assert begun == []
    hear(engine, [make_request("b", [1, 2], {}, max_tokens=2, stop_token_ids=())])
    assert begun
