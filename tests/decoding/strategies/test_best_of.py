"""`Sample` with `best_of`: the likeliest few of several independent answers, told at the end."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_decoding.draws import Sampled
from penstock_decoding.errors import NoAnswer, ParameterError
from penstock_decoding.finish import Finish
from penstock_decoding.strategies.sample import Sample, SampleParams
from penstock_decoding.strategy import Branches, Drawn, Live, StopRule

END = 0
RULE = StopRule(np.array([END]), min_tokens=0, max_tokens=4)
NEVER = -math.inf

# One row's draws: tokens and their log-probabilities.
Draws = Sequence[tuple[int, float]]


def advance(sample: Sample, rows: Sequence[Draws], num_generated: int, rule: StopRule = RULE) -> Branches:
    """One step, given what was drawn for each live row."""
    tokens = np.array([[token for token, _ in draws] for draws in rows], np.int64)
    logprobs = np.array([[logprob for _, logprob in draws] for draws in rows], np.float32)
    return sample.advance(Live(len(rows), num_generated), Drawn(tokens, logprobs), rule)


def told(branches: Branches) -> dict[int, tuple[list[int], Finish, float]]:
    """Tokens, finish and score of each answer that the step settled."""
    settled = branches.settled
    assert settled is not None
    answers: dict[int, tuple[list[int], Finish, float]] = {}
    for i, choice in enumerate(settled.choice.tolist()):
        tokens = answers[choice][0] if choice in answers else []
        assert choice not in answers or answers[choice][1] == Finish.OPEN
        answers[choice] = [*tokens, int(settled.token[i])], Finish(settled.finish[i]), float(settled.score[i])
    assert np.isnan(settled.inclusion_probability).all()
    return answers


def test_best_by_mean() -> None:
    """Of three answers the two with the highest mean log-probability come back, best first; nothing is told before all
    have ended. The sum would have put the short one first."""
    sample = Sample(SampleParams(n=2, best_of=3))
    assert sample.max_live == 3
    assert sample.draw(Live(1, 0), RULE) == Sampled(((0, 1, 2),), with_logprobs=True)
    step = advance(sample, [[(5, -1.0), (END, -1.5), (6, -1.0)]], 0)
    assert (step.choice.tolist(), step.settled) == ([-1, -1, -1], None)
    assert step.finish.tolist() == [Finish.OPEN, Finish.STOP, Finish.OPEN]
    assert sample.draw(Live(2, 1), RULE) == Sampled(((0,), (2,)), with_logprobs=True)
    step = advance(sample, [[(7, -3.0)], [(8, -0.5)]], 1)
    assert (step.parent.tolist(), step.settled) == ([0, 1], None)
    step = advance(sample, [[(7, -3.0)], [(END, -0.75)]], 2)
    assert (step.finish.tolist(), step.settled) == ([Finish.OPEN, Finish.STOP], None)
    answers = told(advance(sample, [[(7, -3.0)]], 3))
    assert answers == {0: ([6, 8, END], Finish.STOP, -0.75), 1: ([END], Finish.STOP, -1.5)}


def test_ties_go_to_the_earlier() -> None:
    """Of equally likely answers the one drawn first comes first, however they ended."""
    sample = Sample(SampleParams(n=3, best_of=4))
    advance(sample, [[(5, -1.0), (END, -1.0), (6, -2.0), (END, -1.0)]], 0)
    answers = told(advance(sample, [[(END, -1.0)], [(END, -4.0)]], 1))
    assert [answers[i][0] for i in range(3)] == [[5, END], [END], [END]]


def test_as_many_as_returned_is_plain_sampling() -> None:
    """`best_of` equal to n asks for nothing: the answers stream in the order of their samples, without scores."""
    for params in (SampleParams(n=2), SampleParams(n=2, best_of=2)):
        sample = Sample(params)
        assert sample.draw(Live(1, 0), RULE) == Sampled(((0, 1),))
        step = advance(sample, [[(5, math.nan), (END, math.nan)]], 0)
        assert (step.choice.tolist(), step.settled, step.node) == ([0, 1], None, None)


def test_dead_ends_are_no_answers() -> None:
    """An answer for which no token is left drops out; without any other there is none."""
    sample = Sample(SampleParams(n=2, best_of=3))
    advance(sample, [[(5, -1.0), (6, -1.0), (7, -1.0)]], 0)
    step = advance(sample, [[(0, NEVER)], [(8, -1.0)], [(0, NEVER)]], 1)
    assert (step.parent.tolist(), step.token.tolist()) == ([1], [8])
    assert step.forgotten is not None and len(step.forgotten) == 2
    assert sample.draw(Live(1, 2), RULE) == Sampled(((1,),), with_logprobs=True)
    assert told(advance(sample, [[(END, -1.0)]], 2)) == {0: ([6, 8, END], Finish.STOP, -1.0)}
    with pytest.raises(NoAnswer):
        advance(Sample(SampleParams(n=1, best_of=2)), [[(0, NEVER), (0, NEVER)]], 0)


def test_drop() -> None:
    """Which answer a caller will have is open until the end: all are drawn until none is wanted."""
    sample = Sample(SampleParams(n=2, best_of=3))
    assert (sample.drop(2), sample.drop(0)) == ([], [])
    advance(sample, [[(5, -1.0), (END, -3.0), (7, -1.0)]], 0)
    assert told(advance(sample, [[(END, -1.0)], [(END, -2.0)]], 1)) == {1: ([7, END], Finish.STOP, -1.5)}
    before = Sample(SampleParams(n=2, best_of=3))
    assert (before.drop(1), before.drop(0)) == ([], [0])
    after = Sample(SampleParams(n=1, best_of=3))
    advance(after, [[(5, -1.0), (END, -3.0), (7, -1.0)]], 0)
    assert after.drop(0) == [0, 1]


@pytest.mark.parametrize("best_of", [2, 0, -1])
def test_wrong_params(best_of: int) -> None:
    """Fewer cannot be drawn than are returned."""
    with pytest.raises(ParameterError) as caught:
        SampleParams(n=3, best_of=best_of)
    assert (caught.value.param, caught.value.message) == ("best_of", "must be at least n, 3")


@given(data=st.data(), n=st.integers(1, 4), more=st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_any_contest(data: st.DataObject, n: int, more: int) -> None:
    """Whatever is drawn, exactly the n best by mean come back, in order, with every token they were given."""
    num_drawn = n + more
    sample = Sample(SampleParams(n=n, best_of=num_drawn))
    answers: list[tuple[list[int], list[float]]] = [([], []) for _ in range(num_drawn)]
    going = list(range(num_drawn))
    one = st.tuples(st.sampled_from([END, 1, 2]), st.integers(-12, 0).map(lambda eighths: eighths / 8))
    for num_generated in range(RULE.max_tokens):
        drawn = [data.draw(one) for _ in going]
        for i, (token, logprob) in zip(going, drawn, strict=True):
            answers[i][0].append(token)
            answers[i][1].append(logprob)
        step = advance(sample, [drawn] if num_generated == 0 else [[draw] for draw in drawn], num_generated)
        going = [i for i in going if answers[i][0][-1] != END and num_generated + 1 < RULE.max_tokens]
        assert (step.settled is None) == bool(going)
        if not going:
            break
    # Sums of eighths are exact, and dividing by 3 rounds alike here and there.
    means = [sum(logprobs) / len(logprobs) for _, logprobs in answers]
    best = sorted(range(num_drawn), key=lambda i: (-means[i], i))[:n]
    finish = [Finish.STOP if tokens[-1] == END else Finish.LENGTH for tokens, _ in answers]
    assert told(step) == {place: (answers[i][0], finish[i], means[i]) for place, i in enumerate(best)}
