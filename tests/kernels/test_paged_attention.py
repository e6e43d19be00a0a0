"""Paged attention against softmax written out in float64, one query head and one query at a time."""

import math

import numpy as np
import pytest
import torch
from closeness import assert_close, randn
from torch import Tensor

from penstock_kernels import AttentionBatch, Kernels
from penstock_kernels.layer_cache import LayerCache
from penstock_kernels.paged_attention import AttentionRule, AttentionShape
from penstock_kernels.paged_attention.cases import CASES, Case
from penstock_kernels.paged_attention.plan import GroupedPlan
from penstock_kernels.tolerance import DTYPES

SCALE = 0.3


def make_cache(case: Case, dtype: torch.dtype) -> tuple[Tensor, list[list[int]]]:
    """A cache with scattered blocks, NaN in every slot that no sequence owns, and the block tables."""
    _, key_heads, head_size = case.heads
    counts = [-(-length // case.block_size) for length in case.context_lens]
    ids = np.random.default_rng(0).permutation(sum(counts) + 3)
    tables = [ids[sum(counts[:i]) : sum(counts[: i + 1])].tolist() for i in range(len(counts))]
    cache = torch.full((len(ids) * case.block_size, 2, key_heads, head_size), float("nan"), dtype=dtype)
    for row, (table, length) in enumerate(zip(tables, case.context_lens, strict=True)):
        for position in range(length):
            values = randn(2, key_heads, head_size, dtype=dtype, seed=1000 * row + position)
            cache[table[position // case.block_size] * case.block_size + position % case.block_size] = values
    return cache, tables


def attend_by_hand(q: Tensor, cache: Tensor, tables: list[list[int]], case: Case) -> Tensor:
    heads, key_heads, _ = case.heads
    out = torch.empty_like(q, dtype=torch.float64)
    token = 0
    for table, query_len, context_len in zip(tables, case.query_lens, case.context_lens, strict=True):
        kv = cache.view(-1, case.block_size, *cache.shape[1:])[table].flatten(0, 1)[:context_len].double()
        for position in range(context_len - query_len, context_len):
            first = 0 if case.window is None else max(0, position - case.window + 1)
            for head in range(heads):
                keys, values = kv[first : position + 1, :, head // (heads // key_heads)].unbind(1)
                weights = torch.softmax(SCALE * (keys @ q[token, head].double()), dim=0)
                out[token, head] = weights @ values
            token += 1
    return out


def build(case: Case, tables: list[list[int]]) -> GroupedPlan:
    batch = AttentionBatch.build(case.query_lens, case.context_lens, tables, block_size=case.block_size)
    plan = Kernels.reference().plan_attention(batch, AttentionShape(*case.heads, [case.window]), torch.device("cpu"))
    assert isinstance(plan, GroupedPlan)
    return plan


def attend(q: Tensor, cache: Tensor, tables: list[list[int]], case: Case, scale: float = SCALE) -> Tensor:
    rule = AttentionRule(scale, case.window)
    return Kernels.reference().paged_attention(q, LayerCache(cache), build(case, tables), rule)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_against_softmax_by_hand(case: Case) -> None:
    heads, key_heads, head_size = case.heads
    cache, tables = make_cache(case, torch.float32)
    wide = randn(sum(case.query_lens), heads + 2 * key_heads, head_size, dtype=torch.float32, seed=7)
    q = wide[:, :heads]
    before = cache.clone()
    out = attend(q, cache, tables, case)
    assert_close(out, attend_by_hand(q, cache, tables, case), torch.float32)
    assert out.is_contiguous()
    torch.testing.assert_close(cache, before, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype != torch.float32])
@pytest.mark.parametrize("case", CASES[-2:], ids=lambda case: case.name)
def test_half_precision(case: Case, dtype: torch.dtype) -> None:
    heads, _, head_size = case.heads
    cache, tables = make_cache(case, dtype)
    q = randn(sum(case.query_lens), heads, head_size, dtype=dtype, seed=7)
    out = attend(q, cache, tables, case)
    assert_close(out, attend_by_hand(q, cache, tables, case), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_decoding_row_keeps_its_bits_among_others(dtype: torch.dtype) -> None:
    """Key lengths are padded so that sums are formed in one order, whatever the longest row of the call."""
    case = Case("decode", (1,) * 5, (150, 3, 100, 161, 17), heads=(9, 3, 64), block_size=16)
    cache, tables = make_cache(case, dtype)
    q = randn(5, 9, 64, dtype=dtype, seed=7)
    together = attend(q, cache, tables, case, 1 / math.sqrt(64))
    for row, length in enumerate(case.context_lens):
        alone = Case("alone", (1,), (length,), case.heads, case.block_size)
        out = attend(q[row : row + 1], cache, [tables[row]], alone, 1 / math.sqrt(64))
        assert torch.equal(out[0], together[row])


def test_few_calls_for_rows_of_like_length() -> None:
    """What a batch costs a layer is its number of groups."""
    even = Case("", (1,) * 16, (160,) * 16, block_size=16)
    near = Case("", (1,) * 16, tuple(range(150, 166)), block_size=16)
    apart = Case("", (1,) * 16, (1000,) * 8 + (20,) * 8, block_size=16)
    for case, count in ((even, 1), (near, 1), (apart, 2)):
        tables = [[0] * 64 for _ in case.query_lens]
        groups = build(case, tables).groups[None]
        assert len(groups) == count
    assert build(even, [[0] * 64] * 16).groups[None][0].mask is None
