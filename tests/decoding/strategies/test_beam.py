"""`Beam` against a plain reading of the same rules, against all answers there are, and held to what it tells."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from search_driver import Rows, SearchRun, Tokens, random_table
from slow_beam import slow_beam

from penstock_decoding.errors import NoAnswer, ParameterError
from penstock_decoding.finish import Finish
from penstock_decoding.read import read_params
from penstock_decoding.strategies.beam import MAX_WIDTH, Beam, BeamParams
from penstock_decoding.strategies.beam_pool import EarlyStopping
from penstock_decoding.strategy import StopRule

# Both sides add the same float32 numbers in float64: what differs by less than this is a tie.
_TIE = 1e-12


def rule(*stop: int, max_tokens: int = 6, min_tokens: int = 0) -> StopRule:
    return StopRule(np.asarray(stop, np.int64), min_tokens, max_tokens)


def wide(table: Rows) -> Callable[[list[Tokens]], NDArray[np.float64]]:
    """The same numbers as the oracle takes them."""
    return lambda answers: table(answers).astype(np.float64)


def assert_equals_oracle(params: BeamParams, stop: StopRule, table: Rows) -> SearchRun:
    """The search finds the oracle's answers with the oracle's scores, best first. Returns it."""
    run = SearchRun(Beam(params), table, stop)
    run.finish()
    expected = slow_beam(
        wide(table),
        width=params.width,
        stop=stop.token_ids.tolist(),
        max_tokens=stop.max_tokens,
        min_tokens=stop.min_tokens,
        length_penalty=params.length_penalty,
        early_stopping=params.early_stopping,
        groups=params.groups,
        diversity_penalty=params.diversity_penalty,
        n=params.n,
    )
    assert expected.margin > _TIE, "choose another seed: the oracle itself met a tie"
    wanted = expected.found[: params.n]
    assert set(run.answers) == set(range(len(wanted)))
    for choice, (score, tokens) in enumerate(wanted):
        told = run.answers[choice]
        assert tuple(told.tokens) == tokens
        assert told.score == pytest.approx(score, rel=1e-9)
        ends_by_token = tokens[-1] in stop.token_ids and len(tokens) > stop.min_tokens
        assert told.finish == (Finish.STOP if ends_by_token else Finish.LENGTH)
        late = {step for step in told.steps if step != run.num_steps}
        assert choice == 0 or not late, "only the best answer is told while the search is open"
    assert run.most_live <= params.width
    assert not run.has_repeated or params.groups > 1
    return run


EARLY: list[EarlyStopping] = [False, True, "never"]


@given(
    seed=st.integers(0, 2**32),
    width=st.integers(1, 9),
    n=st.integers(1, 9),
    penalty=st.sampled_from([-1.0, 0.0, 0.6, 1.0, 2.0]),
    early=st.sampled_from(EARLY),
    stop=st.lists(st.integers(0, 6), unique=True, max_size=3),
    max_tokens=st.integers(1, 8),
    min_tokens=st.integers(0, 3),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_one_group_equals_the_plain_reading(
    seed: int,
    width: int,
    n: int,
    penalty: float,
    early: EarlyStopping,
    stop: list[int],
    max_tokens: int,
    min_tokens: int,
) -> None:
    """Any width, stop tokens that are likely in a vocabulary of 7, every rule of when to stop."""
    params = BeamParams(width, min(n, width), penalty, early)
    assert_equals_oracle(
        params, rule(*stop, max_tokens=max_tokens, min_tokens=min_tokens), random_table(7, seed, spread=2.0)
    )


@given(
    seed=st.integers(0, 2**32),
    groups=st.integers(2, 4),
    size=st.integers(1, 3),
    n=st.integers(1, 12),
    diversity=st.sampled_from([0.0, 0.3, 1.0, 5.0, 100.0]),
    penalty=st.sampled_from([0.0, 1.0]),
    early=st.sampled_from(EARLY),
    stop=st.lists(st.integers(0, 8), unique=True, max_size=2),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_groups_equal_the_plain_reading(
    seed: int,
    groups: int,
    size: int,
    n: int,
    diversity: float,
    penalty: float,
    early: EarlyStopping,
    stop: list[int],
) -> None:
    """Each group pays for what the earlier ones chose in this step, and keeps what it paid in its score.

    Groups that pay nothing find the same answers, and each of these is returned once.
    """
    width = groups * size
    params = BeamParams(width, min(n, width), penalty, early, groups, diversity)
    stopping, table = rule(*stop, max_tokens=5), random_table(9, seed)
    run = assert_equals_oracle(params, stopping, table)
    if not diversity:
        alone = SearchRun(Beam(BeamParams(size, size, penalty, early)), table, stopping).finish()
        assert [run.answers[i].tokens for i in sorted(run.answers)] == [alone[i].tokens for i in sorted(alone)][:n]


def test_diversity_makes_groups_differ() -> None:
    """Guards the property above against groups that never meet: a large penalty gives each its own first token."""
    table = random_table(9, seed=3)
    params = BeamParams(4, 4, groups=4, diversity_penalty=50.0)
    answers = SearchRun(Beam(params), table, rule(max_tokens=3)).finish()
    assert len({answer.tokens[0] for answer in answers.values()}) == 4
    assert len({tuple(a.tokens) for a in SearchRun(Beam(BeamParams(4, 4)), table, rule()).finish().values()}) == 4


@pytest.mark.parametrize("penalty", [-1.0, 0.0, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_width_for_everything_finds_all_answers_in_order(penalty: float, seed: int) -> None:
    """Brute force: 4 tokens, one of them ending, at most 4 steps: 121 answers, each with its exact score."""
    table = random_table(4, seed)
    everything = []
    for length in range(1, 5):
        for body in itertools.product(range(1, 4), repeat=length - 1):
            for last in [0] if length < 4 else [0, 1, 2, 3]:
                answer = (*body, last)
                logprob = sum(float(table([answer[:i]])[0][token]) for i, token in enumerate(answer))
                everything.append((logprob / length**penalty, answer))
    everything.sort(reverse=True)
    assert len(everything) == 121
    run = SearchRun(Beam(BeamParams(128, 128, penalty, "never")), table, rule(0, max_tokens=4))
    found = run.finish()
    assert [(tuple(found[choice].tokens)) for choice in range(len(found))] == [answer for _, answer in everything]
    assert [found[choice].score for choice in range(121)] == pytest.approx([score for score, _ in everything])


def test_fewer_answers_than_asked_for() -> None:
    """A search that finds fewer ends with those; no answer is told twice to fill up."""
    answers = SearchRun(Beam(BeamParams(8, 8)), random_table(3, 0), rule(0, max_tokens=1)).finish()
    assert sorted(answers) == [0, 1, 2]
    assert len({tuple(answer.tokens) for answer in answers.values()}) == 3


def certain(tokens: Tokens, vocab_size: int = 5) -> Rows:
    """A distribution that nearly always says these tokens and then its first one; after any other it says anything."""

    def row(answer: Tokens) -> NDArray[np.float32]:
        if answer != tokens[: len(answer)]:
            return np.asarray(np.log(np.arange(1, vocab_size + 1) * 2 / vocab_size / (vocab_size + 1)), np.float32)
        logprobs = np.asarray(-9.0 - np.arange(vocab_size) / 8, np.float32)
        logprobs[tokens[len(answer)] if len(answer) < len(tokens) else 0] = -0.001
        return logprobs

    return lambda answers: np.stack([row(answer) for answer in answers])


def test_a_certain_beginning_is_told_early() -> None:
    """Tokens come while the search runs, as soon as all hypotheses share them, and memory does not grow with time."""
    text = tuple(np.random.default_rng(0).integers(1, 5, 60).tolist())
    run = SearchRun(Beam(BeamParams(4)), certain(text), rule(0, max_tokens=100))
    answer = run.finish()[0]
    assert tuple(answer.tokens[:60]) == text
    delays = [step - place for place, step in enumerate(answer.steps[:50], 1)]
    assert max(delays) <= 5
    assert run.largest_node < 400


def test_what_was_told_early_is_the_best_answer() -> None:
    """Over many searches that tell something early, the concatenation is what the plain reading finds. Some must."""
    num_early = 0
    for seed in range(40):
        run = assert_equals_oracle(
            BeamParams(3, 2, early_stopping="never"), rule(0, max_tokens=10), random_table(6, seed, spread=5.0)
        )
        num_early += run.answers[0].steps[0] < run.num_steps
    assert num_early >= 10


def test_wider_than_the_vocabulary() -> None:
    """The first step has fewer candidates than the width; the search widens as it goes."""
    run = assert_equals_oracle(BeamParams(20, 20, 0.0), rule(0, max_tokens=4), random_table(3, 1))
    assert run.most_live > 3


def holes(table: Rows, *dead: Tokens) -> Rows:
    """The same distribution, but nothing may follow these answers."""

    def rows(answers: list[Tokens]) -> NDArray[np.float32]:
        logprobs = table(answers)
        logprobs[[answer in dead for answer in answers]] = -np.inf
        return logprobs

    return rows


def test_rows_without_a_token_left_die() -> None:
    """What a constraint leaves nothing to ends without an answer; the others go on as if it had never been."""
    table = random_table(6, 5)
    likeliest = int(table([()])[0].argmax())
    run = assert_equals_oracle(BeamParams(3, 3), rule(0, max_tokens=4), holes(table, (likeliest,)))
    assert all(answer.tokens[0] != likeliest for answer in run.answers.values())


def test_when_all_rows_die_complete_answers_remain() -> None:
    """Death of the last live row ends the search with what is complete, and with an error if nothing is."""
    table = random_table(4, 2)
    live = [(token,) for token in range(1, 4)]
    run = assert_equals_oracle(BeamParams(4, 4, early_stopping="never"), rule(0, max_tokens=9), holes(table, *live))
    assert [answer.tokens for answer in run.answers.values()] == [[0]]
    alone = SearchRun(Beam(BeamParams(3)), holes(table, (0,), *live), rule(max_tokens=9))
    alone.step()
    with pytest.raises(NoAnswer):
        alone.step()


def test_excluded_tokens_are_never_chosen() -> None:
    """A chain that leaves two tokens a row leaves the search a tree of two ways."""

    def table(answers: list[Tokens]) -> NDArray[np.float32]:
        logprobs = random_table(6, 7)(answers)
        logprobs[logprobs < np.sort(logprobs, axis=-1)[:, -2:-1]] = -np.inf
        return logprobs

    run = assert_equals_oracle(BeamParams(5, 5), rule(max_tokens=3), table)
    assert run.most_live == 4


def test_dropped_answers() -> None:
    """Rows end only with the last answer that anybody wants; the others are found as before."""
    table, stop = random_table(7, 4), rule(0, max_tokens=5)
    whole = SearchRun(Beam(BeamParams(4, 3)), table, stop).finish()
    run = SearchRun(Beam(BeamParams(4, 3)), table, stop)
    run.step()
    assert run.strategy.drop(0) == []
    assert run.strategy.drop(0) == []
    assert run.strategy.drop(7) == []
    answers = run.finish()
    assert sorted(answers) == [1, 2]
    assert {choice: whole[choice].tokens for choice in (1, 2)} == {c: answers[c].tokens for c in (1, 2)}
    ended = SearchRun(Beam(BeamParams(4, 2)), table, stop)
    assert ended.strategy.drop(0) == []
    ended.step()
    assert ended.strategy.drop(1) == list(range(len(ended.rows)))
    waiting = Beam(BeamParams(4))
    assert waiting.drop(0) == [0]


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"width": 0}, "width"),
        ({"width": MAX_WIDTH + 1}, "width"),
        ({"width": 4, "n": 0}, "n"),
        ({"width": 4, "n": 5}, "n"),
        ({"width": 4, "length_penalty": 11.0}, "length_penalty"),
        ({"width": 4, "length_penalty": -1e9}, "length_penalty"),
        ({"width": 4, "groups": 0}, "groups"),
        ({"width": 4, "groups": 3}, "groups"),
        ({"width": 4, "groups": 2, "diversity_penalty": -1.0}, "diversity_penalty"),
        ({"width": 4, "groups": 2, "diversity_penalty": 1e9}, "diversity_penalty"),
        ({"width": 4, "diversity_penalty": 0.5}, "diversity_penalty"),
    ],
)
def test_wrong_parameters_are_named(params: dict[str, float], field: str) -> None:
    with pytest.raises(ParameterError) as caught:
        BeamParams(**params)  # type: ignore[arg-type]
    assert caught.value.param == field


@pytest.mark.parametrize("early", ["always", 1, 0.5])
def test_a_wrong_early_stopping_is_told_all_that_it_can_be(early: object) -> None:
    with pytest.raises(ParameterError, match=r"early_stopping: must be one of 'never' or true or false$"):
        read_params(BeamParams, {"width": 4, "early_stopping": early}, "decoding")


def test_the_widest_search_keeps_its_order() -> None:
    """512 rows at once, where candidates are selected and not sorted: still the plain reading's answers."""
    assert_equals_oracle(BeamParams(512, 8, 0.6), rule(0, max_tokens=4), random_table(40, 11))
