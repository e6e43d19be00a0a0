"""`StochasticBeam` against sampling without replacement from every answer there is, which small models allow."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from decoding_rows import NEVER, make_row
from numpy.typing import NDArray
from scipy import stats

from penstock_decoding.draws import PerturbedTokens
from penstock_decoding.errors import NoAnswer, ParameterError
from penstock_decoding.finish import Finish
from penstock_decoding.perturb import perturbed_tokens
from penstock_decoding.processor import Row
from penstock_decoding.strategies.stochastic_beam import StochasticBeam, StochasticBeamParams
from penstock_decoding.strategy import Branches, Drawn, Live, StopRule

FALSE_ALARM = 1e-6  # of one statistical test, were its numbers drawn anew; they are fixed, so no test flickers
FAR = float(stats.norm.isf(FALSE_ALARM / 2))  # so many standard errors off would be that unlikely
NUM_SEEDS = 2500
END = 0
RULE = StopRule(np.array([END]), min_tokens=0, max_tokens=3)

Prefix = tuple[int, ...]
Model = Callable[[Prefix], Sequence[float]]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of a search."""

    tokens: Prefix
    finish: Finish
    score: float
    inclusion_probability: float


def three_tokens(prefix: Prefix) -> Sequence[float]:
    """An end and two words, whose scores depend on all that came before. 15 answers of at most 3 tokens."""
    place = sum(token * 3**i for i, token in enumerate(prefix)) + 5 * len(prefix)
    return [0.3 + 0.4 * len(prefix), math.sin(3 * place) + 0.2, 1.2 * math.cos(5 * place)]


def with_dead_ends(prefix: Prefix) -> Sequence[float]:
    """The same, but after a 2 and then a 1 nothing can be said."""
    return [NEVER] * 3 if prefix[:2] == (2, 1) else three_tokens(prefix)


def log_softmax(scores: Sequence[float]) -> NDArray[np.float64]:
    """In float64; all -inf for a row without any token."""
    table = np.asarray(scores, np.float64)
    return table if np.isneginf(table).all() else table - np.log(np.exp(table).sum())


def every_answer(model: Model, rule: StopRule = RULE, prefix: Prefix = (), logprob: float = 0.0) -> dict[Prefix, float]:
    """All answers that there are and their log-probabilities."""
    found: dict[Prefix, float] = {}
    for token, own in enumerate(log_softmax(model(prefix))):
        if own > NEVER:
            longer = (*prefix, token)
            is_over = rule.finishes(np.array([token]), len(longer))[0] != Finish.OPEN
            total = logprob + float(own)
            found |= {longer: total} if is_over else every_answer(model, rule, longer, total)
    return found


class Walk:
    """One search as the engine runs it, without the engine: what it was told is kept by answer."""

    def __init__(self, params: StochasticBeamParams, seed: int) -> None:
        self.search = StochasticBeam(params)
        self.seed = seed
        self.live: list[Prefix] = [()]
        self.num_generated = 0
        self.told: dict[int, list[int]] = {}
        self.answers: dict[int, Answer] = {}

    def draw(self, rule: StopRule) -> list[PerturbedTokens]:
        """What it asks for its rows."""
        asked = self.search.draw(Live(len(self.live), self.num_generated), rule)
        return [asked.for_row(i) for i in range(len(self.live))]

    def advance(self, drawn: Drawn, rule: StopRule) -> Branches:
        """One step, given what was drawn."""
        branches = self.search.advance(Live(len(self.live), self.num_generated), drawn, rule)
        self.num_generated += 1
        going = zip(branches.parent.tolist(), branches.token.tolist(), branches.finish.tolist(), strict=True)
        self.live = [(*self.live[parent], token) for parent, token, finish in going if finish == Finish.OPEN]
        assert len(self.live) <= self.search.max_live
        told = branches.settled
        if told is not None:
            for i, choice in enumerate(told.choice.tolist()):
                assert choice not in self.answers, "an answer went on after its end"
                self.told.setdefault(choice, []).append(int(told.token[i]))
                if told.finish[i] != Finish.OPEN:
                    numbers = float(told.score[i]), float(told.inclusion_probability[i])
                    self.answers[choice] = Answer(tuple(self.told[choice]), Finish(told.finish[i]), *numbers)
        return branches


