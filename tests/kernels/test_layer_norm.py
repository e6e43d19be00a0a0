"""Layer norm against its formula in float64."""

import pytest
import torch
from closeness import assert_close, randn
from kernel_tables import DEVICE, table, tables_of, truncates
from torch import Tensor

from penstock_kernels.layer_norm.cases import EPS, SHAPES
from penstock_kernels.tolerance import DTYPES

TABLES = tables_of("layer_norm")


def formula(r: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """In float64."""
    centred = r.double() - r.double().mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + EPS).sqrt() * weight.double() + bias.double()


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_residual", [False, True])
def test_against_the_formula(shape: tuple[int, ...], dtype: torch.dtype, with_residual: bool, name: str) -> None:
    sizes = (shape, shape[-1:], shape[-1:])
    x, weight, bias = (randn(*size, dtype=dtype, seed=i).to(DEVICE) for i, size in enumerate(sizes))
    residual = randn(*shape, dtype=dtype, seed=3).to(DEVICE) if with_residual else None
    x_before = x.clone()
    total = x if residual is None else x + residual

    y = table(name).layer_norm(x, weight, bias, EPS, residual)
    assert_close(y, formula(total if residual is None else residual, weight, bias), dtype)
    assert y.dtype == dtype and y.is_contiguous()
    assert torch.equal(x, x_before)
    if residual is not None:
        assert_close(residual, total, dtype)
        assert truncates(name, dtype) or torch.equal(residual, total)


@pytest.mark.parametrize("name", TABLES)
def test_far_from_zero(name: str) -> None:
    """E[x^2] - E[x]^2 has no digit left here: 1e8 and its neighbour in float32 are 8 apart."""
    x = randn(3, 200, dtype=torch.float32).to(DEVICE) + 1e4
    ones = torch.ones(200, device=DEVICE)
    error = (table(name).layer_norm(x, ones, ones, EPS).double() - formula(x, ones, ones)).abs().max()
    assert error < 5e-3


@pytest.mark.parametrize("name", TABLES)
def test_a_strided_view(name: str) -> None:
    wide = randn(4, 5, 20, dtype=torch.float32).to(DEVICE)
    weight = torch.ones(20, device=DEVICE)
    for view in (wide[:, 1:3], wide[:, 1], wide[..., ::2]):
        w = weight[: view.shape[-1]]
        y = table(name).layer_norm(view, w, w, EPS)
        assert torch.equal(y, table(name).layer_norm(view.contiguous(), w, w, EPS))
        assert y.is_contiguous()
