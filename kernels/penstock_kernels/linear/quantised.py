"""Weights in fewer bits: how they are rounded and how they lie in memory. Nothing here multiplies.

Both types are symmetric, w ~ scale * q with no zero point: the rows of a linear layer are centred, and a zero point
would cost the kernels a subtraction for each weight.

int8   one scale for each output; q in -127..127.
       values [outputs, inputs] int8; scales [outputs] float32.
int4   one scale for each output and group of 128 inputs; q in -8..7, of which a group's largest weight is exactly -8:
       the scale takes the opposite sign of that weight (as in llama.cpp's Q4_0), so that no code is left unused.
       values [outputs, 64 * groups] int8, two numbers a byte: byte j of a group holds input j in its low half and input
       j + 64 in its high half. Unpacked, each half is a run of 64 neighbours, which meets a run of 64 neighbours of x:
       no number has to change places.
       scales [groups, outputs] bfloat16: a scale of another rounding would do as well, because the numbers are rounded
       after it; outputs last, because a kernel wants the scales of neighbouring outputs at once.
       A last group that is not whole is filled up with zeros.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

QuantisedType = Literal["int8", "int4"]

GROUP = 128
"""Inputs that share a scale in int4."""

# A matrix is rounded in pieces of this many rows, so that its float32 copy stays small beside it.
PIECE = 1024


@dataclass(frozen=True, slots=True)
class QuantisedWeight:
    """values and scales as above; shape: (outputs, inputs) of the weight they stand for."""

    type: QuantisedType
    values: Tensor
    scales: Tensor
    shape: tuple[int, int]


def quantise(weight: Tensor, type: QuantisedType) -> QuantisedWeight:
    """Round a weight [outputs, inputs] of any float dtype. It is not modified, and the result shares no memory."""
    pieces = [(_to_int8 if type == "int8" else _to_int4)(piece.float()) for piece in torch.split(weight, PIECE)]
    values = torch.cat([values for values, _ in pieces])
    scales = torch.cat([scales for _, scales in pieces], dim=-1)
    return QuantisedWeight(type, values, scales, (weight.shape[0], weight.shape[1]))


def dequantise(weight: QuantisedWeight, dtype: torch.dtype) -> Tensor:
    """The weight [outputs, inputs] that the numbers and scales stand for."""
    if weight.type == "int8":
        return (weight.values.float() * weight.scales[:, None]).to(dtype)
    groups = _in_groups(unpack_int4(weight.values), GROUP).float() * weight.scales.float().t()[:, :, None]
    return groups.flatten(1)[:, : weight.shape[1]].to(dtype).contiguous()


def unpack_int4(values: Tensor) -> Tensor:
    """[outputs, 64 * groups] bytes to [outputs, 128 * groups] numbers in int8."""
    halves = _in_groups(values, GROUP // 2)
    return torch.cat([(halves << 4) >> 4, halves >> 4], dim=-1).flatten(1)


def _to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    scales = _never_zero(weight.abs().amax(dim=1) / 127)
    return (weight / scales[:, None]).round().clamp(-127, 127).to(torch.int8), scales


def _to_int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    groups = _in_groups(F.pad(weight, (0, -weight.shape[1] % GROUP)), GROUP)
    largest = groups.gather(2, groups.abs().argmax(dim=2, keepdim=True)).squeeze(2)
    scales = _never_zero((largest / -8).to(torch.bfloat16))
    numbers = (groups / scales.float()[:, :, None]).round().clamp(-8, 7).to(torch.int8)
    low, high = numbers[:, :, : GROUP // 2], numbers[:, :, GROUP // 2 :]
    return (high << 4 | low & 0xF).flatten(1), scales.t().contiguous()


def _in_groups(rows: Tensor, size: int) -> Tensor:
    """[outputs, groups * size] to [outputs, groups, size]."""
    return rows.view(len(rows), -1, size)


def _never_zero(scales: Tensor) -> Tensor:
    """A row of zeros has any scale."""
    return torch.where(scales == 0, 1.0, scales)
