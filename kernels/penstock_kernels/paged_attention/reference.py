"""Paged attention in torch: gather the keys of a group of sequences, then one call of torch's attention."""

import torch.nn.functional as F
from torch import Tensor

from penstock_kernels.paged_attention.batch import AttentionBatch
from penstock_kernels.paged_attention.plan import MAX_SHARED_QUERY_LEN, MIN_QUERIES, AttentionGroup


def paged_attention(q: Tensor, cache: Tensor, batch: AttentionBatch, scale: float, window: int | None) -> Tensor:
    """See `PagedAttention`."""
    groups = batch.groups[window]
    if groups[0].tokens is None:
        return _attend(q, cache, groups[0], scale)
    out = q.new_empty(q.shape)
    for group in groups:
        assert group.tokens is not None, "only a lone group may take all tokens"
        out.index_copy_(0, group.tokens, _attend(q.index_select(0, group.tokens), cache, group, scale))
    return out


def _attend(q: Tensor, cache: Tensor, group: AttentionGroup, scale: float) -> Tensor:
    """[tokens of the group, heads, head_size] -> the same."""
    tokens, heads, head_size = q.shape
    key_heads = cache.shape[2]
    gathered = cache.index_select(0, group.slots).view(group.num_rows, group.key_len, 2, key_heads, head_size)
    # [rows, key heads, keys, head_size] each, as strides only.
    keys, values = gathered.permute(2, 0, 3, 1, 4).unbind()

    if group.query_len > MAX_SHARED_QUERY_LEN:
        # One row. Key heads take the place of the batch, so that their query heads can share them by a stride of 0.
        assert group.mask is not None, "a long row has a mask"
        grouped = q.view(tokens, key_heads, -1, head_size).permute(1, 2, 0, 3)
        grouped = F.pad(grouped, (0, 0, 0, len(group.mask) - tokens))
        shape = (key_heads, heads // key_heads, group.key_len, head_size)
        out = F.scaled_dot_product_attention(
            grouped,
            keys.transpose(0, 1).expand(shape),
            values.transpose(0, 1).expand(shape),
            attn_mask=group.mask,
            scale=scale,
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
    out = F.scaled_dot_product_attention(grouped, keys, values, attn_mask=group.mask, scale=scale)[:, :, :num_queries]
    if group.query_len > 1:
        out = out.reshape(group.num_rows, key_heads, group.query_len, -1, head_size).transpose(1, 2)
    return out.reshape(q.shape).contiguous()
