"""Penalties: where a row asks for them, reads and writes its scores and reads its counts; elsewhere nothing."""

from collections.abc import Iterator, Mapping

import torch
from kernels.contest import Contest, Scale, Step, Tables, sides_of
from kernels.scores import scores
from torch import Tensor

from penstock_kernels import Kernels
from penstock_kernels.penalties import PenaltyInputs, UsedTokens

# (rows, vocabulary, whether they ask)
SIZES: Mapping[Scale, tuple[tuple[int, int, bool], ...]] = {
    "full": ((1, 131_072, True), (128, 131_072, True), (128, 131_072, False)),
    "quick": ((128, 131_072, True),),
    "tiny": ((3, 200, True),),
}


def contests(tables: Tables, scale: Scale, device: torch.device) -> Iterator[Contest]:
    for num_rows, vocab_size, asks in SIZES[scale]:
        yield _contest(tables, num_rows, vocab_size, asks, device)


def _contest(tables: Tables, num_rows: int, vocab_size: int, asks: bool, device: torch.device) -> Contest:
    slots = torch.arange(1, num_rows + 1, dtype=torch.int32, device=device)
    num_words = -(-vocab_size // 32)
    in_prompt = torch.zeros(num_rows + 1, num_words, dtype=torch.int32, device=device)
    in_prompt[:, ::7] = 0x0101_0101
    counts = torch.zeros(num_rows + 1, vocab_size, dtype=torch.int16, device=device)
    counts[:, ::97] = 2
    used = UsedTokens(in_prompt, counts)
    repetition, presence, frequency = (
        torch.full((num_rows,), value, device=device) for value in ((1.1, 0.5, 0.25) if asks else (1.0, 0.0, 0.0))
    )
    inputs = PenaltyInputs(repetition, presence, frequency)

    def ours(kernels: Kernels) -> Step:
        values = scores(num_rows, vocab_size, device)

        def step() -> Tensor:
            kernels.penalties(values, slots, used, inputs)
            return values

        return step

    per_token = 4 + 4 + 2 + 1 / 8 if asks else 0
    return Contest(
        op="penalties",
        size=f"{num_rows} x {vocab_size}, {'all rows ask' if asks else 'none asks'}",
        num_bytes=num_rows * (12 + round(per_token * vocab_size)),
        sides=sides_of(tables, ours, "penalties"),
        dtype=torch.float32,
    )
