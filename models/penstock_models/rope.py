"""Rotary angles: from positions to the cosines and sines that the `qkv_prepare` kernel takes.

Computed once per step for all layers, from the positions of the step: no table of the model's longest context is kept.
All formulas are evaluated in float32, in the order in which transformers evaluates them, so that long contexts see the
same angles.
"""

import math

import torch
from torch import Tensor

from penstock_kernels.qkv_prepare import Angles
from penstock_models.spec import DynamicScaling, LinearScaling, Llama3Scaling, RotaryPositions, YarnScaling


class RotaryAngles:
    """Computes cosines and sines for any positions, in four or five launches on a GPU."""

    def __init__(self, rope: RotaryPositions, device: torch.device) -> None:
        self._rope = rope
        self._factor = rope.scaling.attention_factor if isinstance(rope.scaling, YarnScaling) else 1.0
        # Everything twice, as `Angles` wants it: no halves to join in every step.
        self._frequencies = inverse_frequencies(rope).repeat(2).to(device)
        self._signs = torch.tensor((-self._factor, self._factor)).repeat_interleave(rope.size // 2).to(device)

    def __call__(self, positions: Tensor) -> Angles:
        """Angles of `positions` [tokens], any integer dtype."""
        frequencies = self._frequencies
        if isinstance(self._rope.scaling, DynamicScaling):
            frequencies = _dynamic_frequencies(self._rope, self._rope.scaling, positions).repeat(1, 2)
        # The product of an integer and a float32 tensor is that of the integer's float32.
        angles = (positions.unsqueeze(1) * frequencies).unsqueeze(1)
        cos = angles.cos()
        if self._factor != 1.0:
            cos.mul_(self._factor)
        return Angles(cos, angles.sin_().mul_(self._signs))


def inverse_frequencies(rope: RotaryPositions) -> Tensor:
    """[size / 2] float32: radians per position of each feature pair, for lengths up to the original maximum."""
    base = _powers(rope)
    match rope.scaling:
        case None | DynamicScaling():
            return 1.0 / base
        case LinearScaling(factor=factor):
            return 1.0 / base / factor
        case Llama3Scaling():
            return _llama3(1.0 / base, rope.scaling)
        case YarnScaling():
            return _yarn(base, rope, rope.scaling)


def _powers(rope: RotaryPositions) -> Tensor:
    return torch.as_tensor(rope.theta ** (torch.arange(0, rope.size, 2, dtype=torch.int64).float() / rope.size))


def _dynamic_frequencies(rope: RotaryPositions, scaling: DynamicScaling, positions: Tensor) -> Tensor:
    """[tokens, size / 2]: beyond the original maximum, each position has the base of the length that ends with it.

    transformers computes one base per forward call, from the call's longest length. While generating, that is this
    formula: a new token's query and key get the base of the length it completes, and cached keys keep theirs. It
    differs where one call brings several tokens beyond the original maximum, that is for a prompt longer than it.
    Taking each token's own length there makes a key a function of its position alone, so that a prompt gives the same
    keys however it is cut into chunks, and blocks can be shared between requests of different lengths.
    """
    original = scaling.original_max_positions
    lengths = (positions + 1).clamp(min=original).float()
    growth = scaling.factor * lengths / original - (scaling.factor - 1)
    bases = rope.theta * growth ** (rope.size / (rope.size - 2))
    exponents = torch.arange(0, rope.size, 2, device=positions.device).float() / rope.size
    return 1.0 / bases.unsqueeze(1) ** exponents


def _llama3(frequencies: Tensor, scaling: Llama3Scaling) -> Tensor:
    wavelengths = 2 * math.pi / frequencies
    longest = scaling.original_max_positions / scaling.low_freq_factor
    shortest = scaling.original_max_positions / scaling.high_freq_factor
    share = (scaling.original_max_positions / wavelengths - scaling.low_freq_factor) / (
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    ramp = (1 - share) * frequencies / scaling.factor + share * frequencies
    scaled = torch.where(wavelengths > longest, frequencies / scaling.factor, frequencies)
    return torch.where((wavelengths >= shortest) & (wavelengths <= longest), ramp, scaled)


def _yarn(powers: Tensor, rope: RotaryPositions, scaling: YarnScaling) -> Tensor:
    """YaRN, equations 22 and 23: a ramp over the features between `beta_fast` and `beta_slow` turns of the context."""

    def feature_with_turns(turns: float) -> float:
        turn = scaling.original_max_positions / (turns * 2 * math.pi)
        return rope.size * math.log(turn) / (2 * math.log(rope.theta))

    low, high = feature_with_turns(scaling.beta_fast), feature_with_turns(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rope.size - 1)
    if low == high:
        high += 0.001
    ramp = ((torch.arange(rope.size // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    extrapolated = 1 - ramp
    return 1.0 / (scaling.factor * powers) * (1 - extrapolated) + 1.0 / powers * extrapolated
