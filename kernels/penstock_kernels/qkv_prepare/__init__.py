"""What lies between the fused projection and attention: bias, norms of query and key, rotation, write to the cache.

    x          <- qkv + bias                                                        (only with a bias)
    q, k       <- RMS norm of each head, with the weights q_norm and k_norm         (only with them)
    q, k       <- rotary embedding of the first rotary_size features of each head   (only with angles)
    cache[slot] <- k, v                                                             (quantised where the cache is)

Rotary embedding in the half-split layout (GPT-NeoX): feature i pairs with feature i + rotary_size / 2.

    y[:half]  = x[:half] * cos(a) - x[half:] * sin(a)        a = position * inverse frequency, one per pair
    y[half:]  = x[half:] * cos(a) + x[:half] * sin(a)

Su et al. 2021, "RoFormer", equation 34, with the pairs laid out as halves. The angles are the model's business; this op
receives their cosines and sines, which are computed once per step for all layers.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from penstock_kernels.layer_cache import LayerCache


@dataclass(frozen=True, slots=True)
class HeadNorms:
    """RMS norms over each query and each key head: weights [head_size] of the dtype of qkv; eps as in `RmsNorm`."""

    q_weight: Tensor
    k_weight: Tensor
    eps: float


@dataclass(frozen=True, slots=True)
class Angles:
    """Of each token, for the first rotary_size features (even, at most head_size): [tokens, 1, rotary_size] float32.

    cos: cos(a) twice. sin: -sin(a), then sin(a): the sign is folded in so that y = x * cos + swap_halves(x) * sin.
    """

    cos: Tensor
    sin: Tensor


class QkvPrepare(Protocol):
    """Makes queries ready and puts keys and values in their slots; all other slots keep their bits.

    Args:
        qkv: [tokens, num_heads + 2 * num_kv_heads, head_size], contiguous: query heads, key heads, value heads. The
            caller gives it up: it may be overwritten.
        cache: of this layer; must not alias qkv. Its values have the dtype of qkv, or are quantised.
        slot_mapping: [tokens] int64, no slot twice whose content anyone will read.
        bias: [(num_heads + 2 * num_kv_heads) * head_size] of the dtype of qkv, or None.
        norms, angles: or None.

    Returns:
        The queries, [tokens, num_heads, head_size] of the dtype of qkv, the last axis contiguous: a view of qkv or new.

    Accuracy: computed in float32; each of the steps may round to the dtype of qkv. With quantised values, the scale is
    max|x| / peak over a head's features (1 where all are 0), and the value x / scale, for int8 rounded to the nearest
    by floor(y + 1/2), for float8 by the conversion.
    """

    def __call__(
        self,
        qkv: Tensor,
        cache: LayerCache,
        slot_mapping: Tensor,
        *,
        bias: Tensor | None = None,
        norms: HeadNorms | None = None,
        angles: Angles | None = None,
    ) -> Tensor: ...
