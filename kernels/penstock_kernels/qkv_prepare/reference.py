"""What lies between the fused projection and attention, in torch."""

import torch
from torch import Tensor

from penstock_kernels.layer_cache import QUANTISED_PEAKS, LayerCache
from penstock_kernels.qkv_prepare import Angles, HeadNorms


def qkv_prepare(
    qkv: Tensor,
    cache: LayerCache,
    slot_mapping: Tensor,
    *,
    bias: Tensor | None = None,
    norms: HeadNorms | None = None,
    angles: Angles | None = None,
) -> Tensor:
    """See `QkvPrepare`."""
    num_tokens, num_all_heads, head_size = qkv.shape
    num_kv_heads = cache.values.shape[2]
    num_heads = num_all_heads - 2 * num_kv_heads
    if bias is not None:
        qkv.add_(bias.view(num_all_heads, head_size))
    q, kv = qkv.split_with_sizes((num_heads, 2 * num_kv_heads), dim=1)
    kv = kv.view(num_tokens, 2, num_kv_heads, head_size)
    if norms is not None:
        k = kv.select(1, 0)
        q.copy_(torch.rms_norm(q, (head_size,), norms.q_weight, norms.eps))
        k.copy_(torch.rms_norm(k, (head_size,), norms.k_weight, norms.eps))
    if angles is not None:
        # Query and key heads are neighbours and turn together.
        rotate(qkv.narrow(1, 0, num_heads + num_kv_heads), angles)
    if cache.scales is None:
        cache.values.index_copy_(0, slot_mapping, kv)
    else:
        values, scales = quantise(kv, cache.values.dtype)
        # As bytes: torch does not index float8.
        cache.values.view(torch.int8).index_copy_(0, slot_mapping, values.view(torch.int8))
        cache.scales.index_copy_(0, slot_mapping, scales)
    return q


def rotate(x: Tensor, angles: Angles) -> None:
    """Rotate the first rotary_size features of every head of x [tokens, heads, head_size], in place."""
    target = x[..., : angles.cos.shape[-1]]
    # One conversion to float32 up front: mixed-dtype arithmetic leaves torch's vectorised loops.
    exact = target.float() if x.dtype != torch.float32 else target.clone()
    first, second = exact.chunk(2, dim=-1)
    swapped = torch.cat((second, first), dim=-1)
    target.copy_(exact.mul_(angles.cos).addcmul_(swapped, angles.sin))


def quantise(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """x [..., size] as values of `dtype` and a float32 scale [...] for each."""
    exact = x.float()
    scales = exact.abs().amax(-1) / QUANTISED_PEAKS[dtype]
    scales = torch.where(scales == 0, 1.0, scales)
    scaled = exact / scales.unsqueeze(-1)
    if dtype == torch.int8:
        scaled = (scaled + 0.5).floor_()
    return scaled.to(dtype), scales
