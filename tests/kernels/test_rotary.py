"""Rotary embedding against complex multiplication in float64."""

import pytest
import torch
from closeness import assert_close, randn

from penstock_kernels import Kernels
from penstock_kernels.rotary.cases import SHAPES
from penstock_kernels.tolerance import DTYPES


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_against_complex_multiplication(shape: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    tokens, heads, head_size, rotary_size = shape
    half = rotary_size // 2
    angles = randn(tokens, half, dtype=torch.float32, seed=1) * 10
    cos = torch.cat((angles.cos(), angles.cos()), dim=-1)
    sin = torch.cat((-angles.sin(), angles.sin()), dim=-1)
    # A view into a wider tensor, as the query and key part of the fused projection is.
    wide = randn(tokens, heads + 2, head_size, dtype=dtype)
    before = wide.clone()
    x = before[:, :heads].double()
    turned = torch.complex(x[..., :half], x[..., half:rotary_size]) * torch.polar(
        torch.ones_like(angles, dtype=torch.float64), angles.double()
    ).unsqueeze(1)

    Kernels.reference().rotary(wide[:, :heads], cos.unsqueeze(1), sin.unsqueeze(1))
    assert_close(wide[:, :heads, :rotary_size], torch.cat((turned.real, turned.imag), dim=-1), dtype)
    assert torch.equal(wide[:, :heads, rotary_size:], before[:, :heads, rotary_size:])
    assert torch.equal(wide[:, heads:], before[:, heads:])
