"""The head against a product in float64."""

import pytest
import torch
from closeness import assert_close, randn
from kernel_tables import DEVICE, IS_INTERPRETED, TABLES, skip_if_wrong_when_interpreted, table

from penstock_kernels.logits.cases import INTERPRETED_SHAPES, SHAPES
from penstock_kernels.tolerance import DTYPES


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_against_float64(name: str, dtype: torch.dtype) -> None:
    skip_if_wrong_when_interpreted(name, dtype)
    for rows, vocab, size in INTERPRETED_SHAPES if IS_INTERPRETED and name != "reference" else SHAPES:
        x, weight = randn(rows, size, dtype=dtype).to(DEVICE), randn(vocab, size, dtype=dtype, seed=1).to(DEVICE)
        y = table(name).logits(x, weight)
        assert_close(y, x.double() @ weight.double().t(), dtype)
        assert y.dtype == torch.float32 and y.is_contiguous()


@pytest.mark.parametrize("name", TABLES)
def test_no_rows(name: str) -> None:
    y = table(name).logits(torch.empty(0, 8, device=DEVICE), torch.ones(5, 8, device=DEVICE))
    assert y.shape == (0, 5) and y.dtype == torch.float32


def test_a_rows_bits_do_not_depend_on_the_others() -> None:
    """Small integers of one exponent in every 64: see test_linear_invariance.py."""
    generator = torch.Generator().manual_seed(0)
    exponents = torch.randint(-24, 6, (4,), generator=generator).float().exp2().repeat_interleave(64)[:200]
    x = (torch.randint(-3, 4, (257, 200), generator=generator) * exponents).to(DEVICE, torch.float16)
    weight = torch.randint(-7, 8, (70, 200), generator=generator).to(DEVICE, torch.float16)
    logits = table("fused_invariant").logits
    whole = logits(x, weight)
    for rows in (1, 2, 8, 33, 256):
        assert torch.equal(logits(x[:rows], weight), whole[:rows])
    assert torch.equal(logits(x[256:], weight), whole[256:])
