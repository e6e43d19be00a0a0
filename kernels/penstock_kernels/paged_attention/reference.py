"""Paged attention in torch: gather the keys of a group of sequences, then one call of torch's attention."""

import torch
import torch.nn.functional as F
from torch import Tensor

from penstock_kernels.layer_cache import LayerCache
from penstock_kernels.paged_attention import AttentionPlan, AttentionRule
from penstock_kernels.paged_attention.plan import (
    MAX_SHARED_QUERY_LEN,
    MIN_QUERIES,
    AttentionGroup,
    GroupedDecodingPlan,
    GroupedPlan,
)


def paged_attention(q: Tensor, cache: LayerCache, plan: AttentionPlan, rule: AttentionRule) -> Tensor:
    """See `PagedAttention`."""
    if isinstance(plan, GroupedDecodingPlan):
        assert plan.grouped is not None, "a plan for decoding is refreshed before it is used"
        plan = plan.grouped
    assert isinstance(plan, GroupedPlan), "planned by another table of kernels"
    groups = plan.groups[rule.window]
    if groups[0].tokens is None:
        return _attend(q, cache, groups[0], rule)
    out = q.new_empty(q.shape)
    for group in groups:
        assert group.tokens is not None, "only a lone group may take all tokens"
        out.index_copy_(0, group.tokens, _attend(q.index_select(0, group.tokens), cache, group, rule))
    return out


def _attend(q: Tensor, cache: LayerCache, group: AttentionGroup, rule: AttentionRule) -> Tensor:
    """[tokens of the group, heads, head_size] -> the same."""
    tokens, heads, head_size = q.shape
    key_heads = cache.values.shape[2]
    gathered = _gather(cache, group.slots, q.dtype).view(group.num_rows, group.key_len, 2, key_heads, head_size)
    # [rows, key heads, keys, head_size] each, as strides only.
    keys, values = gathered.permute(2, 0, 3, 1, 4).unbind()

    if group.query_len > MAX_SHARED_QUERY_LEN:
        # One row. Key heads take the place of the batch, so that their query heads can share them by a stride of 0.
        assert group.mask is not None, "a long row has a mask"
        grouped = q.view(tokens, key_heads, -1, head_size).permute(1, 2, 0, 3)
        grouped = F.pad(grouped, (0, 0, 0, len(group.mask) - tokens))
        shape = (key_heads, heads // key_heads, group.key_len, head_size)
        slopes = None if rule.alibi is None else rule.alibi.view(key_heads, -1, 1, 1)
        out = _attention(
            grouped, keys.transpose(0, 1).expand(shape), values.transpose(0, 1).expand(shape), group.mask, rule, slopes
        )
        return out[:, :, :tokens].permute(2, 0, 1, 3).reshape(q.shape).contiguous()

    # The query heads that share a key head stand as further query rows of that head.
    if group.query_len == 1:
        grouped = q.view(tokens, key_heads, -1, head_size)
    else:
        grouped = q.view(group.num_rows, group.query_len, key_heads, -1, head_size).transpose(1, 2).flatten(2, 3)
    num_queries = grouped.shape[2]
    if num_queries < MIN_QUERIES:
        grouped = F.pad(grouped, (0, 0, 0, MIN_QUERIES - num_queries))
    slopes = None
    if rule.alibi is not None:
        slopes = F.pad(rule.alibi.view(key_heads, -1).repeat(1, group.query_len), (0, grouped.shape[2] - num_queries))
        slopes = slopes.unsqueeze(-1)
    out = _attention(grouped, keys, values, group.mask, rule, slopes)[:, :, :num_queries]
    if group.query_len > 1:
        out = out.reshape(group.num_rows, key_heads, group.query_len, -1, head_size).transpose(1, 2)
    return out.reshape(q.shape).contiguous()


def _gather(cache: LayerCache, slots: Tensor, dtype: torch.dtype) -> Tensor:
    """Keys and values of these slots, in `dtype`."""
    if cache.scales is None:
        return cache.values.index_select(0, slots)
    # As bytes: torch does not index float8.
    values = cache.values.view(torch.int8).index_select(0, slots).view(cache.values.dtype)
    return (values.float() * cache.scales.index_select(0, slots).unsqueeze(-1)).to(dtype)


def _attention(
    q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, rule: AttentionRule, slopes: Tensor | None
) -> Tensor:
    """Over the last two axes, [..., queries, head_size] and [..., keys, head_size]; `slopes` broadcasts over keys."""
    if slopes is None and rule.soft_cap is None:
        return F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, scale=rule.scale)
    scores = (q.float() @ keys.float().mT).mul_(rule.scale)
    if rule.soft_cap is not None:
        scores = scores.div_(rule.soft_cap).tanh_().mul_(rule.soft_cap)
    if slopes is not None:
        # Counted from the last key: a query's own position only shifts all its scores, which softmax takes out again.
        scores.add_(slopes * torch.arange(1 - keys.shape[-2], 1, device=q.device))
    if mask is not None:
        scores.add_(mask)
    return (scores.softmax(-1) @ values.float()).to(q.dtype)
