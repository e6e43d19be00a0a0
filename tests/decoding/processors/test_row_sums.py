"""Sums over rows that do not depend on the batch."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from decoding_rows import NEVER, distinct_scores
from truncation_oracles import entropy, float64

from penstock_decoding.processors.row_sums import entropies, row_sums


@pytest.fixture
def two_threads() -> Iterator[None]:
    """As many threads as it takes for torch to split a sum."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("vocab_size", [1, 5, 127, 128, 129, 255, 256, 700, 50257])
def test_exact(vocab_size: int) -> None:
    """Sums agree with float64 to float32's rounding of one block."""
    values = distinct_scores(3, vocab_size, seed=1).abs()
    np.testing.assert_allclose(row_sums(values)[:, 0], values.double().numpy().sum(-1), rtol=1e-6)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("vocab_size", [200, 33000, 50257, 152064])
def test_alone_equals_mixed(vocab_size: int) -> None:
    """With two threads a lone row's sum has the bits that it has among others, contiguous or not."""
    values = distinct_scores(5, vocab_size, seed=2).exp()
    mixed, some = row_sums(values), row_sums(values[1::2])
    for i in range(5):
        assert torch.equal(mixed[i], row_sums(values[i : i + 1])[0])
        assert torch.equal(mixed[i], row_sums(values[i : i + 1].clone())[0])
    assert torch.equal(some, mixed[1::2])


def test_entropies() -> None:
    """Entropies agree with the definition; excluded tokens weigh nothing, and a row without any is NaN."""
    scores = torch.cat([distinct_scores(3, 900, seed=3), torch.zeros(1, 900), torch.full((2, 900), NEVER)])
    scores[1, ::3], scores[4, 5] = NEVER, 2.0
    found = entropies(scores.log_softmax(-1))[:, 0]
    expected = [entropy(float64(row)) for row in scores[:5]]
    np.testing.assert_allclose(found[:5], expected, rtol=1e-5, atol=1e-12)
    assert found[5].isnan()
