"""Linear layers in torch: oneDNN's prepacked bf16 product where the CPU has bf16 instructions, else `F.linear`."""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from penstock_kernels.activation.reference import activate, gated_activate
from penstock_kernels.linear import MlpActivation, NotInvariant, PackedLinear

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
