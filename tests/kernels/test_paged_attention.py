"""Paged attention against softmax in float64: every table, every case."""

import numpy as np
import pytest
import torch
from closeness import assert_close
from kernel_tables import (
    DEVICE,
    skip_if_no_kernel_reads_it,
    skip_if_wrong_when_interpreted,
    table,
    tables_of,
)
from paged_sequences import PagedSequences
from torch import Tensor

from penstock_kernels.paged_attention.cases import CASES, Case
from penstock_kernels.paged_attention.plan import GroupedPlan
from penstock_kernels.tolerance import DTYPES

TABLES = tables_of("plan_attention", "paged_attention")


def attend(sequences: PagedSequences, name: str) -> Tensor:
    kernels = table(name)
    plan = kernels.plan_attention(sequences.batch, sequences.shape, DEVICE)
    return kernels.paged_attention(sequences.q, sequences.cache, plan, sequences.rule)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_against_softmax_by_hand(case: Case, name: str) -> None:
    skip_if_no_kernel_reads_it(name, torch.float32, case.stored)
    sequences = PagedSequences.make(case, torch.float32, DEVICE)
    before = sequences.cache.values.clone()
    out = attend(sequences, name)
    assert_close(out.cpu(), sequences.attended(), torch.float32)
    assert out.is_contiguous() and out.dtype == torch.float32
    assert torch.equal(sequences.cache.values.view(torch.uint8), before.view(torch.uint8))


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype != torch.float32])
@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.name in ("chunk, window", "slopes", "int8, everything", "float8")],
    ids=lambda case: case.name,
)
def test_half_precision(case: Case, dtype: torch.dtype, name: str) -> None:
    skip_if_wrong_when_interpreted(name, dtype)
    sequences = PagedSequences.make(case, dtype, DEVICE)
    assert_close(attend(sequences, name).cpu(), sequences.attended(), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_reference_keeps_a_decoding_rows_bits_among_others(dtype: torch.dtype) -> None:
    """Key lengths are padded so that sums are formed in one order, whatever the longest row of the call."""
    case = Case("decode", (1,) * 5, (150, 3, 100, 161, 17), heads=(9, 3, 64), block_size=16)
    together = PagedSequences.make(case, dtype, torch.device("cpu"))
    out = attend(together, "reference") if DEVICE.type == "cpu" else None
    if out is None:
        pytest.skip("of the reference on a CPU")
    for row in range(5):
        assert torch.equal(attend(together.rows([row]), "reference")[0], out[row])


def test_few_calls_for_rows_of_like_length() -> None:
    """What a batch costs a layer of the reference is its number of groups."""
    even = Case("", (1,) * 16, (160,) * 16, block_size=16)
    near = Case("", (1,) * 16, tuple(range(150, 166)), block_size=16)
    apart = Case("", (1,) * 16, (1000,) * 8 + (20,) * 8, block_size=16)
    for case, count in ((even, 1), (near, 1), (apart, 2)):
        sequences = PagedSequences.make(case, torch.float32, torch.device("cpu"))
        plan = table("reference").plan_attention(sequences.batch, sequences.shape, torch.device("cpu"))
        assert isinstance(plan, GroupedPlan)
        assert len(plan.groups[None]) == count
        assert count == 2 or len(np.unique(case.context_lens)) > 1 or plan.groups[None][0].mask is None
