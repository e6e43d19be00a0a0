"""A query's bits do not depend on how its prompt is cut, what shares its step, or whether its prefix is read for many.

Real sizes in bf16 on a GPU, small ones under the interpreter. Rows that are attended alone share no prefix with anyone:
that they equal the same rows side by side says that reading a common prefix once changes nothing.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from bitwise_sizes import SIZES, TABLES, values
from kernel_tables import DEVICE, table
from torch import Tensor

from penstock_kernels import AttentionBatch
from penstock_kernels.layer_cache import LayerCache
from penstock_kernels.paged_attention import AttentionRule, AttentionShape

BLOCK_SIZE = 16
# Decoding rows pass through other tiles than prompts in the table that is not invariant: there only the batch may vary.
ANY = "fused_invariant"


class Paged:
    """Sequences over one cache of random values. Blocks are scattered; rows of one family share those of a prefix."""

    def __init__(
        self, heads: tuple[int, int, int], lengths: Sequence[int], *, shared: int = 0, window: int | None = None
    ) -> None:
        self.heads = heads
        self.lengths = list(lengths)
        num_columns = -(-max(lengths) // BLOCK_SIZE)
        blocks = np.random.default_rng(0).permutation(len(lengths) * num_columns).reshape(len(lengths), num_columns)
        blocks[:, : shared // BLOCK_SIZE] = blocks[0, : shared // BLOCK_SIZE]
        self.tables: list[list[int]] = blocks.tolist()
        num_heads, key_heads, head_size = heads
        self.cache = LayerCache(values(blocks.size * BLOCK_SIZE, 2, key_heads, head_size, seed=0))
        self.queries = [values(length, num_heads, head_size, seed=row + 1) for row, length in enumerate(lengths)]
        self.rule = AttentionRule(head_size**-0.5, window)

    def attend(self, name: str, spans: Sequence[tuple[int, int, int]]) -> list[Tensor]:
        """One step of (row, first position, position past the last): what comes out for each."""
        batch = AttentionBatch.build(
            [end - start for _, start, end in spans],
            [end for _, _, end in spans],
            [self.tables[row] for row, _, _ in spans],
            block_size=BLOCK_SIZE,
        )
        kernels = table(name)
        plan = kernels.plan_attention(batch, AttentionShape(*self.heads, (self.rule.window,)), DEVICE)
        q = torch.cat([self.queries[row][start:end] for row, start, end in spans])
        out = kernels.paged_attention(q, self.cache, plan, self.rule)
        assert torch.isfinite(out).all()
        return list(torch.split(out, [end - start for _, start, end in spans]))


def lengths_of(count: int) -> list[int]:
    least, most = SIZES.contexts
    lengths: list[int] = np.random.default_rng(1).integers(least, most + 1, count).tolist()
    return lengths


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("heads", SIZES.heads, ids=str)
@pytest.mark.parametrize("shared", [0, SIZES.contexts[0] // BLOCK_SIZE * BLOCK_SIZE])
def test_decoding_rows(heads: tuple[int, int, int], shared: int, name: str) -> None:
    count = max(SIZES.batches)
    paged = Paged(heads, lengths_of(count), shared=shared)
    steps = [(row, length - 1, length) for row, length in enumerate(paged.lengths)]
    whole = paged.attend(name, steps)
    assert all(map(torch.equal, paged.attend(name, steps), whole))
    for size in SIZES.batches:
        assert all(map(torch.equal, paged.attend(name, steps[:size]), whole)), f"{size} rows"
    for row in {0, count // 2, count - 1, int(np.argmax(paged.lengths)), int(np.argmin(paged.lengths))}:
        assert torch.equal(paged.attend(name, [steps[row]])[0], whole[row]), f"row {row} alone"


@pytest.mark.parametrize("window", [None, SIZES.prompt // 3])
@pytest.mark.parametrize("heads", SIZES.heads, ids=str)
def test_chunks_of_a_prompt(heads: tuple[int, int, int], window: int | None) -> None:
    """Whole, in chunks, its last tokens one by one, and in chunks beside others that decode."""
    paged = Paged(heads, [SIZES.prompt, *lengths_of(2)], window=window)
    whole = paged.attend(ANY, [(0, 0, SIZES.prompt)])[0]
    places = [0, *SIZES.cuts, SIZES.prompt]
    chunks = list(pairwise(places))
    alone = [paged.attend(ANY, [(0, start, end)])[0] for start, end in chunks]
    assert torch.equal(torch.cat(alone), whole)
    others = [(row, paged.lengths[row] - 1, paged.lengths[row]) for row in (1, 2)]
    beside = [paged.attend(ANY, [others[0], (0, start, end), others[1]])[1] for start, end in chunks]
    assert torch.equal(torch.cat(beside), whole)
    for position in range(SIZES.prompt - 3, SIZES.prompt):
        assert torch.equal(paged.attend(ANY, [(0, position, position + 1)])[0][0], whole[position])
