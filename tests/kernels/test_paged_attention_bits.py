"""A query's result has the same bits whatever shares its batch, and however its keys are read."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from kernel_tables import DEVICE, IS_INTERPRETED
from paged_sequences import PagedSequences
from torch import Tensor
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

from penstock_kernels import AttentionBatch, Kernels
from penstock_kernels.paged_attention import DecodingRows
from penstock_kernels.paged_attention.cases import Case
from penstock_kernels.paged_attention.fused import launch, paged_attention, plan_attention, plan_decoding, tiles
from penstock_kernels.paged_attention.work import SPLIT, WorkPlan

DTYPE = torch.float32 if IS_INTERPRETED else torch.bfloat16
HEADS = (2, 1, 16) if IS_INTERPRETED else (8, 2, 128)


@pytest.fixture(autouse=True)
def rows_are_multiplied_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a matrix unit. The interpreter asks a BLAS, for which the last row of 64 is not like the others."""

    def create_dot(self: Any, a: Any, b: Any, d: Any, input_precision: Any, max_num_imprecise_acc: Any) -> Any:
        total = d.data
        for column, row in zip(a.data.T, b.data, strict=True):
            total = total + column[:, None] * row
        return TensorHandle(total, d.dtype.scalar)

    if IS_INTERPRETED:
        monkeypatch.setattr(InterpreterBuilder, "create_dot", create_dot)


def plan(sequences: PagedSequences, share_prefixes: bool = True) -> WorkPlan:
    return plan_attention(sequences.batch, sequences.shape, DEVICE, share_prefixes=share_prefixes)


def attend(sequences: PagedSequences, share_prefixes: bool = True) -> Tensor:
    return paged_attention(sequences.q, sequences.cache, plan(sequences, share_prefixes), sequences.rule)


def num_items(work: WorkPlan, window: int | None = None) -> int:
    return sum(int(walk.lists[window].count[0]) for walk in work.walks)


@pytest.mark.parametrize("window", [None, 600])
def test_alone_as_among_others(window: int | None) -> None:
    case = Case("", (1, 1, 3, 1), (1100, 40, 530, 512), HEADS, block_size=16, window=window)
    together = PagedSequences.make(case, DTYPE, DEVICE)
    out = torch.split(attend(together), list(case.query_lens))
    for row in range(4):
        assert torch.equal(attend(together.rows([row])), out[row])


