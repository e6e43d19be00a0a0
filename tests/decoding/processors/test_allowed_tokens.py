"""Allowed tokens."""

import pytest
import torch
from decoding_rows import NEVER, apply_asks, distinct_scores, kept, make_row

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.processors.allowed_tokens import MAX_TOKENS, AllowedTokens, AllowedTokensParams

VOCAB_SIZE = 20


def test_only_these_stay() -> None:
    """What is listed keeps its bits, in whatever order and however often; all else is excluded, stop tokens too."""
    scores = distinct_scores(4, VOCAB_SIZE, seed=1)
    lists = [(3,), (7, 1, 7), tuple(range(VOCAB_SIZE)), (0, 9, 19)]
    asks = [Ask(make_row(i, stop_token_ids=(5,)), AllowedTokensParams(tokens)) for i, tokens in enumerate(lists)]
    after = apply_asks(AllowedTokens(), asks, scores)
    for i, tokens in enumerate(lists):
        assert kept(after[i]).nonzero().squeeze(-1).tolist() == sorted(set(tokens))
        assert torch.equal(after[i, list(tokens)], scores[i, list(tokens)])


def test_rows_that_do_not_ask() -> None:
    """Rows between those that ask keep their values."""
    scores = distinct_scores(4, VOCAB_SIZE, seed=2)
    asks = [Ask(make_row(i), AllowedTokensParams((2,))) for i in (0, 3)]
    after = apply_asks(AllowedTokens(), asks, scores)
    assert torch.equal(after[1:3], scores[1:3])
    assert kept(after).sum(-1).tolist() == [1, VOCAB_SIZE, VOCAB_SIZE, 1]


def test_excluded_tokens_are_not_let_in() -> None:
    """A list of which nothing is left leaves nothing: the list is a promise, and the request fails rather than break
    it."""
    scores = torch.tensor([[NEVER, 1.0, 2.0], [NEVER, NEVER, NEVER]])
    asks = [Ask(make_row(i), AllowedTokensParams((0,))) for i in range(2)]
    assert apply_asks(AllowedTokens(), asks, scores).tolist() == [[NEVER] * 3] * 2


@pytest.mark.parametrize("tokens", [(), (1,) * (MAX_TOKENS + 1)], ids=["none", "too many"])
def test_range(tokens: tuple[int, ...]) -> None:
    """No token at all, or more than any vocabulary has, is refused by name."""
    with pytest.raises(ParameterError) as caught:
        AllowedTokensParams(tokens)
    assert caught.value.param == "tokens"
