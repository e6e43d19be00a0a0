"""What a mask of bits does not allow is excluded, and nothing else is touched."""

import numpy as np
import pytest
import torch
from kernel_tables import DEVICE, TABLES, table

from penstock_kernels.bitmask.cases import CASES

NEVER = float("-inf")


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize(("shape", "num_words", "rows"), CASES)
def test_exclusion(name: str, shape: tuple[int, int], num_words: int, rows: tuple[int, ...]) -> None:
    """Beside unpacked bits: tokens past a mask's end are excluded, a negative row is passed over."""
    generator = np.random.default_rng(1)
    packed = generator.integers(0, 256, (len(rows), 4 * num_words), np.uint8)
    allowed = np.zeros((len(rows), max(shape[1], 32 * num_words)), np.bool_)
    allowed[:, : 32 * num_words] = np.unpackbits(packed, axis=1, bitorder="little").astype(np.bool_)
    scores = torch.from_numpy(generator.standard_normal(shape, np.float32)).to(DEVICE)
    expected = scores.clone()
    for row, bits in zip(rows, allowed, strict=True):
        if row >= 0:
            expected[row, torch.from_numpy(~bits[: shape[1]]).to(DEVICE)] = NEVER
    mask = torch.from_numpy(packed.view(np.int32)).to(DEVICE)
    table(name).apply_bitmask(scores, mask, torch.tensor(rows, dtype=torch.int64, device=DEVICE))
    assert torch.equal(scores, expected)


@pytest.mark.parametrize("name", TABLES)
def test_bits_of_what_is_allowed(name: str) -> None:
    """NaN, infinities and negative zero of allowed tokens stay; the sign bit of a word is a token like any other."""
    scores = torch.tensor([[float("nan"), float("inf"), NEVER, -0.0] + [1.0] * 28 + [2.0]], device=DEVICE)
    before = scores.clone()
    mask = torch.tensor([[-(2**31) + 0b1111, 1]], dtype=torch.int32, device=DEVICE)
    table(name).apply_bitmask(scores, mask, torch.tensor([0], device=DEVICE))
    kept = [0, 1, 2, 3, 31, 32]
    assert torch.equal(scores[0, kept].view(torch.int32), before[0, kept].view(torch.int32))
    assert (scores[0, 4:31] == NEVER).all()
