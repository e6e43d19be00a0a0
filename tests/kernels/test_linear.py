"""Linear layers: a weight packed once serves any number of tokens."""

import pytest
import torch
from closeness import assert_close, randn

from penstock_kernels import Kernels
from penstock_kernels.linear.cases import NUM_TOKENS, SHAPES
from penstock_kernels.tolerance import DTYPES


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_against_float64(shape: tuple[int, int], dtype: torch.dtype) -> None:
    outputs, inputs = shape
    weight, bias = randn(outputs, inputs, dtype=dtype), randn(outputs, dtype=dtype, seed=1)
    exact_weight = weight.double()
    kernels = Kernels.reference()
    packed = kernels.pack_linear(weight)
    assert packed.shape == shape
    for num_tokens in NUM_TOKENS:
        x = randn(num_tokens, inputs, dtype=dtype, seed=num_tokens)
        product = x.double() @ exact_weight.t()
        for given, expected in ((None, product), (bias, product + bias.double())):
            y = kernels.linear(x, packed, given)
            assert_close(y, expected, dtype)
            assert y.dtype == dtype and y.is_contiguous()
