"""The gathering of rows in Triton: a program copies a piece of a row."""

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from penstock_kernels.configuration import Configuration
from penstock_kernels.triton_types import FLOATS

_BLOCK = 1024
_NUM_WARPS = 4


def gather_last(x: Tensor, rows: Tensor) -> Tensor:
    """See `GatherLast`."""
    size = x.shape[1]
    y = torch.empty(len(rows), size, dtype=x.dtype, device=x.device)
    if y.numel() > 0:
        _gather_last[(len(rows), triton.cdiv(size, _BLOCK))](
            x, rows.contiguous(), y, size, BLOCK=_BLOCK, num_warps=_NUM_WARPS
        )
    return y


@triton.jit
def _gather_last(x, rows, y, size, BLOCK: tl.constexpr):
    # 64 bits: 131072 tokens of 16384 elements are 2^31.
    row = tl.program_id(0).to(tl.int64)
    source = tl.load(rows + row)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < size
    tl.store(y + row * size + column, tl.load(x + source * size + column, mask=inside), mask=inside)


def configurations(capability: int) -> Iterator[Configuration]:
    """All of `gather_last`. Sizes that are no multiple of 16 compile to the same code with narrower accesses."""
    for dtype in FLOATS:
        yield Configuration(
            op="gather_last",
            name=dtype,
            kernel=_gather_last,
            types={"x": f"*{dtype}", "rows": "*i64", "y": f"*{dtype}", "size": "i32"},
            constants={"BLOCK": _BLOCK},
            num_warps=_NUM_WARPS,
            num_stages=3,
            aligned=frozenset({"x", "rows", "y", "size"}),
        )
