"""The pivots: 16 scores that part a row roughly, and the interval between two of them in which it will be cut."""

import triton
import triton.language as tl

from penstock_kernels.sample.fused.arithmetic import key_of, share_of

NUM_PIVOTS = tl.constexpr(16)
"""The last is -inf, and what is above it all there is."""


@triton.jit
def pivot_of(i):
    """-1/8, -1/2, ..., -28.1: close to each other where the mass is, and to the end of what has any."""
    return -0.125 * ((i + 1) * (i + 1))


@triton.jit
def bracket_of(count, mass, top_k, top_p):
    """Between which two pivots the cuts are.

    Args:
        count, mass: [NUM_PIVOTS] how many scores are above each pivot, itself included, and how much mass.
        top_k: 0 for none, else at most as many as there are scores. top_p: 1 for none. One of them is something.

    Returns:
        low, high: keys; every cut that the row asks for is above low and at most high.
        base_count, base_mass: of the keys up to low.
    """
    pivots = tl.arange(0, NUM_PIVOTS)
    keys = tl.where(pivots == NUM_PIVOTS - 1, 0x7F800000, key_of(pivot_of(pivots)))
    total = _at(mass, NUM_PIVOTS - 1)
    with_k, with_p = top_k > 0, top_p < 1
    # The first pivot that is not above the top-k cut; what top-k leaves is at least the mass above the one before it.
    k_place = tl.where(with_k, _num_below(count, top_k), NUM_PIVOTS - 1)
    least_left = tl.where(with_k, _at(mass, k_place - 1), total)
    most_left = tl.where(with_k, _at(mass, k_place), total)
    low_place = tl.where(with_p, _num_below(mass, share_of(top_p, least_left)), k_place) - 1
    high_place = tl.where(with_k, k_place, _num_below(mass, share_of(top_p, most_left)))
    low = tl.where(low_place < 0, -1, _at(keys, low_place))
    return low, _at(keys, high_place), _at(count, low_place), _at(mass, low_place)


@triton.jit
def _num_below(values, goal):
    """How many of the ascending values are below the goal: the place of the first that is not."""
    return tl.sum((values < goal).to(tl.int32))


@triton.jit
def _at(values, place):
    """values[place], 0 where there is no such place."""
    return tl.sum(tl.where(tl.arange(0, NUM_PIVOTS) == place, values, 0))
