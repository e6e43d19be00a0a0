"""Rotary position embedding, half-split layout (GPT-NeoX): feature i pairs with feature i + rotary_size / 2.

    y[:half]  = x[:half] * cos(a) - x[half:] * sin(a)        a = position * inverse frequency, one per pair
    y[half:]  = x[half:] * cos(a) + x[:half] * sin(a)

Su et al. 2021, "RoFormer", equation 34, with the pairs laid out as halves. The angles are the model's business; this
op receives their cosines and sines, which are computed once per step for all layers.
"""

from typing import Protocol

from torch import Tensor


class Rotary(Protocol):
    """Rotates the first `rotary_size` features of every head, in place; further features stay as they are.

    Args:
        x: [tokens, heads, head_size], any float dtype; the last axis contiguous, the others free, so that it may be
            a view of the fused projection.
        cos: [tokens, 1, rotary_size] float32: cos(a) twice, rotary_size even and at most head_size.
        sin: [tokens, 1, rotary_size] float32: -sin(a), then sin(a). The sign is folded in so that
            y = x * cos + swap_halves(x) * sin.

    Accuracy: computed in float32, rounded once to the dtype of x.
    """

    def __call__(self, x: Tensor, cos: Tensor, sin: Tensor) -> None: ...
