"""Gathering the rows whose logits are wanted, out of a step's hidden states."""

from collections.abc import Iterator, Mapping

import torch
from kernels.contest import Contest, Scale, Step, Tables, sides_of
from kernels.inputs import model_dtype, name_of, normal

from penstock_kernels import Kernels

# (tokens, size, rows)
SIZES: Mapping[Scale, tuple[tuple[int, int, int], ...]] = {
    "full": ((8192, 4096, 256), (8192, 4096, 4)),
    "quick": ((8192, 4096, 256),),
    "tiny": ((40, 77, 3),),
}


def contests(tables: Tables, scale: Scale, device: torch.device) -> Iterator[Contest]:
    for num_tokens, size, num_rows in SIZES[scale]:
        yield _contest(tables, num_tokens, size, num_rows, device)


def _contest(tables: Tables, num_tokens: int, size: int, num_rows: int, device: torch.device) -> Contest:
    dtype = model_dtype(device)
    rows = torch.linspace(0, num_tokens - 1, num_rows, device=device).long()

    def ours(kernels: Kernels) -> Step:
        x = normal(num_tokens, size, dtype=dtype, device=device)
        return lambda: kernels.gather_last(x, rows)

    def theirs() -> Step:
        x = normal(num_tokens, size, dtype=dtype, device=device)
        return lambda: torch.index_select(x, 0, rows)

    return Contest(
        op="gather_last",
        size=f"{num_rows} of {num_tokens} x {size} {name_of(dtype)}",
        num_bytes=2 * num_rows * size * dtype.itemsize,
        sides=sides_of(tables, ours, "gather_last") | {"index_select": theirs},
        dtype=dtype,
    )