def run(walks: Sequence[Walk], model: Model, rule: StopRule = RULE) -> None:
    """All these searches to their ends, side by side so that each step is one draw."""
    known: dict[Prefix, Sequence[float]] = {}
    going = list(walks)
    while going:
        rows: list[tuple[Row, PerturbedTokens]] = []
        scores: list[Sequence[float]] = []
        for walk in going:
            for prefix, asked in zip(walk.live, walk.draw(rule), strict=True):
                scores.append(known.setdefault(prefix, model(prefix)))
                rows.append((make_row(len(rows), seed=walk.seed, output=prefix), asked))
        arrivals = iter(perturbed_tokens(torch.tensor(scores, dtype=torch.float32), rows))
        for walk in going:
            own = [next(arrivals) for _ in walk.live]
            walk.advance(Drawn(*(np.stack(column) for column in zip(*own, strict=True))), rule)
        going = [walk for walk in going if walk.live]


def searches(
    model: Model, width: int, n: int | None = None, *, rule: StopRule = RULE, num_seeds: int = NUM_SEEDS
) -> list[list[Answer]]:
    """The answers of one search for each seed, first to last."""
    walks = [Walk(StochasticBeamParams(width, n), seed) for seed in range(num_seeds)]
    run(walks, model, rule)
    return [[walk.answers[choice] for choice in sorted(walk.answers)] for walk in walks]


@pytest.fixture(scope="module")
def pairs() -> list[list[Answer]]:
    """Searches of width 2."""
    return searches(three_tokens, 2)


@pytest.fixture(scope="module")
def fours() -> list[list[Answer]]:
    """Searches of width 4."""
    return searches(three_tokens, 4)


def chi_square_pvalue(seen: Mapping[object, int], expected: Mapping[object, float]) -> float:
    """Of counts; what is expected fewer than 5 times is taken together."""
    assert seen.keys() <= expected.keys()
    rare = [cell for cell, number in expected.items() if number < 5]
    common = [cell for cell, number in expected.items() if number >= 5]
    a = [seen.get(cell, 0) for cell in common]
    b = [expected[cell] for cell in common]
    if rare:
        a.append(sum(seen.get(cell, 0) for cell in rare))
        b.append(sum(expected[cell] for cell in rare))
    return float(stats.chisquare(a, np.asarray(b) * (sum(a) / sum(b))).pvalue)


def counted(cells: Sequence[object]) -> dict[object, int]:
    """How often each stands there."""
    counts: dict[object, int] = {}
    for cell in cells:
        counts[cell] = counts.get(cell, 0) + 1
    return counts


def chance_in_order(shares: Sequence[float]) -> float:
    """That answers of these probabilities are the first ones drawn without replacement, in this order."""
    chance, left = 1.0, 1.0
    for share in shares:
        chance *= share / left
        left -= share
    return chance


def test_answers_are_what_they_say(fours: list[list[Answer]]) -> None:
    """Every search returns as many as asked, all different, each with its log-probability and the way it ended."""
    logprobs = every_answer(three_tokens)
    assert len(logprobs) == 15
    for answers in fours:
        assert len({answer.tokens for answer in answers}) == len(answers) == 4
        for answer in answers:
            assert answer.score == pytest.approx(logprobs[answer.tokens], abs=1e-5)
            assert answer.finish == (Finish.STOP if answer.tokens[-1] == END else Finish.LENGTH)
            assert 0 < answer.inclusion_probability <= 1


