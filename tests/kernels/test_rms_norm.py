"""RMS norm against its formula in float64."""

import pytest
import torch
from closeness import assert_close, randn

from penstock_kernels import Kernels
from penstock_kernels.rms_norm.cases import EPS, SHAPES
from penstock_kernels.tolerance import DTYPES


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_residual", [False, True])
def test_against_the_formula(shape: tuple[int, ...], dtype: torch.dtype, with_residual: bool) -> None:
    x, weight = randn(*shape, dtype=dtype), randn(shape[-1], dtype=dtype, seed=1)
    residual = randn(*shape, dtype=dtype, seed=2) if with_residual else None
    x_before = x.clone()
    total = x if residual is None else x + residual
    r = total.double()
    expected = r / (r.square().mean(-1, keepdim=True) + EPS).sqrt() * weight.double()

    y = Kernels.reference().rms_norm(x, weight, EPS, residual)
    assert_close(y, expected, dtype)
    assert y.dtype == dtype and y.is_contiguous()
    assert torch.equal(x, x_before)
    assert residual is None or torch.equal(residual, total)


def test_a_strided_view() -> None:
    wide = randn(4, 5, 20, dtype=torch.float32)
    weight = torch.ones(20)
    y = Kernels.reference().rms_norm(wide[:, 1:3], weight, EPS)
    assert torch.equal(y, Kernels.reference().rms_norm(wide[:, 1:3].contiguous(), weight, EPS))
    assert y.is_contiguous()
