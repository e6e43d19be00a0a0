"""Activations in torch."""

from collections.abc import Callable, Mapping

import torch.nn.functional as F
from torch import Tensor

from penstock_kernels.activation import Activation


def _gelu(x: Tensor) -> Tensor:
    return F.gelu(x)


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


_FUNCTIONS: Mapping[Activation, Callable[[Tensor], Tensor]] = {"silu": F.silu, "gelu": _gelu, "gelu_tanh": _gelu_tanh}


def activate(x: Tensor, activation: Activation) -> Tensor:
    """See `Activate`."""
    return _FUNCTIONS[activation](x)


def gated_activate(x: Tensor, activation: Activation) -> Tensor:
    """See `GatedActivate`."""
    gate, up = x.chunk(2, dim=-1)
    # The activation of the strided view is a fresh contiguous tensor, so the product may go into it.
    return _FUNCTIONS[activation](gate).mul_(up)
