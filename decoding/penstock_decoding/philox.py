"""Philox4x32-10: random numbers as a pure function of a key and a counter.

Source: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3" (2011). The counter of a draw is
(position, sample index, stream, 0) and its key the request's seed, so a draw depends on nothing else: not on its row,
not on what shares the batch, not on how many draws came before.
"""

import enum

import numpy as np
from numpy.typing import NDArray

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_NUM_ROUNDS = 10


class Stream(enum.IntEnum):
    """What a random number is for; equal counters of different streams are unrelated."""

    TOKEN = 0
    RACE_TOKEN = 1
    RACE_TIME = 2
    PROCESSOR = 3


def philox4x32(counter: NDArray[np.uint64], key: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Ten rounds of Philox.

    Args:
        counter: [4, draws], 32-bit words held in uint64.
        key: [2, draws], likewise.

    Returns:
        [4, draws], 32-bit words held in uint64.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_NUM_ROUNDS):
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (product1 >> _HALF) ^ c1 ^ k0, product1 & _LOW, (product0 >> _HALF) ^ c3 ^ k1, product0 & _LOW
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return np.stack((c0, c1, c2, c3))


def uniforms(
    seeds: NDArray[np.int64], samples: NDArray[np.int64], positions: NDArray[np.int64], stream: Stream = Stream.TOKEN
) -> NDArray[np.float64]:
    """One number in [0, 1) per draw, with 53 random bits. All arguments and the result: [draws]."""
    seed = seeds.astype(np.uint64)  # two's complement: negative seeds are seeds like any other
    counter = np.stack(
        (
            positions.astype(np.uint64) & _LOW,
            samples.astype(np.uint64) & _LOW,
            np.full(seed.shape, int(stream), np.uint64),
            np.zeros(seed.shape, np.uint64),
        )
    )
    word0, word1, _, _ = philox4x32(counter, np.stack((seed & _LOW, seed >> _HALF)))
    mantissa = (word0 >> np.uint64(5) << np.uint64(26)) | (word1 >> np.uint64(6))
    return np.asarray(mantissa, np.float64) * 2.0**-53
