"""Layer norm against its formula in float64."""

import pytest
import torch
from closeness import assert_close, randn

from penstock_kernels import Kernels
from penstock_kernels.layer_norm.cases import EPS, SHAPES
from penstock_kernels.tolerance import DTYPES


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_residual", [False, True])
def test_against_the_formula(shape: tuple[int, ...], dtype: torch.dtype, with_residual: bool) -> None:
    x, weight, bias = (randn(*size, dtype=dtype, seed=i) for i, size in enumerate((shape, shape[-1:], shape[-1:])))
    residual = randn(*shape, dtype=dtype, seed=3) if with_residual else None
    x_before = x.clone()
    total = x if residual is None else x + residual
    r = total.double()
    centred = r - r.mean(-1, keepdim=True)
    expected = centred / (centred.square().mean(-1, keepdim=True) + EPS).sqrt() * weight.double() + bias.double()

    y = Kernels.reference().layer_norm(x, weight, bias, EPS, residual)
    assert_close(y, expected, dtype)
    assert y.dtype == dtype and y.is_contiguous()
    assert torch.equal(x, x_before)
    assert residual is None or torch.equal(residual, total)
