"""Drawing tokens: reads the scores once at the least. Each cut by itself, all of them, and a batch that mixes them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from kernels.contest import Contest, Goal, Scale, Step, Tables, sides_of
from kernels.scores import scores
from torch import Tensor

from penstock_kernels import Kernels
from penstock_kernels.sample import SampleInputs


class Cuts(NamedTuple):
    """What a row asks for."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0


KINDS: Mapping[str, Cuts] = {
    "greedy": Cuts(temperature=0.0),
    "temperature": Cuts(0.8),
    "top-k": Cuts(top_k=50),
    "top-p": Cuts(top_p=0.95),
    "min-p": Cuts(min_p=0.02),
    "all cuts": Cuts(0.8, 50, 0.95, 0.02),
}
MIXED = "mixed"
# (rows, vocabulary)
SIZES: Mapping[Scale, tuple[tuple[int, int], ...]] = {
    "full": ((128, 131_072), (1, 131_072), (16, 131_072), (256, 131_072)),
    "quick": ((128, 131_072),),
    "tiny": ((6, 200),),
}
# The goal is set for one size: FlashInfer draws with top-k in 0.20 ms there and with top-p in 0.14 ms.
GOAL = ((128, 131_072), Goal("seconds", 0.2e-3))


def contests(tables: Tables, scale: Scale, device: torch.device) -> Iterator[Contest]:
    for num_rows, vocab_size in SIZES[scale]:
        for kind in (*KINDS, MIXED) if scale != "tiny" else ("all cuts", MIXED):
            yield _contest(tables, kind, num_rows, vocab_size, device)


def sample_inputs(kinds: Sequence[Cuts], num_rows: int, device: torch.device) -> SampleInputs:
    """Row i asks for kind i modulo their number."""
    rows = [kinds[i % len(kinds)] for i in range(num_rows)]

    def column(values: Sequence[float], dtype: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=device)

    return SampleInputs(
        temperature=column([row.temperature for row in rows], torch.float32),
        top_k=column([row.top_k for row in rows], torch.int32),
        top_p=column([row.top_p for row in rows], torch.float32),
        min_p=column([row.min_p for row in rows], torch.float32),
        seed=torch.arange(num_rows, device=device),
        sample=torch.zeros(num_rows, dtype=torch.int32, device=device),
        position=torch.arange(num_rows, dtype=torch.int32, device=device) + 100,
        with_cuts=any(row.top_k > 0 or row.top_p < 1 for row in rows),
    )


def _contest(tables: Tables, kind: str, num_rows: int, vocab_size: int, device: torch.device) -> Contest:
    cuts = list(KINDS.values()) if kind == MIXED else [KINDS[kind]]
    inputs = sample_inputs(cuts, num_rows, device)

    def ours(kernels: Kernels) -> Step:
        values = scores(num_rows, vocab_size, device)
        return lambda: kernels.sample(values, inputs)

    def theirs() -> Step:
        values = scores(num_rows, vocab_size, device)
        return lambda: _by_sorting(values, cuts[0])

    return Contest(
        op="sample",
        size=f"{kind}, {num_rows} x {vocab_size}",
        num_bytes=4 * num_rows * vocab_size,
        sides=sides_of(tables, ours, "sample"),
        others={} if kind == MIXED else {"torch": theirs},
        dtype=torch.float32,
        goal=GOAL[1] if (num_rows, vocab_size) == GOAL[0] else None,
    )


def _by_sorting(values: Tensor, cuts: Cuts) -> Tensor:
    """The same cuts in torch, by sorting where one is needed; without a wait for the host."""
    if cuts.temperature == 0:
        return values.argmax(dim=-1)
    probabilities = torch.softmax(values / cuts.temperature, dim=-1)
    ids = None
    if cuts.top_k:
        probabilities, ids = probabilities.topk(min(cuts.top_k, values.shape[-1]), dim=-1)
        probabilities = probabilities / probabilities.sum(dim=-1, keepdim=True)
    if cuts.top_p < 1:
        if ids is None:
            probabilities, ids = probabilities.sort(dim=-1, descending=True)
        before = probabilities.cumsum(dim=-1) - probabilities
        probabilities = probabilities.masked_fill(before >= cuts.top_p, 0.0)
    if cuts.min_p:
        largest = probabilities.amax(dim=-1, keepdim=True)
        probabilities = probabilities.masked_fill(probabilities < cuts.min_p * largest, 0.0)
    # multinomial waits for the host; the race of exponential numbers is what it does without replacement
    drawn = (probabilities / torch.empty_like(probabilities).exponential_()).argmax(dim=-1, keepdim=True)
    return (drawn if ids is None else ids.gather(-1, drawn)).squeeze(-1)
