"""Copies of blocks: chains and swaps read before they write."""

import pytest
import torch
from closeness import randn
from kernel_tables import DEVICE, table, tables_of

from penstock_kernels.copy_blocks.cases import CASES
from penstock_kernels.layer_cache import QUANTISED_PEAKS
from penstock_kernels.tolerance import DTYPES

TABLES = tables_of("copy_blocks")


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("dtype", (*DTYPES, *QUANTISED_PEAKS))
@pytest.mark.parametrize(("shape", "pairs"), CASES)
def test_copies(shape: tuple[int, ...], pairs: tuple[tuple[int, int], ...], dtype: torch.dtype, name: str) -> None:
    # As bytes: torch indexes and compares no float8.
    before = randn(*shape, dtype=torch.float32).mul(20).to(dtype).view(torch.int8)
    expected = before.clone()
    for source, destination in pairs:
        expected[:, destination] = before[:, source]
    storage = before.to(DEVICE).view(dtype)
    sources, destinations = torch.tensor(pairs, dtype=torch.int64, device=DEVICE).unbind(1)
    table(name).copy_blocks(storage, sources, destinations)
    assert torch.equal(storage.view(torch.int8).cpu(), expected)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("num_pairs", [9, 65, 513, 2049])
def test_many_pairs(num_pairs: int, name: str) -> None:
    """A chain that goes through every block: each is a source and a destination."""
    storage = randn(2, num_pairs, 3, 2, dtype=torch.float32).to(DEVICE)
    sources = torch.randperm(num_pairs, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    expected = storage.clone()
    expected[:, sources.roll(1)] = storage[:, sources]
    table(name).copy_blocks(storage, sources, sources.roll(1))
    assert torch.equal(storage, expected)


@pytest.mark.parametrize("name", TABLES)
def test_no_pairs(name: str) -> None:
    storage = randn(2, 3, 4, dtype=torch.float32).to(DEVICE)
    before, none = storage.clone(), torch.empty(0, dtype=torch.int64, device=DEVICE)
    table(name).copy_blocks(storage, none, none)
    assert torch.equal(storage, before)
