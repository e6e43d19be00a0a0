"""Root mean square norm, with the residual addition that precedes it in every pre-norm model.

    residual <- residual + x                                 (only with a residual, in place)
    y = r / sqrt(mean(r^2) + eps) * weight                   r = residual if given, else x

Zhang and Sennrich 2019, "Root Mean Square Layer Normalization", equation 4. No centring, no bias.
"""

from typing import Protocol

from torch import Tensor


class RmsNorm(Protocol):
    """Normalises the last axis.

    Args:
        x: [..., size], any float dtype, any strides. Not modified, even when a residual is given.
        weight: [size], dtype of x.
        eps: added to the mean square, in float32.
        residual: contiguous, shape and dtype of x, must not alias it. Receives residual + x, rounded to its dtype.

    Returns:
        A new contiguous tensor of the shape and dtype of x.

    Accuracy: the mean is accumulated in float32. The result is within 2 units in the last place of the dtype.
    """

    def __call__(self, x: Tensor, weight: Tensor, eps: float, residual: Tensor | None = None) -> Tensor: ...
