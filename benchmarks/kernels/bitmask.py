"""A grammar's mask: few tokens are allowed, so that it reads a bit and writes a score for almost every token."""

from collections.abc import Iterator, Mapping

import torch
from kernels.contest import Contest, Scale, Step, Tables, sides_of
from kernels.scores import scores
from torch import Tensor

from penstock_kernels import Kernels

# (rows, vocabulary)
SIZES: Mapping[Scale, tuple[tuple[int, int], ...]] = {
    "full": ((1, 131_072), (128, 131_072)),
    "quick": ((128, 131_072),),
    "tiny": ((3, 200),),
}


def contests(tables: Tables, scale: Scale, device: torch.device) -> Iterator[Contest]:
    for num_rows, vocab_size in SIZES[scale]:
        yield _contest(tables, num_rows, vocab_size, device)


def _contest(tables: Tables, num_rows: int, vocab_size: int, device: torch.device) -> Contest:
    num_words = -(-vocab_size // 32)
    mask = torch.zeros(num_rows, num_words, dtype=torch.int32, device=device)
    mask[:, ::50] = 0x0000_1010
    rows = torch.arange(num_rows, device=device)
    bits = torch.arange(32, dtype=torch.int32, device=device)

    def ours(kernels: Kernels) -> Step:
        values = scores(num_rows, vocab_size, device)

        def step() -> Tensor:
            kernels.apply_bitmask(values, mask, rows)
            return values

        return step

    def theirs() -> Step:
        values = scores(num_rows, vocab_size, device)

        def step() -> Tensor:
            allowed = (mask[:, :, None] >> bits & 1).view(num_rows, -1)[:, :vocab_size].bool()
            return values.masked_fill_(~allowed, -torch.inf)

        return step

    return Contest(
        op="bitmask",
        size=f"{num_rows} x {vocab_size}",
        num_bytes=num_rows * (4 * num_words + 4 * vocab_size),
        sides=sides_of(tables, ours, "apply_bitmask") | {"torch": theirs},
        dtype=torch.float32,
    )
