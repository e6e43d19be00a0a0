"""The gated activation of an MLP: reads gate and up, writes half as much."""

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from kernels.contest import Contest, Goal, Scale, Step, Tables, sides_of
from kernels.inputs import compiled, model_dtype, name_of, normal
from torch import Tensor

from penstock_kernels import Kernels

SIZES: Mapping[Scale, tuple[tuple[int, int], ...]] = {
    "full": ((256, 8192), (256, 14_336), (8192, 3072), (8192, 8192), (8192, 14_336)),
    "quick": ((256, 14_336), (8192, 14_336)),
    "tiny": ((5, 77),),
}

LARGE = 8192


def contests(tables: Tables, scale: Scale, device: torch.device) -> Iterator[Contest]:
    dtype = model_dtype(device)
    for num_rows, size in SIZES[scale]:
        yield _contest(tables, num_rows, size, dtype, device)


def _silu_gated(x: Tensor) -> Tensor:
    gate, up = x.chunk(2, dim=-1)
    return F.silu(gate) * up


def _contest(tables: Tables, num_rows: int, size: int, dtype: torch.dtype, device: torch.device) -> Contest:
    # Small ones are in a cache anyway, and are not worth the seconds that a peer compiles for.
    is_large = num_rows >= LARGE
    torch_activation = compiled(_silu_gated, device)

    def ours(kernels: Kernels) -> Step:
        x = normal(num_rows, 2 * size, dtype=dtype, device=device)
        return lambda: kernels.gated_activate(x, "silu")

    def theirs() -> Step:
        x = normal(num_rows, 2 * size, dtype=dtype, device=device)
        return lambda: torch_activation(x)

    return Contest(
        op="activation",
        size=f"silu gated {num_rows} x {size} {name_of(dtype)}",
        num_bytes=3 * num_rows * size * dtype.itemsize,
        sides=sides_of(tables, ours, "gated_activate") | ({"torch.compile": theirs} if is_large else {}),
        dtype=dtype,
        goal=Goal("share", 0.85) if is_large else None,
    )
