"""Rows picked from a tensor."""

import pytest
import torch
from closeness import randn
from kernel_tables import DEVICE, table, tables_of

from penstock_kernels.gather_last.cases import CASES
from penstock_kernels.tolerance import DTYPES

TABLES = tables_of("gather_last")


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "rows"), CASES)
def test_rows(shape: tuple[int, int], rows: tuple[int, ...], dtype: torch.dtype, name: str) -> None:
    x = randn(*shape, dtype=dtype).to(DEVICE)
    y = table(name).gather_last(x, torch.tensor(rows, dtype=torch.int64, device=DEVICE))
    assert y.shape == (len(rows), shape[1]) and y.dtype == dtype and y.is_contiguous()
    for i, row in enumerate(rows):
        assert torch.equal(y[i], x[row])