def test_first_answer_is_a_sample(fours: list[list[Answer]]) -> None:
    """Whatever the width, the first answer is distributed as ordinary samples are."""
    expected: dict[object, float] = {
        tokens: NUM_SEEDS * math.exp(logprob) for tokens, logprob in every_answer(three_tokens).items()
    }
    assert chi_square_pvalue(counted([answers[0].tokens for answers in fours]), expected) > FALSE_ALARM


def test_pairs_in_their_order(pairs: list[list[Answer]]) -> None:
    """The first answer and then the second are drawn without replacement: the law of all 210 ordered pairs."""
    shares = {tokens: math.exp(logprob) for tokens, logprob in every_answer(three_tokens).items()}
    expected: dict[object, float] = {
        (a, b): NUM_SEEDS * chance_in_order((shares[a], shares[b])) for a, b in itertools.permutations(shares, 2)
    }
    seen = counted([tuple(answer.tokens for answer in answers) for answers in pairs])
    assert chi_square_pvalue(seen, expected) > FALSE_ALARM


def test_sets_of_four(fours: list[list[Answer]]) -> None:
    """The law of all 1365 sets, by brute force over the orders in which each can have been drawn."""
    shares = {tokens: math.exp(logprob) for tokens, logprob in every_answer(three_tokens).items()}
    expected: dict[object, float] = {
        frozenset(four): NUM_SEEDS
        * sum(chance_in_order([shares[tokens] for tokens in order]) for order in itertools.permutations(four))
        for four in itertools.combinations(shares, 4)
    }
    seen = counted([frozenset(answer.tokens for answer in answers) for answers in fours])
    assert chi_square_pvalue(seen, expected) > FALSE_ALARM


FUNCTIONS: dict[str, Callable[[Prefix], float]] = {
    "one": lambda tokens: 1.0,
    "length": lambda tokens: float(len(tokens)),
    "ends with a 2": lambda tokens: float(tokens[-1] == 2),
    "begins with the end": lambda tokens: float(tokens == (END,)),
}


def assert_unbiased(found: list[list[Answer]], logprobs: dict[Prefix, float]) -> None:
    """Weighted by probability over the chance to be included, the answers of a search estimate any mean without bias
    (Kool et al., equation 15)."""
    for name, function in FUNCTIONS.items():
        exact = sum(math.exp(logprob) * function(tokens) for tokens, logprob in logprobs.items())
        estimates = np.asarray(
            [
                sum(math.exp(a.score) / a.inclusion_probability * function(a.tokens) for a in answers)
                for answers in found
            ]
        )
        error = (estimates.mean() - exact) / (estimates.std(ddof=1) / math.sqrt(len(estimates)))
        assert abs(error) < FAR, f"{name}: {estimates.mean()} instead of {exact}, {error} standard errors off"


def test_estimates_have_no_bias(pairs: list[list[Answer]], fours: list[list[Answer]]) -> None:
    """The chances to be included are right: with the prompt's noise fixed once instead of drawn, they were not."""
    assert_unbiased(pairs, every_answer(three_tokens))
    assert_unbiased(fours, every_answer(three_tokens))


def test_fewer_answers_than_width(pairs: list[list[Answer]]) -> None:
    """The first n of any width are the answers of width n, with the same chances to be among the first n."""
    assert searches(three_tokens, 5, 2, num_seeds=400) == pairs[:400]
    assert searches(three_tokens, 14, 2, num_seeds=400) == pairs[:400]


def test_all_answers_fit() -> None:
    """Where the width is not reached, every answer is found, and it was certain to be."""
    logprobs = every_answer(three_tokens)
    for width in (15, 16, 40):
        for answers in searches(three_tokens, width, num_seeds=5):
            assert {answer.tokens for answer in answers} == set(logprobs)
            assert all(answer.inclusion_probability == 1.0 for answer in answers)
    for answers in searches(three_tokens, 14, num_seeds=5):
        assert len(answers) == 14
        assert min(answer.inclusion_probability for answer in answers) < 0.99


