"""Activations in Triton: a program takes a piece of a row.

Plain ones work in place, since the caller gives x up: the same traffic, and no memory of their own.
"""

from collections.abc import Iterator
from typing import get_args

import torch
import triton
import triton.language as tl
from torch import Tensor

from penstock_kernels.activation import Activation
from penstock_kernels.configuration import Configuration
from penstock_kernels.triton_types import FLOATS

_BLOCK = 1024
_NUM_WARPS = 4
"""8 elements a thread: one 16-byte load of 16-bit elements, and programs enough for all of a GPU at a few tokens."""


def activate(x: Tensor, activation: Activation) -> Tensor:
    """See `Activate`."""
    x = x.contiguous()
    if x.numel() > 0:
        size = x.shape[-1] if x.dim() > 0 else 1
        _activate[(x.numel() // size, triton.cdiv(size, _BLOCK))](
            x, size, ACTIVATION=activation, BLOCK=_BLOCK, num_warps=_NUM_WARPS
        )
    return x


def gated_activate(x: Tensor, activation: Activation) -> Tensor:
    """See `GatedActivate`."""
    num_tokens, size = len(x), x.shape[-1] // 2
    y = torch.empty(num_tokens, size, dtype=x.dtype, device=x.device)
    if y.numel() > 0:
        _gated_activate[(num_tokens, triton.cdiv(size, _BLOCK))](
            x, y, size, ACTIVATION=activation, BLOCK=_BLOCK, num_warps=_NUM_WARPS
        )
    return y


@triton.jit
def activated(x, ACTIVATION: tl.constexpr):
    """x is float32. Other kernels that end in an activation use it too."""
    if ACTIVATION == "silu":
        return x * _sigmoid(x)
    elif ACTIVATION == "gelu":
        return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    else:
        tl.static_assert(ACTIVATION == "gelu_tanh")
        # (1 + tanh(u)) / 2 is sigmoid(2 u), which keeps its digits where tanh is close to -1. 2 sqrt(2 / pi) = 1.59577.
        return x * _sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))


@triton.jit
def _sigmoid(x):
    """By the exponential of a negative number, which cannot overflow."""
    e = tl.exp(-tl.abs(x))
    return tl.where(x >= 0.0, 1.0, e) / (1.0 + e)


@triton.jit
def _activate(x, size, ACTIVATION: tl.constexpr, BLOCK: tl.constexpr):
    # 64 bits: 131072 tokens of 16384 elements are 2^31.
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < size
    place = x + row * size + column
    value = tl.load(place, mask=inside, other=0.0).to(tl.float32)
    tl.store(place, activated(value, ACTIVATION).to(x.dtype.element_ty), mask=inside)


@triton.jit
def _gated_activate(x, y, size, ACTIVATION: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < size
    gate = tl.load(x + row * 2 * size + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(x + row * 2 * size + size + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + row * size + column, (activated(gate, ACTIVATION) * up).to(y.dtype.element_ty), mask=inside)


def configurations(capability: int) -> Iterator[Configuration]:
    """All of both. Sizes that are no multiple of 16 compile to the same code with narrower accesses."""
    for dtype in FLOATS:
        for activation in get_args(Activation):
            for kernel, name, tensors in ((_activate, "plain", ("x",)), (_gated_activate, "gated", ("x", "y"))):
                yield Configuration(
                    op="activation",
                    name=f"{dtype} {activation} {name}",
                    kernel=kernel,
                    types={**dict.fromkeys(tensors, f"*{dtype}"), "size": "i32"},
                    constants={"ACTIVATION": activation, "BLOCK": _BLOCK},
                    num_warps=_NUM_WARPS,
                    num_stages=3,
                    aligned=frozenset({*tensors, "size"}),
                )
