"""The weight of a token: exp(x) for x <= 0 as a whole number, the same on every machine.

Only operations that IEEE 754 rounds in one way: add, subtract, multiply and divide in float32, each rounded by itself
(no fused multiply-add), floor, and scaling by powers of two, which is exact. `exp` is none of them: torch, numpy
and CUDA each have their own, and they differ in the last bit.
"""

import struct

import torch
from torch import Tensor


def _float32(value: float) -> float:
    """The nearest float32, so that no compiler can round the constant in a way of its own."""
    nearest: float = struct.unpack("f", struct.pack("f", value))[0]
    return nearest


ONE_BITS = 40
ONE = 2**ONE_BITS
"""The weight of the likeliest token, exp(0). What is less than 2^-40 times as likely, 27.7 below it, has weight 0. The
sum over 2^20 tokens is at most 2^60."""

LOWEST = -30.0
"""Scores are raised to this: exp(-30) is 0.1 of the smallest weight, and -inf would be NaN in what follows."""

LOG2_E = _float32(1.4426950408889634)
LN2_HIGH = 355 / 512  # 9 bits, so that its product with a whole number up to 2^15 is exact
LN2_LOW = _float32(0.6931471805599453 - 355 / 512)
TAYLOR = tuple(_float32(1 / factorial) for factorial in (720, 120, 24, 6, 2, 1, 1))
"""exp(r) to r^6 / 6!; what is left out is at most 1.2e-7 for |r| <= ln(2) / 2, two roundings."""

SMALLEST_TEMPERATURE = 2.0**-126
"""Smaller ones count as this, the smallest normal float32: 0 / 0 is no score."""


def scaled(scores: Tensor, peaks: Tensor, temperatures: Tensor) -> Tensor:
    """(score - peak) / temperature: [rows, vocab] float32, at most 0; `peaks`, `temperatures` [rows]."""
    return (scores - peaks[:, None]) / temperatures.clamp(min=SMALLEST_TEMPERATURE)[:, None]


def keys(x: Tensor) -> Tensor:
    """Whole numbers in the order of the scores, the largest score first: int32, of the shape of x <= 0.

    The bits of a float32 of one sign are in the order of its magnitude; 0.0 and -0.0 have the same key, 0.
    """
    return x.view(torch.int32) & 0x7FFFFFFF


def weights(x: Tensor) -> Tensor:
    """floor(2^40 exp(x)) but for some 2e-7 of it: int64, of the shape of x float32 <= 0, -inf included."""
    x = x.clamp(min=LOWEST)
    power = (x * LOG2_E + 0.5).floor()
    rest = (x - power * LN2_HIGH) - power * LN2_LOW
    exp = torch.full_like(rest, TAYLOR[0])
    for coefficient in TAYLOR[1:]:
        exp = exp * rest + coefficient
    # exp(x) = exp(rest) * 2^power, and 2^n as a float32 is its exponent n + 127 in bits 23 to 30.
    exponent = (power + float(127 + ONE_BITS)).to(torch.int32) << 23
    return (exp * exponent.view(torch.float32)).to(torch.int64)
