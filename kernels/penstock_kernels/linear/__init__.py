"""y = x W^T + b, in two halves: a weight is packed once at load time, then applied many times.

Packing puts the weight into the order that the matrix unit reads, and decides then, not per call, which routine will
apply it. What follows the product in an MLP, or is added to the residual stream, is part of the op:

    y  = x W^T + b
    y <- f(y)                                       (only with an activation)
    y <- f(gate) * up, where y = [gate, up]         (only with a gated one; Shazeer 2020, "GLU Variants")
    residual <- residual + y                        (only with a residual, in place)
"""

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from penstock_kernels.activation import Activation
from penstock_kernels.linear.quantised import QuantisedType


class NotInvariant(Exception):
    """Invariant kernels cannot be had; the message says for what, to follow the words "is not possible for"."""


@dataclass(frozen=True, slots=True)
class MlpActivation:
    """What an MLP puts after its first product: f, or f(gate) * up, where the outputs are gate, then up."""

    function: Activation
    is_gated: bool


@dataclass(frozen=True, slots=True)
class PackedLinear:
    """A weight ready to be applied. Only the table of kernels that packed it can apply it.

    weight: what holds it, or the larger part of it. form: whatever else its table needs to apply it.
    shape: (outputs, inputs).
    """

    weight: Tensor
    form: Any
    shape: tuple[int, int]


class PackLinear(Protocol):
    """Packs a weight [outputs, inputs], contiguous, any float dtype.

    The result holds either the very tensor given, which then belongs to it, or a reordered copy: then the caller may
    reuse the tensor given.
    """

    def __call__(self, weight: Tensor) -> PackedLinear: ...


class PackQuantised(Protocol):
    """Packs a weight [outputs, inputs], contiguous, any float dtype, in fewer bits: see `quantised`.

    The weight is rounded once, here; products are those of the rounded weight. The result shares no memory with the
    tensor given.

    Raises:
        NotInvariant: the table is invariant, and no routine of this machine is so for this type.
    """

    def __call__(self, type: QuantisedType, weight: Tensor) -> PackedLinear: ...


class Linear(Protocol):
    """Applies a packed weight.

    Args:
        x: [tokens, inputs], contiguous, dtype of the weight, any number of tokens. Not modified.
        bias: [outputs], dtype of the weight.
        activation: of the outputs. Gated ones are half as many.
        residual: [tokens, outputs after the activation], contiguous, dtype of x; must not alias x. Receives the sum.

    Returns:
        A contiguous tensor [tokens, outputs after the activation] of the dtype of x: the residual if one is given, else
        a new one.

    Accuracy: products are accumulated in float32, in an order that may depend on the number of tokens. Each of the
    steps may round to the dtype of x.
    """

    def __call__(
        self,
        x: Tensor,
        packed: PackedLinear,
        bias: Tensor | None = None,
        *,
        activation: MlpActivation | None = None,
        residual: Tensor | None = None,
    ) -> Tensor: ...
