"""Weights in fewer bits: how far rounding moves them, and products that are those of the rounded weights."""

import pytest
import torch
from closeness import assert_close, randn
from kernel_tables import DEVICE, TABLES, skip_if_wrong_when_interpreted, table

from penstock_kernels import Kernels
from penstock_kernels.linear import MlpActivation, NotInvariant
from penstock_kernels.linear.cases import QUANTISED_SHAPES
from penstock_kernels.linear.quantised import GROUP, QuantisedType, dequantise, quantise, unpack_int4
from penstock_kernels.table import NoSuchKernels, WeightChoice
from penstock_kernels.tolerance import DTYPES

TYPES: tuple[QuantisedType, ...] = ("int8", "int4")


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("shape", QUANTISED_SHAPES)
def test_rounding(type: QuantisedType, shape: tuple[int, int]) -> None:
    """No weight moves by more than half a step, but int4's largest of the other sign, which may lose a whole one."""
    weight = randn(*shape, dtype=torch.float32)
    weight[0] = 0
    rounded = dequantise(quantise(weight, type), torch.float32)
    assert not rounded[0].any()
    for start in range(0, shape[1], GROUP) if type == "int4" else (0,):
        columns = slice(start, start + GROUP if type == "int4" else shape[1])
        step = weight[:, columns].abs().amax(1, keepdim=True) / (8 if type == "int4" else 127)
        off = (weight - rounded)[:, columns].abs()
        assert (off <= step * (1.05 if type == "int4" else 0.501)).all()
        assert ((off <= 0.51 * step) | (type == "int4") & (weight[:, columns].abs() > 7 * step)).all()


def test_int4_halves() -> None:
    """Byte j of a group has input j in its low half and input j + 64 in its high half; both keep their sign."""
    numbers = torch.arange(-8, 8).repeat(1, 16).to(torch.int8)
    quantised = quantise(numbers.float() * 0.5, "int4")
    assert quantised.values.shape == (1, 128)
    assert torch.equal(unpack_int4(quantised.values), numbers)
    assert torch.equal(dequantise(quantised, torch.float32), numbers.float() * 0.5)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_product(name: str, type: QuantisedType, dtype: torch.dtype) -> None:
    skip_if_wrong_when_interpreted(name, dtype)
    kernels = table(name)
    for outputs, inputs in QUANTISED_SHAPES:
        weight = randn(outputs, inputs, dtype=dtype)
        exact = dequantise(quantise(weight, type), torch.float64).to(DEVICE)
        scratch = weight.to(DEVICE)
        packed = kernels.pack_quantised(type, scratch)
        scratch.zero_()  # it is the caller's again
        assert packed.shape == (outputs, inputs)
        for num_tokens in (1, 5, 20, 70):
            x = randn(num_tokens, inputs, dtype=dtype, seed=num_tokens).to(DEVICE)
            y = kernels.linear(x, packed)
            assert_close(y, x.double() @ exact.t(), dtype)
            assert y.dtype == dtype and y.is_contiguous()


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("num_tokens", [2, 66])
def test_gated_with_bias_and_residual(name: str, type: QuantisedType, num_tokens: int) -> None:
    kernels, dtype = table(name), torch.float16
    weight, bias = randn(40, 160, dtype=dtype).to(DEVICE), randn(40, dtype=dtype, seed=1).to(DEVICE)
    x, residual = randn(num_tokens, 160, dtype=dtype, seed=2).to(DEVICE), randn(num_tokens, 20, dtype=dtype).to(DEVICE)
    y = x.double() @ dequantise(quantise(weight, type), torch.float64).t() + bias.double()
    expected = residual.double() + torch.nn.functional.silu(y[:, :20]) * y[:, 20:]
    packed = kernels.pack_quantised(type, weight)
    result = kernels.linear(x, packed, bias, activation=MlpActivation("silu", True), residual=residual)
    assert_close(result, expected, dtype)


def test_a_table_with_weights() -> None:
    kernels = Kernels.reference()
    assert kernels.with_weights("auto") is kernels
    packed = kernels.with_weights("int4").pack_linear(torch.ones(2, 128))
    assert packed.weight.dtype == torch.int8 and packed.weight.shape == (2, 64)
    unknown: WeightChoice = "int3"  # type: ignore[assignment]
    with pytest.raises(NoSuchKernels, match="no weights 'int3'; known: auto, int8, int4"):
        kernels.with_weights(unknown)
    with pytest.raises(NotInvariant, match="int8 weights on cpu"):
        Kernels.invariant().with_weights("int8").pack_linear(torch.ones(2, 128))
