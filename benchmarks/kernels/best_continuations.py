"""The best continuations of beam searches: reads the scores once at the least."""

from collections.abc import Iterator, Mapping

import torch
from kernels.contest import Contest, Scale, Step, Tables, sides_of
from kernels.scores import scores
from torch import Tensor

from penstock_kernels import Kernels

# (searches, width, vocabulary): each asks for the best 2 * width.
SIZES: Mapping[Scale, tuple[tuple[int, int, int], ...]] = {
    "full": ((1, 4, 128_256), (32, 4, 128_256), (32, 8, 128_256), (1, 256, 128_256)),
    "quick": ((32, 8, 128_256),),
    "tiny": ((2, 3, 150),),
}


def contests(tables: Tables, scale: Scale, device: torch.device) -> Iterator[Contest]:
    for num_searches, width, vocab_size in SIZES[scale]:
        yield _contest(tables, num_searches, width, vocab_size, device)


def _contest(tables: Tables, num_searches: int, width: int, vocab_size: int, device: torch.device) -> Contest:
    num_rows = num_searches * width
    starts = torch.arange(num_searches + 1, device=device) * width
    logprobs = -torch.arange(num_rows, dtype=torch.float64, device=device) / 7
    count = 2 * width

    def ours(kernels: Kernels) -> Step:
        values = scores(num_rows, vocab_size, device)
        return lambda: kernels.best_continuations(values, logprobs, starts, count)

    def theirs() -> Step:
        values = scores(num_rows, vocab_size, device)

        def step() -> tuple[Tensor, ...]:
            """As transformers' beam search: the top of the sums over all rows of a search."""
            sums = values.log_softmax(dim=-1).double().add_(logprobs[:, None])
            best = sums.view(num_searches, -1).topk(count, dim=-1)
            return best.indices // vocab_size, best.indices % vocab_size, best.values

        return step

    return Contest(
        op="best_continuations",
        size=f"{num_searches} searches x width {width} x {vocab_size}",
        num_bytes=4 * num_rows * vocab_size,
        sides=sides_of(tables, ours, "best_continuations"),
        others={"torch": theirs},
        dtype=torch.float32,
    )
