"""Root mean square norm in torch."""

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float, residual: Tensor | None = None) -> Tensor:
    """See `RmsNorm`."""
    if residual is not None:
        x = residual.add_(x)
    return torch.rms_norm(x, weight.shape, weight, eps)
