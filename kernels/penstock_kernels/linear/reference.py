"""Linear layers in torch: oneDNN's prepacked bf16 product where the CPU has bf16 instructions, else `F.linear`."""

from collections.abc import Callable
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor

from penstock_kernels.activation.reference import activate, gated_activate
from penstock_kernels.linear import MlpActivation, NotInvariant, PackedLinear
from penstock_kernels.linear.quantised import QuantisedType, QuantisedWeight, dequantise, quantise

# oneDNN splits the sum over inputs by the number of rows. Up to 32 it does so in one way for common shapes (256 to 8192
# inputs and outputs were tried); at 33 rows a 576 x 3072 weight already gives other bits.
PIECE = 32

Apply = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def pack_linear(weight: Tensor) -> PackedLinear:
    """See `PackLinear`."""
    shape = (weight.shape[0], weight.shape[1])
    if _prepacking_pays(weight):
        packed = torch.ops.mkldnn._reorder_linear_weight(weight)
        return PackedLinear(packed, _apply_prepacked, shape)
    return PackedLinear(weight, F.linear, shape)


def pack_linear_invariant(weight: Tensor) -> PackedLinear:
    """As `pack_linear`, but a row's product has the same bits whatever the number of rows.

    Raises:
        NotInvariant: no routine of this machine does so for this type, or shape; says which.
    """
    if not _prepacking_pays(weight):
        raise NotInvariant(f"products of {str(weight.dtype).removeprefix('torch.')} weights on {weight.device.type}")
    shape = (weight.shape[0], weight.shape[1])
    routine = _invariant_routine(shape, weight.dtype)
    if routine is None:
        raise NotInvariant(f"products with weights of shape {shape[0]} x {shape[1]} on this CPU")
    return PackedLinear(torch.ops.mkldnn._reorder_linear_weight(weight), routine, shape)


def pack_quantised(type: QuantisedType, weight: Tensor) -> PackedLinear:
    """See `PackQuantised`."""
    quantised = quantise(weight, type)
    if type == "int8" and _int8_is_right(weight):
        scales = quantised.scales.to(weight.dtype)
        return PackedLinear(quantised.values, partial(_apply_int8, scales), quantised.shape)
    return PackedLinear(quantised.values, partial(_apply_dequantised, quantised), quantised.shape)


def pack_quantised_invariant(type: QuantisedType, weight: Tensor) -> PackedLinear:
    """None is known: unpacked, the products are those of plain weights, which here are not invariant in every type."""
    raise NotInvariant(f"{type} weights on {weight.device.type}")


def linear(
    x: Tensor,
    packed: PackedLinear,
    bias: Tensor | None = None,
    *,
    activation: MlpActivation | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    """See `Linear`."""
    apply: Apply = packed.form
    y = apply(x, packed.weight, bias)
    if activation is not None:
        y = (gated_activate if activation.is_gated else activate)(y, activation.function)
    return y if residual is None else residual.add_(y)


def _prepacking_pays(weight: Tensor) -> bool:
    """Prepacked is 1.3 to 2.3 times as fast as `F.linear` in bf16; in float32 and float16 it is slower for one token.

    Measured on AMX with two threads, weights from 576 x 576 to 3072 x 576, 1 and 16 tokens.
    """
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.bfloat16
        and torch._C._has_mkldnn
        and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def _int8_is_right(weight: Tensor) -> bool:
    """Whether torch's own product with int8 weights may be used.

    It reads in runs of 16 or 32 inputs and past the end of a row that is no multiple: wrong results or a crash
    (torch 2.13, 33 x 40, bf16). In float32 it has no fast path.
    """
    return weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and weight.shape[1] % 32 == 0


def _apply_int8(scales: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """8192 x 2048, one thread with AMX, 1, 16 and 64 rows: 0.8, 4.2, 23 ms; unpacked 20, 29, 34; bf16 2.0, 2.8, 6.9."""
    if x.shape[0] <= 64:
        y: Tensor = torch._weight_int8pack_mm(x, weight, scales)
    else:
        y = F.linear(x, weight.to(x.dtype)).mul_(scales)  # int8 is exact in every float type
    return y if bias is None else y.add_(bias)


def _apply_dequantised(quantised: QuantisedWeight, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.linear(x, dequantise(quantised, x.dtype), bias)


@cache  # which routine oneDNN takes depends on the shape and not on the weights, and layers repeat few shapes
def _invariant_routine(shape: tuple[int, int], dtype: torch.dtype) -> Apply | None:
    """The first routine in which every row of a trial has the same bits with any number of others and alone."""
    generator = torch.Generator().manual_seed(0)
    # Every product has its negative elsewhere in the sum. What is left is nothing but rounding, so that another order
    # of summation shows in every result; with plain noise, rounding to bf16 hides it from all but one in ten thousand.
    half = shape[1] // 2
    order = torch.randperm(half, generator=generator)
    values = torch.randn(shape[0], half, generator=generator)
    weight = torch.ops.mkldnn._reorder_linear_weight(
        F.pad(torch.cat([values, -values[:, order]], 1), (0, shape[1] % 2)).to(dtype)
    )
    values = torch.randn(PIECE, half, generator=generator)
    trial = F.pad(torch.cat([values, values[:, order]], 1), (0, shape[1] % 2)).to(dtype)
    for routine in (_apply_in_pieces, _apply_in_full_pieces):
        alone = torch.cat([routine(row[None], weight, None) for row in trial])
        if all(torch.equal(routine(trial[:rows], weight, None), alone[:rows]) for rows in range(2, PIECE + 1)):
            return routine
    return None


def _apply_in_pieces(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """At most PIECE rows a call."""
    if x.shape[0] <= PIECE:
        return _apply_prepacked(x, weight, bias)
    return torch.cat([_apply_prepacked(piece, weight, bias) for piece in torch.split(x, PIECE)])


def _apply_in_full_pieces(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Exactly PIECE rows a call, the missing ones zeros: for shapes like 272 x 120, whose bits differ even below."""
    padded = torch.nn.functional.pad(x, (0, 0, 0, -x.shape[0] % PIECE))
    return _apply_in_pieces(padded, weight, bias)[: x.shape[0]]


def _apply_prepacked(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y
