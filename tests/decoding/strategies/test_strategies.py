"""What holds for every strategy, and `Sample` and `Greedy`: n answers that begin as one row."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_decoding.draws import Best, Sampled
from penstock_decoding.errors import ParameterError
from penstock_decoding.finish import Finish
from penstock_decoding.strategies import STRATEGIES
from penstock_decoding.strategies.greedy import Greedy, GreedyParams
from penstock_decoding.strategies.sample import Sample, SampleParams
from penstock_decoding.strategy import Branches, Drawn, Live, StopRule, Strategy

STOP = 0
RULE = StopRule(np.array([STOP]), min_tokens=0, max_tokens=100)


# What a strategy cannot do without, for n answers.
NEEDED: dict[str, dict[str, Any]] = {
    "beam": {"width": 5},
    "constrained_beam": {"width": 5, "words": ((3,),)},
    "stochastic_beam": {"width": 5},
}


def params(name: str, n: int) -> Any:
    """Parameters of a strategy that ask for n answers."""
    return STRATEGIES[name].Params(n=n, **NEEDED.get(name, {}))


def advance(strategy: Strategy, tokens: Sequence[Sequence[int]], num_generated: int, rule: StopRule = RULE) -> Branches:
    """One step, given what was drawn for each live row."""
    drawn = Drawn(np.array(tokens, np.int64), np.full((len(tokens), len(tokens[0])), np.nan, np.float32))
    return strategy.advance(Live(len(tokens), num_generated), drawn, rule)


def listed(branches: Branches) -> list[tuple[int, int, int, int]]:
    """(parent, choice, token, finish) of each branch."""
    columns = (branches.parent, branches.choice, branches.token, branches.finish)
    return [(int(p), int(c), int(t), int(f)) for p, c, t, f in zip(*columns, strict=True)]


@pytest.mark.parametrize("name", STRATEGIES)
def test_room(name: str) -> None:
    """The scheduler must hold one row per answer, or as many as a search is wide."""
    strategy = STRATEGIES[name](params(name, n=5))
    assert strategy.max_live == 5


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("n", [0, -1])
def test_range(name: str, n: int) -> None:
    """No strategy takes fewer than one answer."""
    with pytest.raises(ParameterError) as caught:
        params(name, n)
    assert caught.value.param == "n"


def test_first_draw_is_from_one_row() -> None:
    """The prompt's row is drawn from n times, with sample indices 0 to n - 1: the prompt is computed once."""
    assert Sample(SampleParams(n=3)).draw(Live(1, 0), RULE) == Sampled(((0, 1, 2),))


def test_first_advance_forks() -> None:
    """All n answers continue row 0; each later row carries one answer, with its own sample index."""
    sample = Sample(SampleParams(n=3))
    assert listed(advance(sample, [[5, 6, 5]], 0)) == [(0, 0, 5, 0), (0, 1, 6, 0), (0, 2, 5, 0)]
    assert sample.draw(Live(3, 0), RULE) == Sampled(((0,), (1,), (2,)))


def test_later_advances_keep_the_order() -> None:
    """After the fork row i is continued by one branch, of the same answer as before."""
    sample = Sample(SampleParams(n=3))
    advance(sample, [[5, 6, 7]], 0)
    assert listed(advance(sample, [[8], [9], [8]], 1)) == [(0, 0, 8, 0), (1, 1, 9, 0), (2, 2, 8, 0)]


def test_finished_answers_leave() -> None:
    """An answer that ends is reported with its last token and then no longer drawn for; the others close up."""
    sample = Sample(SampleParams(n=3))
    advance(sample, [[5, 6, 7]], 0)
    assert listed(advance(sample, [[8], [STOP], [9]], 1))[1] == (1, 1, STOP, Finish.STOP)
    assert sample.draw(Live(2, 0), RULE) == Sampled(((0,), (2,)))
    assert listed(advance(sample, [[STOP], [4]], 2)) == [(0, 0, STOP, Finish.STOP), (1, 2, 4, 0)]
    assert sample.draw(Live(1, 0), RULE) == Sampled(((2,),))


def test_answers_may_end_with_their_first_token() -> None:
    """An answer that ends at once never gets a row of its own."""
    sample = Sample(SampleParams(n=3))
    branches = advance(sample, [[STOP, 6, STOP]], 0)
    assert [finish for _, _, _, finish in listed(branches)] == [Finish.STOP, Finish.OPEN, Finish.STOP]
    assert sample.draw(Live(1, 0), RULE) == Sampled(((1,),))


def test_length_ends_all() -> None:
    """At max_tokens every answer ends; the stop token remains the reason where it was drawn."""
    sample = Sample(SampleParams(n=2))
    rule = StopRule(np.array([STOP]), 0, 1)
    assert listed(advance(sample, [[5, STOP]], 0, rule)) == [(0, 0, 5, Finish.LENGTH), (0, 1, STOP, Finish.STOP)]


