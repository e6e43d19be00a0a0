"""Top-k."""

import pytest
import torch
from decoding_rows import NEVER, apply_params, distinct_scores, kept, make_row
from transformers.generation.logits_process import TopKLogitsWarper

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.processors.top_k import TopK, TopKParams


@pytest.mark.parametrize("count", [1, 2, 40, 499, 500, 501, 10**30])
def test_equals_transformers(count: int) -> None:
    """Scores are those of transformers, also for a k larger than the vocabulary."""
    scores = distinct_scores(3, 500, seed=1)
    assert torch.equal(apply_params("top_k", [TopKParams(count)] * 3, scores), TopKLogitsWarper(count)(None, scores))


def test_one_k_a_row() -> None:
    """Each row keeps as many tokens as it asked for."""
    counts = [1, 500, 7, 40]
    after = apply_params("top_k", [TopKParams(count) for count in counts], distinct_scores(4, 500, seed=2))
    assert kept(after).sum(-1).tolist() == counts


def test_ties_with_the_last_stay() -> None:
    """Tokens tied with the k-th stay: which of them went would hang on the order of a sort."""
    after = apply_params("top_k", [TopKParams(2)], torch.tensor([[1.0, 3.0, 2.0, 2.0, 0.0]]))
    assert after.tolist() == [[NEVER, 3.0, 2.0, 2.0, NEVER]]


@pytest.mark.parametrize("count", [0, -1])
def test_no_limit_costs_nothing(count: int) -> None:
    """A k that keeps every token plans no work."""
    assert TopK().plan([Ask(make_row(0), TopKParams(count))]) is None


def test_range() -> None:
    """A k below -1 is refused."""
    with pytest.raises(ParameterError) as caught:
        TopKParams(-2)
    assert caught.value.param == "count"
