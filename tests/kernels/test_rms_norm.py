"""RMS norm against its formula in float64."""

import pytest
import torch
from closeness import assert_close, randn
from kernel_tables import DEVICE, table, tables_of, truncates

from penstock_kernels.rms_norm.cases import EPS, SHAPES
from penstock_kernels.tolerance import DTYPES

TABLES = tables_of("rms_norm")


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_residual", [False, True])
def test_against_the_formula(shape: tuple[int, ...], dtype: torch.dtype, with_residual: bool, name: str) -> None:
    x, weight = randn(*shape, dtype=dtype).to(DEVICE), randn(shape[-1], dtype=dtype, seed=1).to(DEVICE)
    residual = randn(*shape, dtype=dtype, seed=2).to(DEVICE) if with_residual else None
    x_before = x.clone()
    total = x if residual is None else x + residual

    y = table(name).rms_norm(x, weight, EPS, residual)
    r = (total if residual is None else residual).double()
    assert_close(y, r / (r.square().mean(-1, keepdim=True) + EPS).sqrt() * weight.double(), dtype)
    assert y.dtype == dtype and y.is_contiguous()
    assert torch.equal(x, x_before)
    if residual is not None:
        assert_close(residual, total, dtype)
        assert truncates(name, dtype) or torch.equal(residual, total)


@pytest.mark.parametrize("name", TABLES)
def test_a_strided_view(name: str) -> None:
    wide = randn(4, 5, 20, dtype=torch.float32).to(DEVICE)
    weight = torch.ones(20, device=DEVICE)
    for view in (wide[:, 1:3], wide[:, 1], wide[..., ::2], wide.transpose(0, 1)):
        y = table(name).rms_norm(view, weight[: view.shape[-1]], EPS)
        assert torch.equal(y, table(name).rms_norm(view.contiguous(), weight[: view.shape[-1]], EPS))
        assert y.is_contiguous()


@pytest.mark.parametrize("name", TABLES)
def test_no_rows(name: str) -> None:
    assert table(name).rms_norm(torch.empty(0, 8, device=DEVICE), torch.ones(8, device=DEVICE), EPS).shape == (0, 8)
