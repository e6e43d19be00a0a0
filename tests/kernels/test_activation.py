"""Activations against their formulas in numpy float64."""

import math

import numpy as np
import pytest
import torch
from closeness import assert_close, randn
from kernel_tables import DEVICE, table, tables_of
from numpy.typing import NDArray

from penstock_kernels.activation import Activation
from penstock_kernels.activation.cases import ACTIVATIONS, SHAPES
from penstock_kernels.tolerance import DTYPES

TABLES = tables_of("activate", "gated_activate")

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


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_plain(activation: Activation, shape: tuple[int, int], dtype: torch.dtype, name: str) -> None:
    x = randn(*shape, dtype=dtype) * 3
    expected = torch.from_numpy(formula(activation, x.double().numpy()))
    y = table(name).activate(x.to(DEVICE), activation)
    assert_close(y.cpu(), expected, dtype)
    assert y.dtype == dtype


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gated(activation: Activation, shape: tuple[int, int], dtype: torch.dtype, name: str) -> None:
    tokens, size = shape
    x = randn(tokens, 2 * size, dtype=dtype) * 3
    gate, up = x.double()[:, :size], x.double()[:, size:]
    expected = torch.from_numpy(formula(activation, gate.numpy())) * up
    y = table(name).gated_activate(x.to(DEVICE), activation)
    assert_close(y.cpu(), expected, dtype)
    assert y.dtype == dtype and y.is_contiguous()


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_far_from_zero(activation: Activation, name: str) -> None:
    """An exponential that overflows must not make a NaN of what is 0 on one side and x on the other."""
    x = torch.tensor([[-1e12, -1e4, -200.0, 0.0, 200.0, 1e4, 1e12]], device=DEVICE)
    y = table(name).activate(x.clone(), activation)
    assert torch.equal(y, x.clamp(min=0))


@pytest.mark.parametrize("name", TABLES)
def test_a_strided_view(name: str) -> None:
    x = randn(6, 40, dtype=torch.float32).to(DEVICE)
    expected = table(name).activate(x[:, ::2].contiguous(), "silu")
    assert_close(table(name).activate(x[:, ::2], "silu"), expected, torch.float32)
