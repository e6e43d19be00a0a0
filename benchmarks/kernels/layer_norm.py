"""Layer norm: reads x, writes y."""

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from kernels.contest import Contest, Goal, Scale, Step, Tables, sides_of
from kernels.inputs import compiled, model_dtype, name_of, normal

from penstock_kernels import Kernels
from penstock_kernels.layer_norm.cases import EPS

SIZES: Mapping[Scale, tuple[tuple[int, int], ...]] = {
    "full": ((256, 2048), (16_384, 4096)),
    "quick": ((16_384, 4096),),
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
    weight, bias = (normal(size, dtype=dtype, device=device, seed=seed) for seed in (1, 2))
    torch_norm = compiled(F.layer_norm, device)

    def ours(kernels: Kernels) -> Step:
        x = normal(num_rows, size, dtype=dtype, device=device)
        return lambda: kernels.layer_norm(x, weight, bias, EPS)

    def theirs() -> Step:
        x = normal(num_rows, size, dtype=dtype, device=device)
        return lambda: torch_norm(x, (size,), weight, bias, EPS)

    return Contest(
        op="layer_norm",
        size=f"{num_rows} x {size} {name_of(dtype)}",
        num_bytes=2 * num_rows * size * dtype.itemsize,
        sides=sides_of(tables, ours, "layer_norm") | ({"torch.compile": theirs} if is_large else {}),
        dtype=dtype,
        goal=Goal("share", 0.85) if is_large else None,
    )
