"""Activations against their formulas in numpy float64."""

import math

import numpy as np
import pytest
import torch
from closeness import assert_close, randn
from numpy.typing import NDArray

from penstock_kernels import Kernels
from penstock_kernels.activation import Activation
from penstock_kernels.activation.cases import ACTIVATIONS, SHAPES
from penstock_kernels.tolerance import DTYPES

Array = NDArray[np.float64]


def formula(activation: Activation, x: Array) -> Array:
    gate: Array
    match activation:
        case "silu":
            gate = 1 / (1 + np.exp(-x))
        case "gelu":
            gate = 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
        case "gelu_tanh":
            gate = 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x * gate


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_plain(activation: Activation, shape: tuple[int, int], dtype: torch.dtype) -> None:
    x = randn(*shape, dtype=dtype) * 3
    expected = torch.from_numpy(formula(activation, x.double().numpy()))
    y = Kernels.reference().activate(x, activation)
    assert_close(y, expected, dtype)
    assert y.dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gated(activation: Activation, shape: tuple[int, int], dtype: torch.dtype) -> None:
    tokens, size = shape
    x = randn(tokens, 2 * size, dtype=dtype) * 3
    gate, up = x.double()[:, :size], x.double()[:, size:]
    expected = torch.from_numpy(formula(activation, gate.numpy())) * up
    y = Kernels.reference().gated_activate(x, activation)
    assert_close(y, expected, dtype)
    assert y.dtype == dtype and y.is_contiguous()
