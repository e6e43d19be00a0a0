"""`Sampler`: processors, draws and log-probabilities of a whole batch."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from decoding_rows import (
    NEVER,
    apply_chains,
    assert_same_draws,
    busy_step,
    distinct_scores,
    make_row,
    sample_row,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from penstock_decoding.catalogue import Catalogue
from penstock_decoding.draws import BestTokens, PerturbedTokens, RowDraw, SampledTokens
from penstock_decoding.params import Step
from penstock_decoding.processors import DEFAULT_ORDER
from penstock_decoding.processors.penalties import PenaltiesParams
from penstock_decoding.sample_row import RowDraws, RowLogprobs, SampleRow
from penstock_decoding.sampler import Sampler

VOCAB_SIZE = 301
FALSE_ALARM = 1e-6  # of one statistical test, were its numbers drawn anew; they are fixed, so no test flickers


def sample(scores: Tensor, rows: list[SampleRow]) -> list[RowDraws]:
    """Draws with a fresh sampler from a copy of the scores."""
    return Sampler().sample(scores.clone(), rows)


def alone(scores: Tensor, row: SampleRow) -> RowDraws:
    """The row's draws when it is the whole batch, in row 0."""
    index = row.row.index
    only = replace(row, row=replace(row.row, index=0))
    return sample(scores[index : index + 1], [only])[0]


def row_draws() -> st.SearchStrategy[RowDraw]:
    """A draw of any kind."""
    samples = st.lists(st.integers(0, 9), min_size=1, max_size=4).map(tuple)
    named = st.none() | st.lists(st.integers(-1, VOCAB_SIZE - 1), min_size=2, max_size=2).map(np.asarray)
    perturbed = st.builds(
        PerturbedTokens,
        count=st.integers(1, 5),
        logprob=st.just(-3.0),
        peak=st.sampled_from([math.nan, -2.0]),
        floor=st.sampled_from([-math.inf, -3.0]),
        rank=st.integers(0, 3),
    )
    best = st.builds(BestTokens, st.sampled_from([1, 1, 2, 8]), named)
    return st.builds(SampledTokens, samples, st.booleans()) | best | perturbed


@st.composite
def batches(draw: st.DrawFn) -> list[SampleRow]:
    """1 to 6 rows of every kind: greedy, one draw or several, best-k, each with or without log-probabilities."""
    return [
        sample_row(
            i,
            chain=[
                busy_step(name, i) for name in draw(st.permutations(DEFAULT_ORDER))[: draw(st.sampled_from([0, 2, 7]))]
            ],
            seed=draw(st.integers(-5, 5)),
            prompt=[1, 2, 2, 3] * draw(st.integers(0, 25)),
            draw=draw(row_draws()),
            num_logprobs=draw(st.sampled_from([None, None, 0, 1, 5])),
            num_processed_logprobs=draw(st.sampled_from([None, None, 0, 4])),
        )
        for i in range(draw(st.integers(1, 6)))
    ]


@given(rows=batches(), seed=st.integers(0, 1000), grain=st.sampled_from([1, 8, 2**20]))
@settings(max_examples=100, deadline=None)
def test_alone_equals_mixed(rows: list[SampleRow], seed: int, grain: int) -> None:
    """Every row of a mixed batch gets, bit for bit, the tokens and log-probabilities that it gets alone, also with
    coarse scores, where many tokens tie: which of them were best once hung on how many a neighbour asked for."""
    scores = distinct_scores(len(rows), VOCAB_SIZE, seed).mul(grain).round().div(grain)
    for row, mixed in zip(rows, sample(scores, rows), strict=True):
        assert_same_draws(mixed, alone(scores, row))
        assert len(mixed.tokens) == num_draws(row.draw)


def num_draws(draw: RowDraw) -> int:
    """How many tokens a row gives."""
    if isinstance(draw, SampledTokens):
        return len(draw.samples)
    named = draw.named if isinstance(draw, BestTokens) else None
    return draw.count + (0 if named is None else len(named))


