"""RMS norm in Triton: one program a row, which reads the row once and writes it once.

An element of 16 bits costs 4 bytes of traffic, 8 with a residual, and a dozen operations: memory is all that counts.
The sum of squares is taken over the row in registers, in an order that the size of the row fixes.
"""

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from penstock_kernels.configuration import Configuration
from penstock_kernels.one_program_a_row import BLOCKS, NUM_WARPS, block_of
from penstock_kernels.triton_types import FLOATS


def rms_norm(x: Tensor, weight: Tensor, eps: float, residual: Tensor | None = None) -> Tensor:
    """See `RmsNorm`."""
    size = x.shape[-1]
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    # A view, but for strides that no step between rows describes: then a copy.
    rows = x.reshape(-1, size) if x.stride(-1) == 1 else x.contiguous().view(-1, size)
    block = block_of(size)
    if len(rows) > 0:
        _rms_norm[(len(rows),)](
            rows,
            residual,
            weight,
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
def _rms_norm(
    x,
    residual,
    weight,
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

    # Elements outside are 0 and add nothing. Once a row, so exact division and root cost nothing.
    mean_square = tl.div_rn(tl.sum(r * r), size * 1.0)
    scale = tl.div_rn(1.0, tl.sqrt_rn(mean_square + eps))
    tl.store(y + row * size + column, (r * scale * w.to(tl.float32)).to(y.dtype.element_ty), mask=inside)


def configurations(capability: int) -> Iterator[Configuration]:
    """All of `rms_norm`. Sizes that are no multiple of 16 compile to the same code with narrower accesses."""
    for dtype in FLOATS:
        for block in BLOCKS:
            for has_residual in (False, True):
                tensors = ("x", *(("residual",) if has_residual else ()), "weight", "y")
                yield Configuration(
                    op="rms_norm",
                    name=f"{dtype} size {block}{' residual' if has_residual else ''}",
                    kernel=_rms_norm,
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
