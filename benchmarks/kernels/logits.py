"""The head: reads the embedding, writes float32 logits."""

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from kernels.contest import Contest, Scale, Step, Tables, sides_of
from kernels.inputs import model_dtype, name_of, normal

from penstock_kernels import Kernels

# (rows, vocabulary, size)
SIZES: Mapping[Scale, tuple[tuple[int, int, int], ...]] = {
    "full": tuple((rows, 128_256, size) for size in (2048, 4096) for rows in (1, 64, 256)),
    "quick": ((1, 128_256, 4096), (256, 128_256, 4096)),
    "tiny": ((3, 130, 48),),
}


def contests(tables: Tables, scale: Scale, device: torch.device) -> Iterator[Contest]:
    for num_rows, vocab_size, size in SIZES[scale]:
        yield _contest(tables, num_rows, vocab_size, size, device)


def _contest(tables: Tables, num_rows: int, vocab_size: int, size: int, device: torch.device) -> Contest:
    dtype = model_dtype(device)
    # Larger than the cache by far, and never written: all sides share it.
    weight = normal(vocab_size, size, dtype=dtype, device=device, seed=1).mul_(size**-0.5)

    def ours(kernels: Kernels) -> Step:
        x = normal(num_rows, size, dtype=dtype, device=device)
        return lambda: kernels.logits(x, weight)

    def theirs() -> Step:
        x = normal(num_rows, size, dtype=dtype, device=device)
        return lambda: F.linear(x, weight).float()

    return Contest(
        op="logits",
        size=f"{num_rows} x {vocab_size} x {size} {name_of(dtype)}",
        num_bytes=(vocab_size + num_rows) * size * dtype.itemsize + 4 * num_rows * vocab_size,
        num_operations=2 * num_rows * vocab_size * size,
        sides=sides_of(tables, ours, "logits") | {"F.linear": theirs},
        dtype=dtype,
    )