@pytest.fixture
def two_threads() -> Iterator[None]:
    """As many threads as it takes for torch to split a sum."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_alone_equals_mixed_with_threads() -> None:
    """With two threads torch splits the sum over a lone long row and not over a batch; logsumexp thus rounded by what
    shared the batch, and with it best-k log-probabilities and, at times, the nucleus."""
    count = 6
    scores = distinct_scores(count, 50257, seed=1)
    rows = [sample_row(i, draw=BestTokens(3), chain=[busy_step("top_p")], num_logprobs=3) for i in range(count)]
    for row, mixed in zip(rows, sample(scores, rows), strict=True):
        assert_same_draws(mixed, alone(scores, row))
    flat = distinct_scores(count, 50257, seed=2, spread=0.1)
    rows = [sample_row(i, draw=BestTokens(3)) for i in range(count)]
    for row, mixed in zip(rows, sample(flat, rows), strict=True):
        assert_same_draws(mixed, alone(flat, row))


def test_no_rows() -> None:
    """An empty batch is no special case."""
    assert sample(torch.empty(0, VOCAB_SIZE), []) == []


def test_greedy_is_the_likeliest_processed_token() -> None:
    """Best-1 takes the argmax after the chain; on a tie the lowest id."""
    scores = torch.zeros(2, 50)
    scores[1, 20] = 1.0
    rows = [sample_row(0, draw=BestTokens()), sample_row(1, draw=BestTokens(), chain=[busy_step("logit_bias")])]
    assert [draws.tokens.tolist() for draws in sample(scores, rows)] == [[0], [11]]


@pytest.mark.parametrize("count", [2, 5, VOCAB_SIZE])
def test_best_k_with_processed_logprobs(count: int) -> None:
    """Best-k are the k likeliest, best first, with log-probabilities of the processed distribution."""
    scores = distinct_scores(2, VOCAB_SIZE, seed=1)
    chain = [busy_step("penalties"), busy_step("temperature")]
    draws = sample(scores, [sample_row(i, draw=BestTokens(count), chain=chain) for i in range(2)])
    processed = apply_chains([(make_row(i), chain) for i in range(2)], scores).double().log_softmax(-1)
    for row, got in zip(processed, draws, strict=True):
        values, ids = row.topk(count)
        assert got.tokens.tolist() == ids.tolist()
        np.testing.assert_allclose(got.logprobs, values.numpy(), rtol=1e-5, atol=1e-5)


def test_unasked_logprobs_are_absent() -> None:
    """Nobody who asked for none pays for log-probabilities."""
    rows = [sample_row(0), sample_row(1, draw=BestTokens()), sample_row(2, num_logprobs=2)]
    for draws in sample(distinct_scores(3, VOCAB_SIZE, seed=1), rows)[:2]:
        assert np.isnan(draws.logprobs).all()
        assert (draws.model, draws.processed) == (None, None)


@pytest.mark.parametrize("num_logprobs", [0, 1, 5, VOCAB_SIZE])
@pytest.mark.parametrize("draw", [BestTokens(), SampledTokens((0,)), SampledTokens((0, 1, 2, 3))], ids=str)
def test_model_and_processed_logprobs(num_logprobs: int, draw: RowDraw) -> None:
    """The model's are log-softmax of the untouched logits, likeliest first, whatever the chain excludes; the processed
    ones are that of the chain's result."""
    scores = distinct_scores(2, VOCAB_SIZE, seed=3)
    chain = [busy_step(name) for name in DEFAULT_ORDER]
    expected = scores.log_softmax(-1)
    processed = apply_chains([(make_row(i), chain) for i in range(2)], scores).log_softmax(-1)
    rows = [
        sample_row(i, chain=chain, draw=draw, num_logprobs=num_logprobs, num_processed_logprobs=num_logprobs)
        for i in range(2)
    ]
    for i, draws in enumerate(sample(scores, rows)):
        assert draws.model is not None and draws.processed is not None
        assert draws.model.chosen == tuple(expected[i, torch.from_numpy(draws.tokens)].tolist())
        values, ids = expected[i].topk(num_logprobs)
        assert draws.model.top == tuple(zip(ids.tolist(), values.tolist(), strict=True))
        assert draws.processed.chosen == tuple(processed[i, torch.from_numpy(draws.tokens)].tolist())
        assert [value for _, value in draws.processed.top] == processed[i].topk(num_logprobs).values.tolist()


def test_rows_ask_for_different_numbers_of_logprobs() -> None:
    """Each row gets as many as it asked for, in a batch where others ask for more, fewer or none."""
    asked = [3, None, 0, 7, 1]
    rows = [sample_row(i, num_logprobs=num) for i, num in enumerate(asked)]
    draws = sample(distinct_scores(len(asked), VOCAB_SIZE, seed=4), rows)
    assert [got.model and (len(got.model.chosen), len(got.model.top)) for got in draws] == [
        (1, 3),
        None,
        (1, 0),
        (1, 7),
        (1, 1),
    ]


KINDS: dict[str, RowDraw] = {
    "sampled": SampledTokens((0,)),
    "several": SampledTokens((0, 1, 2)),
    "greedy": BestTokens(),
    "best": BestTokens(4),
    "perturbed": PerturbedTokens(3, 0.0, math.nan, -math.inf, 0),
}
BROKEN = {"nan": [(5, math.nan)], "inf": [(5, math.inf)], "two_infs": [(5, math.inf), (6, math.inf)], "empty": []}


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chain", [(), DEFAULT_ORDER], ids=["bare", "default"])
def test_broken_row_fails_alone(broken: str, kind: str, chain: tuple[str, ...]) -> None:
    """A row of NaN, +inf or nothing but -inf is marked invalid. It once made the cumulative search end past the
    vocabulary, an index error for every row of the batch; its neighbours must get what they get without it."""
    scores = distinct_scores(3, VOCAB_SIZE, seed=5)
    if not BROKEN[broken]:
        scores[1] = NEVER
    for token, value in BROKEN[broken]:
        scores[1, token] = value
    rows = [
        sample_row(
            i,
            chain=[busy_step(name, i) for name in chain],
            draw=KINDS[kind],
            num_logprobs=2,
        )
        for i in range(3)
    ]
    draws = sample(scores, rows)
    # A draw with log-probabilities can tell by them that nothing was left.
    can_tell = broken == "empty" and KINDS[kind].with_logprobs
    assert [got.is_valid for got in draws] == [True, can_tell, True]
    assert not can_tell or (draws[1].logprobs == NEVER).all()
    for i in (0, 2):
        assert_same_draws(draws[i], alone(scores, rows[i]))


