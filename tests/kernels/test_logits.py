"""The head against a product in float64."""

import pytest
import torch
from closeness import assert_close, randn

from penstock_kernels import Kernels
from penstock_kernels.logits.cases import SHAPES
from penstock_kernels.tolerance import DTYPES


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_against_float64(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    rows, vocab, size = shape
    x, weight = randn(rows, size, dtype=dtype), randn(vocab, size, dtype=dtype, seed=1)
    y = Kernels.reference().logits(x, weight)
    assert_close(y, x.double() @ weight.double().t(), dtype)
    assert y.dtype == torch.float32 and y.is_contiguous()
