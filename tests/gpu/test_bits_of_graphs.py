"""A decoding step replayed from a CUDA graph has the bits of one that was planned on the host or launched by hand.

On a GPU at real sizes; under the interpreter, where there are no graphs, the same step is called instead of replayed.
"""

from collections.abc import Callable

import pytest
import torch
from bitwise_sizes import SIZES, TABLES
from kernel_tables import DEVICE, IS_INTERPRETED, table
from paged_rows import PagedRows
from torch import Tensor

from penstock_kernels.paged_attention import DecodingRows
from penstock_models.batch import ForwardBatch, attention_shape
from penstock_models.decoder import Decoder
from penstock_models.random_model import random_model

BLOCK_SIZE = 16
ROWS = 3 if IS_INTERPRETED else 33
STEPS = 2
MAX_CONTEXT = 32 if IS_INTERPRETED else 1024
PADDING = 1
"""Rows of the graph that no sequence has: what stands in them must not matter."""


class StaticStep:
    """The tensors of a step, which stay where they are, and the step over them."""

    def __init__(self, decoder: Decoder, rows: PagedRows) -> None:
        count = ROWS + PADDING
        self.rows = rows
        self.token_ids, self.positions, self.slots = (
            torch.zeros(count, dtype=torch.int64, device=DEVICE) for _ in range(3)
        )
        self.context_lens, table_rows = (torch.zeros(count, dtype=torch.int32, device=DEVICE) for _ in range(2))
        table_rows.copy_(torch.arange(count))
        self.tables = torch.zeros(count, MAX_CONTEXT // BLOCK_SIZE, dtype=torch.int32, device=DEVICE)
        plan = decoder.kernels.plan_decoding(
            DecodingRows(self.context_lens, table_rows, self.tables, BLOCK_SIZE),
            attention_shape(decoder.spec),
            MAX_CONTEXT,
        )
        batch = ForwardBatch(self.token_ids, self.positions, self.slots, None, plan)

        def step() -> Tensor:
            plan.refresh()
            return decoder.forward(batch, rows.cache)

        self.step = step

    def fill(self, tokens: list[int], padding_block: int) -> None:
        """For the tokens that the rows were fed last."""
        lengths = [self.rows.lengths[row] for row in range(ROWS)]
        for row, (token, length) in enumerate(zip(tokens, lengths, strict=True)):
            blocks = self.rows.tables[row]
            self.token_ids[row] = token
            self.positions[row] = length - 1
            self.slots[row] = blocks[(length - 1) // BLOCK_SIZE] * BLOCK_SIZE + (length - 1) % BLOCK_SIZE
            self.context_lens[row] = length
            self.tables[row, : len(blocks)] = torch.tensor(blocks)
        self.tables[ROWS:] = padding_block
        self.slots[ROWS:] = padding_block * BLOCK_SIZE


def captured(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The step as a graph, after a run that compiles what it launches."""
    if IS_INTERPRETED:
        return step
    stream: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = step()

    def replay() -> Tensor:
        graph.replay()
        return out.clone()

    return replay


@pytest.mark.parametrize("name", TABLES)
def test_a_replayed_step_is_the_eager_one(name: str) -> None:
    decoder = random_model(SIZES.model, SIZES.dtype, 0, DEVICE, table(name))
    rows = PagedRows(decoder, num_blocks=(ROWS + 1) * MAX_CONTEXT // BLOCK_SIZE + 1, block_size=BLOCK_SIZE)
    longest = MAX_CONTEXT - STEPS - 1
    vocab = SIZES.model.vocab_size
    for row in range(ROWS):
        length = 1 + row * 37 % longest
        rows.feed({row: torch.randint(0, vocab, (length,), generator=torch.Generator().manual_seed(row)).tolist()})
    rows.feed({ROWS: [0]})  # whose block the padding rows may write to
    static = StaticStep(decoder, rows)
    run: Callable[[], Tensor] | None = None
    for step in range(STEPS):
        tokens = [(7 * row + step) % vocab for row in range(ROWS)]
        expected = rows.feed({row: [token] for row, token in enumerate(tokens)})
        static.fill(tokens, rows.tables[ROWS][0])
        if run is None:
            run = captured(static.step)
        logits = run()[:ROWS]
        assert torch.equal(run()[:ROWS], logits)
        if not IS_INTERPRETED:
            assert torch.equal(static.step()[:ROWS], logits)
        if name == "fused_invariant":  # in the other table the padding row may change the routine
            assert torch.equal(torch.cat([expected[row] for row in range(ROWS)]), logits)