def test_dead_ends_make_room() -> None:
    """What runs into a dead end is no answer and makes room for others that are in play, which there may not be; the
    answers that are returned still stand for what they should: estimates have no bias."""
    logprobs = every_answer(with_dead_ends)
    assert 0 < sum(map(math.exp, logprobs.values())) < 0.95
    found = searches(with_dead_ends, 3)
    assert {len(answers) for answers in found} == {2, 3}
    assert_unbiased(found, logprobs)
    assert_unbiased(searches(with_dead_ends, 4, 2), logprobs)


def test_no_answer() -> None:
    """Where nothing can be said there is no answer, at once or later."""
    with pytest.raises(NoAnswer):
        searches(lambda prefix: [NEVER] * 3, 2, num_seeds=1)
    with pytest.raises(NoAnswer):
        searches(lambda prefix: [NEVER] * 3 if len(prefix) == 2 else [NEVER, 0.0, 0.0], 3, num_seeds=1)


def test_replay() -> None:
    """A seed gives the same answers again; others give others."""
    again = searches(three_tokens, 3, num_seeds=50)
    assert searches(three_tokens, 3, num_seeds=50) == again
    assert len({tuple(answer.tokens for answer in answers) for answers in again}) > 20


def test_long_answers() -> None:
    """Forty tokens deep: as many different answers as asked, scored as the model scores them; of the best, the common
    beginning is told before the end, and nothing is told twice."""

    def model(prefix: Prefix) -> Sequence[float]:
        return [-4.0, *(2 * math.sin(1 + 7 * token + len(prefix) ** 2 + 3 * sum(prefix)) for token in range(1, 6))]

    rule = StopRule(np.array([END]), min_tokens=5, max_tokens=40)
    walks = [Walk(StochasticBeamParams(8), seed) for seed in range(4)]
    run(walks, model, rule)
    for walk in walks:
        assert len({answer.tokens for answer in walk.answers.values()}) == 8
        for answer in walk.answers.values():
            logprob = sum(float(log_softmax(model(answer.tokens[:i]))[token]) for i, token in enumerate(answer.tokens))
            assert answer.score == pytest.approx(logprob, abs=1e-4)
            assert (answer.finish == Finish.LENGTH) == (answer.tokens[-1] != END)
            assert END not in answer.tokens[6:-1]


def test_the_best_is_told_early_and_nodes_are_forgotten() -> None:
    """What both hypotheses share is told as it grows; the tree stays as small as what is in play."""

    def model(prefix: Prefix) -> Sequence[float]:
        return [-30.0, 0.0, 8.0, -3.0]

    rule = StopRule(np.array([END]), min_tokens=0, max_tokens=60)
    walk = Walk(StochasticBeamParams(2), 1)
    alive: set[int] = set()
    told = []
    while walk.live:
        rows = [
            (make_row(i, seed=1, output=prefix), asked)
            for i, (prefix, asked) in enumerate(zip(walk.live, walk.draw(rule), strict=True))
        ]
        drawn = perturbed_tokens(torch.tensor([model(()) for _ in rows]), rows)
        branches = walk.advance(Drawn(*(np.stack(column) for column in zip(*drawn, strict=True))), rule)
        assert branches.node is not None and branches.forgotten is not None
        assert not alive & set(branches.node.tolist())
        alive |= set(branches.node.tolist())
        assert alive >= set(branches.forgotten.tolist())
        alive -= set(branches.forgotten.tolist())
        told.append(len(walk.told.get(0, [])))
        assert len(alive) <= 2 * 60
    assert told[30] >= 5
    assert told == sorted(told)
    assert told[-1] == len(walk.answers[0].tokens)


