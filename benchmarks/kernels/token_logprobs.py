"""Log-probabilities of what was chosen and of the likeliest tokens: reads the scores once at the least."""

from collections.abc import Iterator, Mapping

import torch
from kernels.contest import Contest, Scale, Step, Tables, sides_of
from kernels.scores import scores
from torch import Tensor

from penstock_kernels import Kernels

# (rows, vocabulary, how many of the likeliest)
SIZES: Mapping[Scale, tuple[tuple[int, int, int], ...]] = {
    "full": tuple((rows, 131_072, num_top) for rows in (1, 128) for num_top in (0, 5, 20)),
    "quick": ((128, 131_072, 0), (128, 131_072, 20)),
    "tiny": ((3, 200, 5),),
}


def contests(tables: Tables, scale: Scale, device: torch.device) -> Iterator[Contest]:
    for num_rows, vocab_size, num_top in SIZES[scale]:
        yield _contest(tables, num_rows, vocab_size, num_top, device)


def _contest(tables: Tables, num_rows: int, vocab_size: int, num_top: int, device: torch.device) -> Contest:
    tokens = (torch.arange(num_rows, device=device) * 997) % vocab_size

    def ours(kernels: Kernels) -> Step:
        values = scores(num_rows, vocab_size, device)
        return lambda: kernels.token_logprobs(values, tokens, num_top)

    def theirs() -> Step:
        values = scores(num_rows, vocab_size, device)

        def step() -> tuple[Tensor, ...]:
            logprobs = values.log_softmax(dim=-1)
            chosen = logprobs.gather(-1, tokens[:, None]).squeeze(-1)
            likeliest = logprobs.topk(num_top, dim=-1)
            return chosen, likeliest.indices, likeliest.values

        return step

    return Contest(
        op="token_logprobs",
        size=f"top {num_top}, {num_rows} x {vocab_size}",
        num_bytes=4 * num_rows * vocab_size,
        sides=sides_of(tables, ours, "token_logprobs"),
        others={"torch": theirs},  # which may order equal scores in another way
        dtype=torch.float32,
    )
