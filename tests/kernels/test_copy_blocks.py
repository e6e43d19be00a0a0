"""Copies of blocks: chains and swaps read before they write."""

import pytest
import torch
from closeness import randn

from penstock_kernels import Kernels
from penstock_kernels.copy_blocks.cases import CASES
from penstock_kernels.tolerance import DTYPES


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "pairs"), CASES)
def test_copies(shape: tuple[int, ...], pairs: tuple[tuple[int, int], ...], dtype: torch.dtype) -> None:
    storage = randn(*shape, dtype=dtype)
    before, expected = storage.clone(), storage.clone()
    for source, destination in pairs:
        expected[:, destination] = before[:, source]
    sources, destinations = torch.tensor(pairs).unbind(1)
    Kernels.reference().copy_blocks(storage, sources, destinations)
    assert torch.equal(storage, expected)