def test_draws_no_more_than_can_matter() -> None:
    """One more candidate than the width is asked for, the prompt's noise is free, and later nothing below the best that
    was dropped: a step's candidates are as many as the width and a few, not the width for each row."""
    walk = Walk(StochasticBeamParams(6), 3)
    (first,) = walk.draw(RULE)
    assert (first.count, first.logprob, first.rank) == (7, 0.0, 0)
    assert math.isnan(first.peak) and first.floor == NEVER
    values = np.array([[5.0, 4.0, 3.0, 2.0, 1.0, 0.5, -0.5]])
    logprobs = np.full((1, 7), -1.0, np.float32)
    walk.advance(Drawn(np.arange(1, 8)[None], logprobs, values), RULE)
    later = walk.draw(RULE)
    assert [(row.count, row.logprob, row.peak, row.floor, row.rank) for row in later] == [
        (7, -1.0, peak, -0.5, rank) for rank, peak in enumerate([5.0, 4.0, 3.0, 2.0, 1.0, 0.5])
    ]


def test_complete_answers_compete() -> None:
    """A complete answer keeps its place only while its G is among the largest."""
    walk = Walk(StochasticBeamParams(2), 3)
    logprobs = np.full((1, 3), -1.0, np.float32)
    branches = walk.advance(Drawn(np.array([[1, END, 2]]), logprobs, np.array([[3.0, 2.0, 1.0]])), RULE)
    assert branches.finish.tolist() == [Finish.OPEN, Finish.STOP]
    assert walk.draw(RULE)[0].floor == 1.0
    branches = walk.advance(
        Drawn(np.array([[2, 1, -1]]), np.array([[-1, -2, NEVER]], np.float32), np.array([[3.0, 2.5, NEVER]])), RULE
    )
    assert branches.finish.tolist() == [Finish.OPEN, Finish.OPEN]
    assert [row.floor for row in walk.draw(RULE)] == [2.0, 2.0]
    branches = walk.advance(
        Drawn(
            np.array([[1, -1, -1], [END, 1, -1]]),
            np.array([[-1, NEVER, NEVER], [-3, -1, NEVER]], np.float32),
            np.array([[3.0, NEVER, NEVER], [2.5, 2.2, NEVER]]),
        ),
        RULE,
    )
    assert walk.live == []
    kappa = 2.2
    assert [walk.answers[i].tokens for i in range(2)] == [(1, 2, 1), (1, 1, END)]
    assert [walk.answers[i].finish for i in range(2)] == [Finish.LENGTH, Finish.STOP]
    for i, logprob in enumerate((-3.0, -6.0)):
        assert walk.answers[i].score == logprob
        wanted = 1 - math.exp(-math.exp(logprob - kappa))
        assert walk.answers[i].inclusion_probability == pytest.approx(wanted, rel=1e-12)


def test_drop() -> None:
    """The search goes on while any answer is wanted; then all its rows end, and what nobody wants is not told."""
    walks = [Walk(StochasticBeamParams(3), 5) for _ in range(2)]
    dropped, whole = walks
    assert dropped.search.drop(1) == []
    assert (dropped.search.drop(7), dropped.search.drop(-1)) == ([], [])
    run(walks, three_tokens)
    assert whole.answers.keys() == {0, 1, 2}
    assert dropped.answers == {choice: whole.answers[choice] for choice in (0, 2)}
    search = StochasticBeam(StochasticBeamParams(2))
    assert (search.drop(0), search.drop(1)) == ([], [0])


def test_params() -> None:
    """All answers are returned unless fewer are asked for."""
    assert StochasticBeamParams(5).n == 5
    assert StochasticBeamParams(5, 2).n == 2
    assert StochasticBeamParams(1024, 1024) == StochasticBeamParams(1024)
    assert StochasticBeam(StochasticBeamParams(5, 2)).max_live == 5


@pytest.mark.parametrize(
    ("width", "n", "param"), [(0, None, "width"), (-1, 1, "width"), (1025, 1, "width"), (3, 0, "n"), (3, 4, "n")]
)
def test_wrong_params(width: int, n: int | None, param: str) -> None:
    """Widths and numbers of answers out of range are refused by name."""
    with pytest.raises(ParameterError) as caught:
        StochasticBeamParams(width, n)
    assert caught.value.param == param
