"""Linear layers in Triton: what a packed weight is here, and which kernel applies it to how many tokens.

Two kernels. `few_rows` serves a decoding step of up to 16 tokens: it waits for memory alone, so everything in it is
there to keep many bytes on their way. `tiles` gives a row the same bits whatever the number of rows, and takes weights
in fewer bits to many rows. Plain weights and many rows belong to cuBLAS unless invariance is asked for: it has the
faster tiles, and other sums for other numbers of rows.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from penstock_kernels.activation.fused import activate, gated_activate
from penstock_kernels.configuration import Configuration
from penstock_kernels.linear import MlpActivation, PackedLinear
from penstock_kernels.linear.fused import few_rows, tiles
from penstock_kernels.linear.fused.operands import Operands, Weight, linear_variants
from penstock_kernels.linear.quantised import QuantisedType, QuantisedWeight, dequantise, quantise


def pack_linear(weight: Tensor) -> PackedLinear:
    """See `PackLinear`. The weight stays as it is."""
    shape = (weight.shape[0], weight.shape[1])
    return PackedLinear(weight, Weight("plain", weight, None, shape, tiles.new_arrivals(weight)), shape)


def pack_quantised(type: QuantisedType, weight: Tensor) -> PackedLinear:
    """As `pack_linear`, in fewer bits."""
    quantised = quantise(weight, type)
    form = Weight(type, quantised.values, quantised.scales, quantised.shape, tiles.new_arrivals(weight))
    return PackedLinear(quantised.values, form, quantised.shape)


def linear(
    x: Tensor,
    packed: PackedLinear,
    bias: Tensor | None = None,
    *,
    activation: MlpActivation | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    """See `Linear`."""
    weight = _for_type(x.dtype, packed.form)
    if len(x) > few_rows.MAX_ROWS and weight.form == "plain":
        return _by_cublas(x, weight.values, bias, activation, residual)
    operands = Operands.of(x, weight, bias, activation, residual)
    if len(x) > few_rows.MAX_ROWS:
        tiles.multiply_rows(operands)
    elif len(x) > 0:
        few_rows.multiply_rows(operands)
    return operands.out


def linear_invariant(
    x: Tensor,
    packed: PackedLinear,
    bias: Tensor | None = None,
    *,
    activation: MlpActivation | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    """As `linear`, with a row's bits independent of the number of rows.

    Applying the same packed weight from two CUDA streams at once is an error: they would count each other's programs.
    """
    operands = Operands.of(x, _for_type(x.dtype, packed.form), bias, activation, residual)
    if len(x) > 0:
        tiles.multiply_rows(operands)
    return operands.out


def configurations(capability: int) -> Iterator[Configuration]:
    """All that the launchers of this op can choose on a GPU of this compute capability."""
    yield from few_rows.configurations("linear", capability, linear_variants())
    yield from tiles.configurations("linear", capability, linear_variants())


def _for_type(dtype: torch.dtype, weight: Weight) -> Weight:
    """Weights in fewer bits are for models in 16. In float32, which is exact and slow anyhow, they are unpacked."""
    if dtype != torch.float32 or weight.form == "plain":
        return weight
    assert weight.scales is not None, "only plain weights have no scales"
    values = dequantise(QuantisedWeight(weight.form, weight.values, weight.scales, weight.shape), dtype)
    return Weight("plain", values, None, weight.shape, weight.arrivals)


def _by_cublas(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: MlpActivation | None, residual: Tensor | None
) -> Tensor:
    if residual is not None and bias is None and activation is None:
        return residual.addmm_(x, weight.t())  # the sum is part of the product: one pass less over the residual
    y = F.linear(x, weight, bias)
    if activation is not None:
        y = (gated_activate if activation.is_gated else activate)(y, activation.function)
    return y if residual is None else residual.add_(y)
