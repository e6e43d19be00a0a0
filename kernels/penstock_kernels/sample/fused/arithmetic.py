"""The whole-number arithmetic of weights.py in Triton. To be compiled with `enable_fp_fusion=False`."""

import triton
import triton.language as tl

from penstock_kernels.sample import weights

LOWEST = tl.constexpr(weights.LOWEST)
LOG2_E = tl.constexpr(weights.LOG2_E)
LN2_HIGH = tl.constexpr(weights.LN2_HIGH)
LN2_LOW = tl.constexpr(weights.LN2_LOW)
TAYLOR_6, TAYLOR_5, TAYLOR_4, TAYLOR_3, TAYLOR_2, TAYLOR_1, TAYLOR_0 = map(tl.constexpr, weights.TAYLOR)
SMALLEST_TEMPERATURE = tl.constexpr(weights.SMALLEST_TEMPERATURE)
ONE = tl.constexpr(float(weights.ONE))
ONE_EXPONENT = tl.constexpr(float(127 + weights.ONE_BITS))


@triton.jit
def scaled(score, peak, temperature):
    """(score - peak) / temperature, at most 0. `div_rn`, since `/` is an approximation in Triton."""
    return tl.div_rn(score - peak, tl.maximum(temperature, SMALLEST_TEMPERATURE))


@triton.jit
def key_of(x):
    """Whole numbers in the order of the scores x <= 0, the largest score first."""
    return x.to(tl.int32, bitcast=True) & 0x7FFFFFFF


@triton.jit
def score_of(key):
    """The x <= 0 that has this key."""
    return -key.to(tl.float32, bitcast=True)


@triton.jit
def weight_of(x):
    """floor(2^40 exp(x)), int64, operation for operation as `weights.weights`."""
    x = tl.maximum(x, LOWEST)
    power = tl.floor(x * LOG2_E + 0.5)
    rest = (x - power * LN2_HIGH) - power * LN2_LOW
    exp = TAYLOR_6 * rest + TAYLOR_5
    exp = exp * rest + TAYLOR_4
    exp = exp * rest + TAYLOR_3
    exp = exp * rest + TAYLOR_2
    exp = exp * rest + TAYLOR_1
    exp = exp * rest + TAYLOR_0
    exponent = (power + ONE_EXPONENT).to(tl.int32) << 23
    return (exp * exponent.to(tl.float32, bitcast=True)).to(tl.int64)


@triton.jit
def ceil_of(value):
    """The smallest whole number not below value >= 0: float64 to int64."""
    whole = value.to(tl.int64)
    return whole + (whole.to(tl.float64) < value).to(tl.int64)


@triton.jit
def share_of(share, mass):
    """The mass that a share of it must reach: ceil(share * mass)."""
    return ceil_of(share.to(tl.float64) * mass.to(tl.float64))


@triton.jit
def least_weight(min_p):
    """What a token must weigh to be at least min_p times as likely as the likeliest."""
    return ceil_of(min_p.to(tl.float64) * ONE)


@triton.jit
def uniform_of(seed, sample, position):
    """53 bits of Philox4x32-10 as a number in [0, 1), float64; see uniforms.py."""
    position, sample = position.to(tl.uint32), sample.to(tl.uint32)
    zero = position * 0
    word0, word1, _, _ = tl.philox(seed, position, sample, zero, zero)
    mantissa = ((word0 >> 5).to(tl.int64) << 26) | (word1 >> 6).to(tl.int64)
    return mantissa.to(tl.float64) * (2.0**-53)