def test_min_tokens_reaches_the_answers() -> None:
    """A stop token before min_tokens is a token like any other; the token that ends does not count."""
    sample = Sample(SampleParams(n=1))
    rule = StopRule(np.array([STOP]), 1, 9)
    assert listed(advance(sample, [[STOP]], 0, rule)) == [(0, 0, STOP, Finish.OPEN)]
    assert listed(advance(sample, [[STOP]], 1, rule)) == [(0, 0, STOP, Finish.STOP)]


def test_drop_before_the_fork() -> None:
    """An answer dropped before the fork is not drawn; its row ends only with the last of them."""
    sample = Sample(SampleParams(n=3))
    assert sample.drop(1) == []
    assert sample.draw(Live(1, 0), RULE) == Sampled(((0, 2),))
    assert listed(advance(sample, [[5, 6]], 0)) == [(0, 0, 5, 0), (0, 2, 6, 0)]
    waiting = Sample(SampleParams(n=2))
    assert (waiting.drop(0), waiting.drop(1)) == ([], [0])


def test_drop_after_the_fork() -> None:
    """An answer dropped later ends its own row; the rows behind it move up."""
    sample = Sample(SampleParams(n=3))
    advance(sample, [[5, 6, 7]], 0)
    assert sample.drop(1) == [1]
    assert sample.draw(Live(2, 0), RULE) == Sampled(((0,), (2,)))
    assert sample.drop(2) == [1]
    assert listed(advance(sample, [[8]], 1)) == [(0, 0, 8, 0)]
    assert sample.drop(0) == [0]


@pytest.mark.parametrize("name", STRATEGIES)
def test_unknown_choices_are_ignored(name: str) -> None:
    """Dropping what never was, or has ended, is no error: a client may hang up at any time."""
    strategy = STRATEGIES[name](params(name, n=2))
    assert (strategy.drop(2), strategy.drop(-1)) == ([], [])
    strategy.drop(0)
    assert strategy.drop(0) == []


def test_greedy_draws_one_token() -> None:
    """n equal answers cost one draw, before the fork and after."""
    greedy = Greedy(GreedyParams(n=3))
    assert greedy.draw(Live(1, 0), RULE) == Best(1)
    assert listed(advance(greedy, [[5]], 0)) == [(0, 0, 5, 0), (0, 1, 5, 0), (0, 2, 5, 0)]
    assert greedy.draw(Live(3, 0), RULE) == Best(1)
    assert listed(advance(greedy, [[6], [6], [6]], 1)) == [(0, 0, 6, 0), (1, 1, 6, 0), (2, 2, 6, 0)]


def test_greedy_drop() -> None:
    """Greedy answers are dropped like sampled ones."""
    greedy = Greedy(GreedyParams(n=3))
    assert greedy.drop(0) == []
    assert listed(advance(greedy, [[5]], 0)) == [(0, 1, 5, 0), (0, 2, 5, 0)]
    assert greedy.drop(2) == [1]
    assert listed(advance(greedy, [[STOP]], 1)) == [(0, 1, STOP, Finish.STOP)]


@given(n=st.integers(1, 6), data=st.data())
@settings(max_examples=100, deadline=None)
def test_any_life(n: int, data: st.DataObject) -> None:
    """Whatever ends and is dropped, the engine's rows stay in step: rows carry the open answers in their order, every
    answer keeps its sample index, and nothing is reported twice."""
    sample = Sample(SampleParams(n=n))
    rows: list[int | None] = [None]  # the answer of each live row; None: all of them, before the fork
    is_open = set(range(n))
    for num_generated in range(5):
        for choice in data.draw(st.lists(st.integers(0, n), max_size=2)):
            ended = sample.drop(choice)
            is_open.discard(choice)
            if rows == [None]:
                assert ended == ([] if is_open or choice == n else [0])
            else:
                assert [rows.pop(row) for row in ended] == [choice] * len(ended)
            if not is_open:
                return
        wanted = ((tuple(sorted(is_open)),)) if rows == [None] else tuple((choice,) for choice in sorted(is_open))
        assert sample.draw(Live(len(rows), 0), RULE) == Sampled(wanted)
        tokens = [[data.draw(st.sampled_from([STOP, 1, 2])) for _ in samples] for samples in wanted]
        branches = advance(sample, tokens, num_generated)
        assert branches.choice.tolist() == sorted(is_open)
        assert branches.parent.tolist() == ([0] * len(is_open) if rows == [None] else list(range(len(rows))))
        assert branches.token.tolist() == [token for row in tokens for token in row]
        is_open = {c for c, f in zip(branches.choice.tolist(), branches.finish.tolist(), strict=True) if not f}
        rows = list(sorted(is_open))
        if not is_open:
            return
