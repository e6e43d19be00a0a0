"""Comparison with an oracle evaluated in float64."""

import torch
from torch import Tensor

from penstock_kernels.tolerance import RELATIVE


def assert_close(actual: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """`actual` is within the tolerance of `dtype`, relative to the largest magnitude of `expected`."""
    assert actual.shape == expected.shape
    error = (actual.double() - expected.double()).abs().max()
    scale = expected.double().abs().max().clamp(min=1e-6)
    assert error <= RELATIVE[dtype] * scale, f"off by {float(error / scale):.2e} of the largest value"


def randn(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Normal values, the same for the same arguments."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
