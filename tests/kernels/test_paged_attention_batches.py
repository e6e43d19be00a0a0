"""Paged attention of batches at random against softmax in float64."""

import pytest
import torch
from closeness import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_tables import DEVICE, IS_INTERPRETED, table, tables_of
from paged_sequences import PagedSequences

from penstock_kernels.paged_attention.cases import Case

TABLES = tables_of("plan_attention", "paged_attention")


@st.composite
def batches(draw: st.DrawFn) -> Case:
    """Contexts on both sides of a split's end are likelier than chance has them."""
    query_lens, context_lens = [], []
    for _ in range(draw(st.integers(1, 3))):
        query_len = draw(st.sampled_from([1, 1, 2, 25]))
        near_end = st.integers(510, 514) | st.integers(1, 90)
        query_lens.append(query_len)
        context_lens.append(max(query_len, draw(near_end)))
    key_heads = draw(st.integers(1, 2))
    return Case(
        "at random",
        tuple(query_lens),
        tuple(context_lens),
        heads=(key_heads * draw(st.integers(1, 5)), key_heads, draw(st.sampled_from([16, 24, 64]))),
        block_size=draw(st.sampled_from([1, 4, 16, 32])),
        window=draw(st.none() | st.integers(1, 600)),
        soft_cap=draw(st.none() | st.floats(0.5, 50.0)),
        alibi=draw(st.booleans()),
        stored=draw(st.sampled_from([None, None, torch.int8, torch.float8_e4m3fn])),
    )


@pytest.mark.parametrize("name", TABLES)
@settings(max_examples=5, deadline=None, derandomize=True)
@given(case=batches(), seed=st.integers(0, 100), dtype=st.sampled_from([torch.float32, torch.float16]))
def test_batches_at_random(name: str, case: Case, seed: int, dtype: torch.dtype) -> None:
    if not IS_INTERPRETED and case.stored is not None:
        dtype = torch.float16  # as no fused kernel reads a quantised cache in float32 on a GPU
    sequences = PagedSequences.make(case, dtype, DEVICE, seed)
    kernels = table(name)
    plan = kernels.plan_attention(sequences.batch, sequences.shape, DEVICE)
    out = kernels.paged_attention(sequences.q, sequences.cache, plan, sequences.rule)
    assert_close(out.cpu(), sequences.attended(), dtype)
