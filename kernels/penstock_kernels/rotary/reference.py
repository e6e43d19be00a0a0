"""Rotary position embedding in torch."""

import torch
from torch import Tensor


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    """See `Rotary`."""
    target = x[..., : cos.shape[-1]]
    # One conversion to float32 up front: mixed-dtype arithmetic leaves torch's vectorised loops.
    exact = target.float() if x.dtype != torch.float32 else target.clone()
    first, second = exact.chunk(2, dim=-1)
    swapped = torch.cat((second, first), dim=-1)
    target.copy_(exact.mul_(cos).addcmul_(swapped, sin))
