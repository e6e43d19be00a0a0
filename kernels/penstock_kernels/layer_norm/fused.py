"""Layer norm in Triton: one program a row, which reads the row once and writes it once.

The variance is the mean of the squared distances from the mean, taken over the row in registers: a second pass that
costs no memory, where E[x^2] - E[x]^2 would lose all digits of a row far from zero.
"""

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from penstock_kernels.configuration import Configuration
from penstock_kernels.one_program_a_row import BLOCKS, NUM_WARPS, block_of
from penstock_kernels.triton_types import FLOATS


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float, residual: Tensor | None = None) -> Tensor:
    """See `LayerNorm`."""
    size = x.shape[-1]
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    # A view, but for strides that no step between rows describes: then a copy.
    rows = x.reshape(-1, size) if x.stride(-1) == 1 else x.contiguous().view(-1, size)
    block = block_of(size)
    if len(rows) > 0:
        _layer_norm[(len(rows),)](
            rows,
            residual,
            weight,
            bias,
            y,
            rows.stride(0),
            size,
            eps,
            BLOCK=block,
            HAS_RESIDUAL=residual is not None,
            num_warps=NUM_WARPS[block],
        )
    return y


@triton.jit
def _layer_norm(
    x,
    residual,
    weight,
    bias,
    y,
    x_stride,
    size,
    eps,
    BLOCK: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
):
    # 64 bits: 131072 tokens of 16384 elements are 2^31.
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < size

    # Asked for before anything is waited for: with a few rows the time is that of one access to memory after another.
    w = tl.load(weight + column, mask=inside, other=0.0)
    r = tl.load(x + row * x_stride + column, mask=inside, other=0.0).to(tl.float32)
    if HAS_RESIDUAL:
        r += tl.load(residual + row * size + column, mask=inside, other=0.0).to(tl.float32)
        # What is normalised is what later layers will read: the rounded sum.
        rounded = r.to(residual.dtype.element_ty)
        tl.store(residual + row * size + column, rounded, mask=inside)
        r = rounded.to(tl.float32)

    # Under way during both sums. Not sooner: with x and residual it would be more than the registers hold.
    b = tl.load(bias + column, mask=inside, other=0.0)

    # Once a row, so exact division and root cost nothing.
    count = size * 1.0
    mean = tl.div_rn(tl.sum(r), count)
    # Elements outside are 0, which is not the mean.
    centred = tl.where(inside, r - mean, 0.0)
    variance = tl.div_rn(tl.sum(centred * centred), count)
    scale = tl.div_rn(1.0, tl.sqrt_rn(variance + eps))
    normed = centred * scale * w.to(tl.float32) + b.to(tl.float32)
    tl.store(y + row * size + column, normed.to(y.dtype.element_ty), mask=inside)


def configurations(capability: int) -> Iterator[Configuration]:
    """All of `layer_norm`. Sizes that are no multiple of 16 compile to the same code with narrower accesses."""
    for dtype in FLOATS:
        for block in BLOCKS:
            for has_residual in (False, True):
                tensors = ("x", *(("residual",) if has_residual else ()), "weight", "bias", "y")
                yield Configuration(
                    op="layer_norm",
                    name=f"{dtype} size {block}{' residual' if has_residual else ''}",
                    kernel=_layer_norm,
                    types={
                        **dict.fromkeys(tensors, f"*{dtype}"),
                        "x_stride": "i32",
                        "size": "i32",
                        "eps": "fp32",
                    },
                    constants={
                        **({} if has_residual else {"residual": None}),
                        "BLOCK": block,
                        "HAS_RESIDUAL": has_residual,
                    },
                    num_warps=NUM_WARPS[block],
                    num_stages=3,
                    aligned=frozenset({*tensors, "x_stride", "size"}),
                )
