"""`draw_best`: the best tokens of each row, or of all rows of a search together, whatever else is drawn for."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from decoding_rows import NEVER
from torch import Tensor

from penstock_decoding.draw_best import FIRST_FEW, BestDraws, draw_best
from penstock_decoding.draws import NO_TOKEN, Best, BestTokens

COUNT = 5 * FIRST_FEW


def rough_scores(num_rows: int, vocab_size: int, seed: int, spread: float = 3.0) -> Tensor:
    """Scores with as few bits as bfloat16 has, so that ties are everywhere."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(num_rows, vocab_size, generator=generator) * spread).bfloat16().float()


def asked(own: Sequence[float], count: int = COUNT) -> list[BestTokens]:
    """What a search asks for its rows, whose log-probabilities are these."""
    search = Best(count, logprobs=np.asarray(own))
    return [search.for_row(i) for i in range(len(own))]


def chosen(drawn: Sequence[BestDraws], own: Sequence[float], count: int = COUNT) -> list[tuple[float, int, int]]:
    """(sum, row, token) of the best of all rows together; of equal ones the first row, and in it the lowest id."""
    sums = [
        (own[row] + float(value), row, int(token))
        for row, (tokens, values) in enumerate(drawn)
        for token, value in zip(tokens, values, strict=True)
        if value > NEVER
    ]
    return sorted(sums, key=lambda candidate: (-candidate[0], candidate[1]))[:count]


@pytest.mark.parametrize("num_rows", [1, 2, 7, 40])
@pytest.mark.parametrize("gap", [0.0, 0.3, 3.0])
@pytest.mark.parametrize("spread", [0.2, 3.0])
def test_nothing_that_a_search_would_choose_is_left_out(num_rows: int, gap: float, spread: float) -> None:
    """Rows alike, rows far behind each other, flat and steep ones: what is chosen is what full draws would give."""
    scores = rough_scores(num_rows, 700, seed=num_rows, spread=spread)
    own = [-gap * i for i in range(num_rows)]
    full = draw_best(scores, [BestTokens(COUNT)] * num_rows)
    together = draw_best(scores, asked(own))
    assert chosen(together, own) == chosen(full, own)
    assert len(chosen(together, own)) == COUNT
    assert len({len(tokens) for tokens, _ in together}) == 1


def test_rows_far_behind_are_drawn_a_few_tokens_only() -> None:
    """Guards the test above against always drawing all: here most rows keep to the first few."""
    own = [-0.5 * i for i in range(40)]
    drawn = draw_best(rough_scores(40, 700, seed=1), asked(own))
    num_drawn = [int((tokens != NO_TOKEN).sum()) for tokens, _ in drawn]
    assert num_drawn.count(FIRST_FEW) >= 30
    assert num_drawn[0] == COUNT


def test_a_narrow_search_draws_as_ever() -> None:
    """Up to four times the first few, and without log-probabilities of its own, every row gives all it is asked for."""
    scores = rough_scores(6, 700, seed=2)
    for count in (1, FIRST_FEW, 4 * FIRST_FEW):
        full = draw_best(scores, [BestTokens(count)] * 6)
        for (tokens, values), (others, other_values) in zip(
            draw_best(scores, asked([0.0, -9.0, -9.0, -9.0, -9.0, -9.0], count)), full, strict=True
        ):
            assert tokens.tolist() == others.tolist()
            assert values.tolist() == other_values.tolist()


def test_each_search_draws_by_itself() -> None:
    """Two searches, plain draws and named tokens in one batch: each row's bits are those of its own batch."""
    scores = rough_scores(12, 700, seed=3)
    near, far = asked([0.0, -0.1, -0.2, -0.3]), asked([-50.0, -51.0, -52.0, -60.0])
    plain = [BestTokens(3), BestTokens(300), BestTokens(2, np.asarray([5, NO_TOKEN])), BestTokens(1, np.asarray([7]))]
    order = [near[0], plain[0], near[1], plain[1], *near[2:], plain[2], *far, plain[3]]
    mixed = draw_best(scores, order)
    for group in (near, far, *([draw] for draw in plain)):
        places = [place for place, draw in enumerate(order) if any(draw is own for own in group)]
        for place, (tokens, values) in zip(places, draw_best(scores[places], list(group)), strict=True):
            assert mixed[place][0].tolist() == tokens.tolist()
            assert mixed[place][1].tobytes() == values.tobytes()


def test_rows_with_few_tokens_or_none() -> None:
    """What is excluded never makes up the number; a row without any token has only -inf."""
    scores = rough_scores(5, 700, seed=4)
    scores[1, 3:] = NEVER
    scores[2] = NEVER
    own = [0.0, -0.1, -0.2, -30.0, -30.0]
    full = draw_best(scores, [BestTokens(COUNT)] * 5)
    together = draw_best(scores, asked(own))
    assert chosen(together, own) == chosen(full, own)
    assert np.isneginf(together[2][1]).all()
    assert (together[1][1] > NEVER).sum() == 3


def test_a_vocabulary_smaller_than_the_count() -> None:
    """A search wider than its vocabulary draws all of it."""
    scores = rough_scores(3, FIRST_FEW - 5, seed=5)
    own = [0.0, -1.0, -2.0]
    together = draw_best(scores, asked(own))
    assert sorted(together[2][0].tolist()) == list(range(FIRST_FEW - 5))
    assert len(chosen(together, own)) == 3 * (FIRST_FEW - 5)