@pytest.mark.parametrize(
    ("rule", "whole_tiles"), [({}, True), ({"window": 300}, True), ({"soft_cap": 5.0, "alibi": True}, False)]
)
def test_in_chunks_as_in_one(rule: dict[str, float], whole_tiles: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """`whole_tiles`: one program walks all splits of a tile with many queries; those of few share them in any case."""
    monkeypatch.setattr(launch, "ENOUGH_PROGRAMS", 0 if whole_tiles else 1 << 30)
    whole = PagedSequences.make(Case("", (80,), (560,), HEADS, block_size=16, **rule), DTYPE, DEVICE)  # type: ignore[arg-type]
    out = attend(whole)
    batch, first, begin = whole.batch, 480, 0
    for query_len in (5, 74, 1):
        end = begin + query_len
        chunk = PagedSequences(
            AttentionBatch(np.array([query_len]), np.array([first + end]), batch.block_tables, batch.block_size),
            whole.shape,
            whole.rule,
            whole.q[begin:end],
            whole.cache,
            whole.dense,
        )
        assert torch.equal(attend(chunk), out[begin:end])
        begin = end


def test_whole_tiles_are_walked_by_one_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tests above compare really differs."""
    sequences = PagedSequences.make(Case("", (80,), (560,), HEADS, block_size=16), DTYPE, DEVICE)
    assert [walk.whole for walk in plan(sequences).walks] == [False]
    monkeypatch.setattr(launch, "ENOUGH_PROGRAMS", 0)
    assert [walk.whole for walk in plan(sequences).walks] == [True]


@pytest.mark.parametrize(("window", "num_apart", "num_shared"), [(None, 14, 8), (520, 11, 10)])
def test_with_shared_prefixes_as_without(window: int | None, num_apart: int, num_shared: int) -> None:
    """Rows share the splits that both have whole; with a window, if it begins in the same split for both."""
    case = Case("", (1,) * 5, (1030, 1100, 1041, 514, 1100), HEADS, block_size=16, window=window, shared=1024)
    sequences = PagedSequences.make(case, DTYPE, DEVICE)
    assert torch.equal(attend(sequences), attend(sequences, share_prefixes=False))
    assert num_items(plan(sequences, share_prefixes=False), window) == num_apart
    assert num_items(plan(sequences), window) == num_shared


def test_a_tile_of_rows_shares_and_no_more() -> None:
    """More rows than a tile has: each tile reads the prefix once."""
    tile_tokens = tiles.FEW_ROWS // (HEADS[0] // HEADS[1])
    rows = tile_tokens + 3
    case = Case("", (1,) * rows, (SPLIT,) * rows, HEADS, block_size=64, shared=SPLIT)
    sequences = PagedSequences.make(case, DTYPE, DEVICE)
    assert num_items(plan(sequences)) == 2
    alone = attend(sequences.rows([rows - 1]))
    assert torch.equal(attend(sequences)[-1:], alone)


def test_twice() -> None:
    """The counters are back at 0 after a layer."""
    case = Case("", (1, 1), (1100, 600), HEADS, block_size=16)
    sequences = PagedSequences.make(case, DTYPE, DEVICE)
    work = plan(sequences)
    first = paged_attention(sequences.q, sequences.cache, work, sequences.rule)
    assert torch.equal(paged_attention(sequences.q, sequences.cache, work, sequences.rule), first)
    assert not work.workspace.arrivals.any()


def decoding_rows(sequences: PagedSequences, num_rows: int) -> tuple[DecodingRows, Callable[[PagedSequences], None]]:
    """Rows for as many, and what fills them with a step; the rest is padding. Row i has slot 2 * i + 1."""
    columns = sequences.batch.block_tables.shape[1]
    rows = DecodingRows(
        context_lens=torch.zeros(num_rows, dtype=torch.int32, device=DEVICE),
        table_rows=torch.zeros(num_rows, dtype=torch.int32, device=DEVICE),
        block_tables=torch.full((2 * num_rows, columns + 1), -1, dtype=torch.int32, device=DEVICE),
        block_size=sequences.batch.block_size,
    )
    rows.block_tables[0] = 0

    def fill(step: PagedSequences) -> None:
        count = len(step.batch.context_lens)
        rows.context_lens.zero_()
        rows.context_lens[:count] = torch.from_numpy(step.batch.context_lens).int()
        rows.table_rows[:count] = torch.arange(count, dtype=torch.int32) * 2 + 1
        tables = torch.from_numpy(step.batch.block_tables).int().to(DEVICE)
        rows.block_tables[1 : 2 * count : 2, : tables.shape[1]] = tables

    return rows, fill


def pad(q: Tensor, num_rows: int) -> Tensor:
    return torch.cat([q, q.new_zeros(num_rows - len(q), *q.shape[1:])])


def test_a_plan_for_decoding_as_a_plan_for_the_step() -> None:
    """Refreshed for other lengths, with padding, and narrowed."""
    case = Case("", (1,) * 4, (1030, 1100, 3, 600), HEADS, block_size=16, shared=512)
    sequences = PagedSequences.make(case, DTYPE, DEVICE)
    rows, fill = decoding_rows(sequences, 5)
    decoding = plan_decoding(rows, sequences.shape, 1100)
    for chosen, num_rows in (([0, 1, 2, 3], 5), ([3, 1], 2), ([2, 3], 3)):
        step = sequences.rows(chosen)
        fill(step)
        narrow = decoding.first(num_rows)
        narrow.refresh()
        assert narrow.can_hold(step.batch.context_lens)
        out = paged_attention(pad(step.q, num_rows), step.cache, narrow, step.rule)
        assert torch.equal(out[: len(chosen)], attend(step))
        assert not out[len(chosen) :].any()


def test_a_step_that_does_not_fit_harms_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("", (1,) * 3, (1030, 1100, 1027), HEADS, block_size=16)
    sequences = PagedSequences.make(case, DTYPE, DEVICE)
    rows, fill = decoding_rows(sequences, 3)
    monkeypatch.setattr(launch, "MAX_DECODING_BYTES", 4 * HEADS[0] * (HEADS[2] + 2) * 4)
    decoding = plan_decoding(rows, sequences.shape, 1100)
    assert not decoding.can_hold(sequences.batch.context_lens)
    fill(sequences)
    decoding.refresh()
    paged_attention(sequences.q, sequences.cache, decoding, sequences.rule)
    step = sequences.rows([1])
    fill(step)
    decoding.refresh()
    assert decoding.can_hold(step.batch.context_lens)
    assert torch.equal(paged_attention(pad(step.q, 3), step.cache, decoding, step.rule)[:1], attend(step))


def test_the_references_plan_for_decoding() -> None:
    kernels = Kernels.reference()
    case = Case("", (1,) * 3, (30, 100, 3), HEADS, block_size=16)
    sequences = PagedSequences.make(case, DTYPE, DEVICE)
    rows, fill = decoding_rows(sequences, 4)
    decoding = kernels.plan_decoding(rows, sequences.shape, 100)
    for chosen in ([0, 1, 2], [2]):
        step = sequences.rows(chosen)
        fill(step)
        decoding.refresh()
        planned = kernels.plan_attention(step.batch, step.shape, DEVICE)
        expected = kernels.paged_attention(step.q, step.cache, planned, step.rule)
        out = kernels.paged_attention(pad(step.q, 4), step.cache, decoding, step.rule)
        torch.testing.assert_close(out[: len(chosen)], expected)


def test_refusals() -> None:
    odd = PagedSequences.make(Case("", (1,), (5,), block_size=3), DTYPE, DEVICE)
    with pytest.raises(ValueError, match="power of two, not 3"):
        plan(odd)
    large = PagedSequences.make(Case("", (1,), (5,), (1, 1, 512)), DTYPE, DEVICE)
    with pytest.raises(ValueError, match="up to 256, not 512"):
        plan(large)