def test_minus_infinity_is_no_fault() -> None:
    """Logits may exclude tokens themselves: a row with one finite score is valid and draws that token."""
    scores = torch.full((1, VOCAB_SIZE), NEVER)
    scores[0, 300] = -3.0
    (draws,) = sample(scores, [sample_row(0, num_logprobs=0)])
    assert (draws.is_valid, draws.tokens.tolist(), draws.model) == (True, [300], RowLogprobs((0.0,), ()))


@pytest.mark.parametrize("varied", ["seed", "position", "sample"])
def test_draws_depend_on(varied: str) -> None:
    """Another seed, position or sample index draws anew; the same ones draw the same again."""
    scores = distinct_scores(1, VOCAB_SIZE, seed=6, spread=0.3)

    def token(number: int) -> int:
        arguments = {name: number if name == varied else 3 for name in ("seed", "position", "sample")}
        draw = SampledTokens((arguments["sample"],))
        row = sample_row(0, seed=arguments["seed"], prompt=[1] * arguments["position"], draw=draw)
        return int(sample(scores, [row])[0].tokens[0])

    tokens = [token(number) for number in range(60)]
    assert tokens == [token(number) for number in range(60)]
    assert len(set(tokens)) > 40


def test_several_draws_of_a_row_are_those_of_several_rows() -> None:
    """n draws from one row, as after a shared prompt, are those of n rows with one sample index each."""
    scores = distinct_scores(1, VOCAB_SIZE, seed=7)
    (together,) = sample(scores, [sample_row(0, draw=SampledTokens((0, 1, 2, 3)))])
    apart = sample(scores.repeat(4, 1), [sample_row(i, draw=SampledTokens((i,))) for i in range(4)])
    assert together.tokens.tolist() == [int(draws.tokens[0]) for draws in apart]


def test_frequencies_of_the_whole_chain() -> None:
    """20 000 draws through temperature and top-k are distributed as softmax of the processed scores (chi-square)."""
    count = 20_000
    scores = distinct_scores(1, VOCAB_SIZE, seed=8)
    chain = [busy_step("temperature"), busy_step("top_k", 10)]
    (draws,) = sample(scores, [sample_row(0, chain=chain, draw=SampledTokens(tuple(range(count))))])
    expected = apply_chains([(make_row(0), chain)], scores)[0].double().softmax(-1).numpy() * count
    seen = np.bincount(draws.tokens, minlength=VOCAB_SIZE)
    assert not seen[expected == 0].any()
    assert stats.chisquare(seen[expected > 0], expected[expected > 0]).pvalue > FALSE_ALARM


def test_prompt_extended_by_its_answer_continues_it() -> None:
    """A token is drawn by its absolute position: moved from the answer into the prompt, it continues the same."""
    scores = distinct_scores(1, VOCAB_SIZE, seed=9)
    as_answer = sample_row(0, prompt=(1, 2), output=(8, 9))
    as_prompt = sample_row(0, prompt=(1, 2, 8, 9), output=())
    assert_same_draws(sample(scores, [as_answer])[0], sample(scores, [as_prompt])[0])


def test_state_follows_fork_rollback_and_release() -> None:
    """The sampler hands slot events to its processors: each slot is penalised for its own tokens at every step."""
    scores = torch.zeros(1, 6)
    scores[0] = torch.tensor([6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    chain = [Step("penalties", PenaltiesParams(repetition=10))]
    sampler = Sampler()

    def greedy(slot: int, prompt: tuple[int, ...], output: tuple[int, ...]) -> int:
        row = sample_row(0, draw=BestTokens(), chain=chain, slot=slot, prompt=prompt, output=output)
        return int(sampler.sample(scores.clone(), [row])[0].tokens[0])

    assert greedy(0, (0,), ()) == 1
    assert greedy(0, (0,), (1,)) == 2
    sampler.fork(0, 1)
    assert greedy(0, (0,), (1, 2)) == 3
    assert greedy(1, (0,), (1, 3)) == 2
    sampler.rollback(0, 0)
    assert greedy(0, (0,), ()) == 1
    sampler.release(1)
    assert greedy(1, (5,), ()) == 0


def test_sampler_takes_its_own_processors() -> None:
    """The table is an argument, so a test or a plug-in brings its own."""

    class Only:
        """Leaves one token."""

        Params = int

        def plan(self, asks: object) -> "Only":
            return self

        def apply(self, scores: Tensor) -> None:
            scores[:, :-1] = NEVER

    row = sample_row(0, chain=[Step("only", 0)])
    (draws,) = Sampler(Catalogue({"only": Only}, {})).sample(torch.zeros(1, 9), [row])
    assert draws.tokens.tolist() == [8]
