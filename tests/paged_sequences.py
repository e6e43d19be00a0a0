"""Sequences in a paged cache with NaN wherever none of them has written, and attention over them in float64."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from closeness import randn
from torch import Tensor

from penstock_kernels import AttentionBatch
from penstock_kernels.layer_cache import QUANTISED_PEAKS, LayerCache
from penstock_kernels.paged_attention import AttentionRule, AttentionShape
from penstock_kernels.paged_attention.cases import Case
from penstock_kernels.qkv_prepare.reference import quantise

SCALE = 0.3
# Never part of a table's own entries. Both NaN patterns of float8_e4m3fn; int8 has none, so there the scales are NaN.
NAN_BITS = 0x7F


@dataclass(frozen=True, slots=True)
class PagedSequences:
    """q: [tokens, heads, head size]. dense: of each sequence, its keys and values [context, 2, key heads, head size] as
    the cache holds them, in float64."""

    batch: AttentionBatch
    shape: AttentionShape
    rule: AttentionRule
    q: Tensor
    cache: LayerCache
    dense: tuple[Tensor, ...]

    @classmethod
    def make(cls, case: Case, dtype: torch.dtype, device: torch.device, seed: int = 0) -> "PagedSequences":
        """Blocks lie scattered; those of `case.shared` leading keys are common to all sequences."""
        heads, key_heads, head_size = case.heads
        num_shared = case.shared // case.block_size
        counts = [-(-length // case.block_size) for length in case.context_lens]
        ids = iter(np.random.default_rng(seed).permutation(sum(counts) + num_shared + 3).tolist())
        common = [next(ids) for _ in range(num_shared)]
        tables = [[*common[:count], *(next(ids) for _ in range(count - num_shared))] for count in counts]
        batch = AttentionBatch.build(case.query_lens, case.context_lens, tables, block_size=case.block_size)

        num_slots = (sum(counts) + num_shared + 3) * case.block_size
        stored = case.stored or dtype
        values = torch.full((num_slots, 2, key_heads, head_size), NAN_BITS if stored in QUANTISED_PEAKS else 0)
        values = values.to(torch.uint8).view(stored) if stored in QUANTISED_PEAKS else values.to(dtype) * torch.nan
        scales = torch.full((num_slots, 2, key_heads), torch.nan) if stored in QUANTISED_PEAKS else None
        dense = []
        for row, (table, length) in enumerate(zip(tables, case.context_lens, strict=True)):
            kv = randn(length, 2, key_heads, head_size, dtype=dtype, seed=1000 * seed + row)
            shared = min(case.shared, length)
            kv[:shared] = randn(case.shared, 2, key_heads, head_size, dtype=dtype, seed=1000 * seed + 999)[:shared]
            positions = torch.arange(length)
            slots = torch.tensor(table)[positions // case.block_size] * case.block_size + positions % case.block_size
            if scales is None:
                values[slots] = kv
                dense.append(kv.double())
            else:
                quantised, scale = quantise(kv, stored)
                values.view(torch.int8)[slots] = quantised.view(torch.int8)
                scales[slots] = scale
                dense.append(quantised.double() * scale.double().unsqueeze(-1))
        # A view with other strides than its shape would have, as a fused projection gives it.
        wide = randn(sum(case.query_lens), heads + 2 * key_heads, head_size, dtype=dtype, seed=1000 * seed + 777)
        slopes = 2.0 ** -torch.arange(1, heads + 1).float() if case.alibi else None
        return cls(
            batch,
            AttentionShape(*case.heads, [case.window]),
            AttentionRule(SCALE, case.window, case.soft_cap, None if slopes is None else slopes.to(device)),
            wide.to(device)[:, :heads],
            LayerCache(values.to(device), None if scales is None else scales.to(device)),
            tuple(dense),
        )

    def rows(self, rows: Sequence[int]) -> "PagedSequences":
        """Some of the sequences, in the same cache."""
        ends = np.cumsum(self.batch.query_lens)
        tokens = [token for row in rows for token in range(ends[row] - self.batch.query_lens[row], ends[row])]
        batch = AttentionBatch(
            self.batch.query_lens[rows],
            self.batch.context_lens[rows],
            self.batch.block_tables[rows],
            self.batch.block_size,
        )
        dense = tuple(self.dense[row] for row in rows)
        return PagedSequences(batch, self.shape, self.rule, self.q[tokens], self.cache, dense)

    def attended(self) -> Tensor:
        """What is expected of attention, in float64."""
        outs = []
        queries = torch.split(self.q.cpu().double(), self.batch.query_lens.tolist())
        for q, kv in zip(queries, self.dense, strict=True):
            keys, values = kv.repeat_interleave(self.shape.num_heads // self.shape.num_kv_heads, dim=2).unbind(1)
            scores = torch.einsum("qhd,khd->hqk", q, keys) * self.rule.scale
            if self.rule.soft_cap is not None:
                scores = self.rule.soft_cap * torch.tanh(scores / self.rule.soft_cap)
            behind = torch.arange(len(kv) - len(q), len(kv))[:, None] - torch.arange(len(kv))
            if self.rule.alibi is not None:
                scores -= self.rule.alibi.cpu().double()[:, None, None] * behind
            is_seen = (behind >= 0) & (behind < (self.rule.window or len(kv)))
            weights = scores.masked_fill(~is_seen, -torch.inf).softmax(-1)
            outs.append(torch.einsum("hqk,khd->qhd", weights, values))
        return torch.cat(outs)
