"""Layer norm, with the residual addition that precedes it in every pre-norm model.

    residual <- residual + x                                 (only with a residual, in place)
    y = (r - mean(r)) / sqrt(var(r) + eps) * weight + bias   r = residual if given, else x; var without correction

Ba, Kiros and Hinton 2016, "Layer Normalization", equation 4.
"""

from typing import Protocol

from torch import Tensor


class LayerNorm(Protocol):
    """Normalises the last axis.

    Args:
        x: [..., size], any float dtype, any strides. Not modified, even when a residual is given.
        weight: [size], dtype of x.
        bias: [size], dtype of x.
        eps: added to the variance, in float32.
        residual: contiguous, shape and dtype of x, must not alias it. Receives residual + x, rounded to its dtype.

    Returns:
        A new contiguous tensor of the shape and dtype of x.

    Accuracy: mean and variance are accumulated in float32.
    """

    def __call__(
        self, x: Tensor, weight: Tensor, bias: Tensor, eps: float, residual: Tensor | None = None
    ) -> Tensor: ...
