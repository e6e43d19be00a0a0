"""Layer norm in torch."""

import torch
from torch import Tensor


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float, residual: Tensor | None = None) -> Tensor:
    """See `LayerNorm`."""
    if residual is not None:
        x = residual.add_(x)
    return torch.layer_norm(x, weight.shape, weight, bias, eps)
