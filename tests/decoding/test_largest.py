"""`largest_values` and `exclude_below`: torch's own results, in less time."""

import pytest
import torch
from decoding_rows import NEVER, same_bits
from hypothesis import given
from hypothesis import strategies as st

from penstock_decoding.largest import BLOCK, largest_values
from penstock_decoding.tensors import exclude_below


@given(
    num_rows=st.integers(1, 4),
    vocab_size=st.integers(1, 20 * BLOCK),
    count=st.integers(1, 12),
    grain=st.sampled_from([0.0, 0.5, 4.0]),
    kept=st.sampled_from([1.0, 0.5, 0.01]),
    seed=st.integers(0, 999),
)
def test_largest_values_are_those_of_topk(
    num_rows: int, vocab_size: int, count: int, grain: float, kept: float, seed: int
) -> None:
    """With ties (a grain of scores), with excluded tokens, with a vocabulary that blocks do not divide."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(num_rows, vocab_size, generator=generator) * 3
    if grain:
        scores = (scores / grain).round() * grain
    scores[torch.rand(scores.shape, generator=generator) > kept] = NEVER
    count = min(count, vocab_size)
    assert torch.equal(largest_values(scores, count), scores.topk(count, dim=-1).values)


@pytest.mark.parametrize("vocab_size", [50 * BLOCK, 50 * BLOCK + 17])
def test_largest_values_wherever_they_are(vocab_size: int) -> None:
    """All in one block, one in each, at both ends of the row and in its incomplete last block."""
    for places in (range(5), range(0, 5 * BLOCK, BLOCK), [0, 1, vocab_size - 2, vocab_size - 1, BLOCK]):
        scores = torch.zeros(1, vocab_size)
        scores[0, list(places)] = torch.arange(5, 0, -1, dtype=torch.float32)
        assert largest_values(scores, 6).tolist() == [[5, 4, 3, 2, 1, 0]]


def test_largest_values_of_some_rows_of_others() -> None:
    """Rows that are not contiguous: the view of a batch that a processor takes."""
    scores = torch.randn(4, 9000, generator=torch.Generator().manual_seed(1))
    assert torch.equal(largest_values(scores[:, 500:8000], 9), scores[:, 500:8000].topk(9, dim=-1).values)


def test_exclude_below_is_masked_fill() -> None:
    """What equals the floor stays, zeros of either sign are equal, NaN and -inf as floors exclude nothing more."""
    generator = torch.Generator().manual_seed(2)
    scores = (torch.randn(6, 300, generator=generator) * 2).round() / 2
    scores[:, :9] = torch.tensor([0.0, -0.0, NEVER, 1e-45, -1e-45, 2.0**-126, 1.5, -1.5, 3e38])
    floors = torch.tensor([0.0, 1.5, NEVER, torch.nan, 3e38, -0.0])[:, None]
    expected = scores.masked_fill(scores < floors, NEVER)
    exclude_below(scores, floors)
    assert same_bits(scores, expected)
