"""RMS norm: reads x, writes y. Rows of a decoding step and of a prompt, hidden sizes of the three models."""

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from kernels.contest import Contest, Goal, Scale, Step, Tables, sides_of
from kernels.inputs import compiled, model_dtype, name_of, normal

from penstock_kernels import Kernels
from penstock_kernels.rms_norm.cases import EPS

# The last ones are larger than any cache: there the share of the floor means something.
SIZES: Mapping[Scale, tuple[tuple[int, int], ...]] = {
    "full": ((1, 4096), (256, 2048), (256, 4096), (16_384, 1024), (16_384, 2048), (16_384, 4096)),
    "quick": ((256, 4096), (16_384, 4096)),
    "tiny": ((5, 77),),
}

LARGE = 16_384


def contests(tables: Tables, scale: Scale, device: torch.device) -> Iterator[Contest]:
    dtype = model_dtype(device)
    for num_rows, size in SIZES[scale]:
        yield _contest(tables, num_rows, size, dtype, device)


def _contest(tables: Tables, num_rows: int, size: int, dtype: torch.dtype, device: torch.device) -> Contest:
    # Small ones are in a cache anyway, and are not worth the seconds that a peer compiles for.
    is_large = num_rows >= LARGE
    weight = normal(size, dtype=dtype, device=device, seed=1)
    torch_norm = compiled(F.rms_norm, device)

    def ours(kernels: Kernels) -> Step:
        x = normal(num_rows, size, dtype=dtype, device=device)
        return lambda: kernels.rms_norm(x, weight, EPS)

    def theirs() -> Step:
        x = normal(num_rows, size, dtype=dtype, device=device)
        return lambda: torch_norm(x, (size,), weight, EPS)

    return Contest(
        op="rms_norm",
        size=f"{num_rows} x {size} {name_of(dtype)}",
        num_bytes=2 * num_rows * size * dtype.itemsize,
        sides=sides_of(tables, ours, "rms_norm") | ({"torch.compile": theirs} if is_large else {}),
        dtype=dtype,
        goal=Goal("share", 0.85) if is_large else None,
    )
