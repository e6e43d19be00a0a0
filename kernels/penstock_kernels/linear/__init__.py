"""y = x W^T + b, in two halves: a weight is packed once at load time, then applied many times.

Packing puts the weight into the order that the matrix unit reads, and decides then, not per call, which routine will
apply it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class NotInvariant(Exception):
    """Invariant kernels cannot be had; the message says for what, to follow the words "is not possible for"."""


@dataclass(frozen=True, slots=True)
class PackedLinear:
    """A weight ready to be applied. Only the table of kernels that packed it can apply it."""

    weight: Tensor
    apply: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    shape: tuple[int, int]


class PackLinear(Protocol):
    """Packs a weight [outputs, inputs], contiguous, any float dtype.

    The result holds either the very tensor given, which then belongs to it, or a reordered copy: then the caller may
    reuse the tensor given.
    """

    def __call__(self, weight: Tensor) -> PackedLinear: ...


class Linear(Protocol):
    """Applies a packed weight.

    Args:
        x: [tokens, inputs], contiguous, dtype of the weight, any number of tokens. Not modified.
        bias: [outputs], dtype of the weight.

    Returns:
        A new contiguous tensor [tokens, outputs] of the dtype of x.

    Accuracy: products are accumulated in float32, in an order that may depend on the number of tokens.
    """

    def __call__(self, x: Tensor, packed: PackedLinear, bias: Tensor | None) -> Tensor: ...
