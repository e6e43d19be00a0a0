"""Linear layers: a weight packed once serves any number of tokens."""

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from closeness import assert_close, randn
from kernel_tables import DEVICE, IS_INTERPRETED, TABLES, skip_if_wrong_when_interpreted, table
from torch import Tensor

from penstock_kernels.activation import Activation
from penstock_kernels.linear import MlpActivation
from penstock_kernels.linear.cases import INTERPRETED_NUM_TOKENS, INTERPRETED_SHAPES, NUM_TOKENS, SHAPES
from penstock_kernels.tolerance import DTYPES

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "silu": torch.nn.functional.silu,
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_against_float64(name: str, dtype: torch.dtype) -> None:
    skip_if_wrong_when_interpreted(name, dtype)
    kernels = table(name)
    is_slow = IS_INTERPRETED and name != "reference"
    for outputs, inputs in INTERPRETED_SHAPES if is_slow else SHAPES:
        weight = randn(outputs, inputs, dtype=dtype).to(DEVICE)
        bias = randn(outputs, dtype=dtype, seed=1).to(DEVICE)
        exact_weight = weight.double()
        packed = kernels.pack_linear(weight)
        assert packed.shape == (outputs, inputs)
        for num_tokens in INTERPRETED_NUM_TOKENS if is_slow else NUM_TOKENS:
            x = randn(num_tokens, inputs, dtype=dtype, seed=num_tokens).to(DEVICE)
            product = x.double() @ exact_weight.t()
            for given, expected in ((None, product), (bias, product + bias.double())):
                y = kernels.linear(x, packed, given)
                assert_close(y, expected, dtype)
                assert y.dtype == dtype and y.is_contiguous()


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("num_tokens", [3, 70])
@pytest.mark.parametrize("activation", get_args(Activation))
@pytest.mark.parametrize("is_gated", [False, True])
def test_what_follows_the_product(name: str, num_tokens: int, activation: Activation, is_gated: bool) -> None:
    """Bias, activation, gate and residual together."""
    kernels, dtype = table(name), torch.float32
    weight, bias = randn(50, 70, dtype=dtype).to(DEVICE), randn(50, dtype=dtype, seed=1).to(DEVICE)
    x = randn(num_tokens, 70, dtype=dtype, seed=2).to(DEVICE)
    residual = randn(num_tokens, 25 if is_gated else 50, dtype=dtype, seed=3).to(DEVICE)
    y = x.double() @ weight.double().t() + bias.double()
    f = ACTIVATIONS[activation]
    expected = residual.double() + (f(y[:, :25]) * y[:, 25:] if is_gated else f(y))
    packed = kernels.pack_linear(weight)
    result = kernels.linear(x, packed, bias, activation=MlpActivation(activation, is_gated), residual=residual)
    assert result.data_ptr() == residual.data_ptr()
    assert_close(result, expected, dtype)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("num_tokens", [2, 18])
def test_residual(name: str, num_tokens: int) -> None:
    """Without anything else, as after attention."""
    kernels, dtype = table(name), torch.float32
    weight, x = randn(48, 130, dtype=dtype).to(DEVICE), randn(num_tokens, 130, dtype=dtype, seed=2).to(DEVICE)
    residual = randn(num_tokens, 48, dtype=dtype, seed=3).to(DEVICE)
    expected = residual.double() + x.double() @ weight.double().t()
    result = kernels.linear(x, kernels.pack_linear(weight), residual=residual)
    assert result.data_ptr() == residual.data_ptr()
    assert_close(result, expected, dtype)


@pytest.mark.parametrize("name", TABLES)
def test_no_tokens(name: str) -> None:
    kernels = table(name)
    packed = kernels.pack_linear(randn(6, 5, dtype=torch.float32).to(DEVICE))
    x = torch.empty(0, 5, device=DEVICE)
    assert kernels.linear(x, packed).shape == (0, 6)
    assert kernels.linear(x, packed, activation=MlpActivation("silu", True)).shape == (0, 3)
