"""The scatter into the cache: every token in its slot, every other slot as it was."""

import pytest
import torch
from closeness import randn

from penstock_kernels import Kernels
from penstock_kernels.tolerance import DTYPES
from penstock_kernels.write_kv.cases import SHAPES


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_slots(shape: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    tokens, num_slots, heads, head_size = shape
    cache = randn(num_slots, 2, heads, head_size, dtype=dtype)
    # A view into a wider tensor, as the key and value part of the fused projection is.
    wide = randn(tokens, 3 + 2 * heads, head_size, dtype=dtype, seed=1)
    kv = wide[:, 3:].view(tokens, 2, heads, head_size)
    slots = torch.randperm(num_slots, generator=torch.Generator().manual_seed(2))[:tokens]
    expected = cache.clone()
    for token, slot in enumerate(slots.tolist()):
        expected[slot] = kv[token]

    Kernels.reference().write_kv(kv, cache, slots)
    assert torch.equal(cache, expected)
