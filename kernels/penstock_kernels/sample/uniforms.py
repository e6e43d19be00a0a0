"""The uniform numbers of draws, in torch: Philox4x32-10 (Salmon et al. 2011) in int64."""

import torch
from torch import Tensor

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF
_NUM_ROUNDS = 10


def uniforms(seed: Tensor, sample: Tensor, position: Tensor) -> Tensor:
    """One number in [0, 1) with 53 random bits for each of `seed` int64, `sample` and `position` int32: float64."""
    c0, c1 = position.long() & _LOW, sample.long() & _LOW
    c2 = c3 = torch.zeros_like(seed)
    k0, k1 = seed & _LOW, (seed >> 32) & _LOW
    for _ in range(_NUM_ROUNDS):
        # The product has 64 bits and int64 wraps: its bits are right, but a shift to the right brings the sign along.
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c2 = (product1 >> 32 & _LOW) ^ c1 ^ k0, (product0 >> 32 & _LOW) ^ c3 ^ k1
        c1, c3 = product1 & _LOW, product0 & _LOW
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return ((c0 >> 5 << 26) | (c1 >> 6)).double() * 2.0**-53
