"""Rows picked from a tensor."""

import pytest
import torch
from closeness import randn

from penstock_kernels import Kernels
from penstock_kernels.gather_last.cases import CASES
from penstock_kernels.tolerance import DTYPES


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "rows"), CASES)
def test_rows(shape: tuple[int, int], rows: tuple[int, ...], dtype: torch.dtype) -> None:
    x = randn(*shape, dtype=dtype)
    y = Kernels.reference().gather_last(x, torch.tensor(rows, dtype=torch.int64))
    assert y.shape == (len(rows), shape[1]) and y.dtype == dtype and y.is_contiguous()
    for i, row in enumerate(rows):
        assert torch.equal(y[i], x[row])
