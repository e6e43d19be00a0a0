"""The activation functions of the MLP, plain and gated.

silu       x * sigmoid(x)
gelu       x * Phi(x), exact
gelu_tanh  x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))    Hendrycks and Gimpel 2016
gated      f(gate) * up, where x = [gate, up]                       Shazeer 2020, "GLU Variants"
"""

from typing import Literal, Protocol

from torch import Tensor

Activation = Literal["silu", "gelu", "gelu_tanh"]


class Activate(Protocol):
    """Applies an activation to every element of x, a float tensor of any shape.

    Returns:
        A tensor of the shape and dtype of x. It may be x itself: the caller gives x up.

    Accuracy: computed in float32, rounded to the dtype of x.
    """

    def __call__(self, x: Tensor, activation: Activation) -> Tensor: ...


class GatedActivate(Protocol):
    """Applies an activation to the first half of the last axis and multiplies by the second half.

    Args:
        x: [tokens, 2 * size], contiguous: gate, then up. The caller gives x up: it may be overwritten.

    Returns:
        A new contiguous tensor [tokens, size] of the dtype of x.

    Accuracy: the activation may be rounded to the dtype of x before the product.
    """

    def __call__(self, x: Tensor, activation: Activation) -> Tensor: ...
