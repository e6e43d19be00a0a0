"""min_tokens."""

import pytest
import torch
from decoding_rows import NEVER, apply_asks, distinct_scores, make_row
from transformers.generation.logits_process import MinNewTokensLengthLogitsProcessor

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.processors.min_tokens import MinTokens, MinTokensParams

STOPS = (0, 9)


@pytest.mark.parametrize("num_generated", [0, 1, 2, 3, 4])
def test_equals_transformers(num_generated: int) -> None:
    """The token that ends the answer does not count, neither here nor there."""
    count, prompt = 3, (1, 2, 2, 3)
    scores = distinct_scores(1, 20, seed=1)
    output = (4,) * num_generated
    ask = Ask(make_row(0, prompt=prompt, output=output, stop_token_ids=STOPS), MinTokensParams(count))
    theirs = MinNewTokensLengthLogitsProcessor(len(prompt), count, list(STOPS))
    assert torch.equal(apply_asks(MinTokens(), [ask], scores), theirs(torch.tensor([[*prompt, *output]]), scores))


def test_the_ending_token_does_not_count() -> None:
    """With min_tokens 3 the first three tokens cannot end the answer and the fourth can."""
    for num_generated, can_end in [(0, False), (2, False), (3, True), (4, True)]:
        ask = Ask(make_row(0, output=(4,) * num_generated, stop_token_ids=STOPS), MinTokensParams(3))
        assert (MinTokens().plan([ask]) is None) is can_end


def test_each_row_has_its_own_stop_tokens() -> None:
    """Rows exclude their own stop tokens, and those long enough or without a stop token none."""
    rows = [(3, (), (1,)), (0, (), (1, 2)), (9, (5, 5), (0, 2)), (9, (), ())]
    asks = [
        Ask(make_row(i, output=output, stop_token_ids=stops), MinTokensParams(count))
        for i, (count, output, stops) in enumerate(rows)
    ]
    after = apply_asks(MinTokens(), asks, torch.zeros(4, 3))
    assert after.tolist() == [[0, NEVER, 0], [0, 0, 0], [NEVER, 0, NEVER], [0, 0, 0]]


def test_the_prompt_does_not_count() -> None:
    """A long prompt makes no answer long enough."""
    ask = Ask(make_row(0, prompt=(5,) * 50, output=(), stop_token_ids=STOPS), MinTokensParams(2))
    assert MinTokens().plan([ask]) is not None


def test_range() -> None:
    """A negative count is refused."""
    with pytest.raises(ParameterError) as caught:
        MinTokensParams(-1)
    assert caught.value.param == "count"
