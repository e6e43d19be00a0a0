"""(tokens, size) of the output; odd sizes on purpose."""

from typing import get_args

from penstock_kernels.activation import Activation

SHAPES = ((1, 1536), (16, 1536), (5, 77), (3, 1))
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
