"""Exponential and logarithms of float32, of IEEE operations only.

As in native/elementary.hpp: no branches; adding and subtracting 1.5 * 2^23 rounds to an integer; bits make powers of
two; results below the smallest normal number are 0.  The differences:

(a) A GPU has fused multiply-add, so k * log 2 may have all of its bits: x - k * LOG_2 is exact.
(b) Polynomials are Horner's chains, which have the fewest instructions; other elements hide their latency.
(c) A division takes as long as half of the loss.  Reciprocals are Newton's, from a polynomial or from bits.
(d) The logarithm of a sum of exponentials is a pair of float32: many cards compute float64 64 times slower.
"""

from __future__ import annotations

import triton
import triton.language as tl

ROUND = tl.constexpr(12582912.0)  # 1.5 * 2^23: the integer is in the lowest bits
BIAS = tl.constexpr(127)
MANTISSA = tl.constexpr(23)
LOG2_E = tl.constexpr(1.4426950408889634)
LOG_2 = tl.constexpr(0.693147182464599609375)  # the nearest float32, and what it misses
LOG_2_MISSES = tl.constexpr(-1.904654323148236e-9)
LOWEST_EXPONENT = tl.constexpr(-87.3365)  # log of the smallest normal number
INFINITE = tl.constexpr(float("inf"))

# A slope reaches 1.46 (gamma 10), so its product with an exponential may be a normal number where the exponential is
# not.  Such exponentials are stored times 2^24.
UP = tl.constexpr(24)
TWO_TO_UP = tl.constexpr(16777216.0)
DOWN = tl.constexpr(1 / 16777216.0)


@triton.jit
def exponential_terms(r):
    """exp(r) - 1 for |r| <= log(2) / 2, as exp_terms of native/elementary.hpp have it."""
    terms = tl.fma(1.392618359e-3, r, 8.363179053e-3)
    terms = tl.fma(terms, r, 4.166655462e-2)
    terms = tl.fma(terms, r, 1.666657699e-1)
    terms = tl.fma(terms, r, 5.0e-1)
    return tl.fma(r * r, terms, r)


@triton.jit
def power_of_two(shifted):
    """2^k, where `shifted` is ROUND + BIAS + k."""
    return (shifted.to(tl.int32, bitcast=True) << MANTISSA).to(tl.float32, bitcast=True)


@triton.jit
def exponential(high, low=None):
    """exp(high + low) for high <= 0."""
    shifted = tl.fma(high, LOG2_E, ROUND + BIAS)
    exponent = shifted - (ROUND + BIAS)
    r = tl.fma(exponent, -LOG_2_MISSES, tl.fma(exponent, -LOG_2, high))
    if low is not None:
        r += low
    value = (1.0 + exponential_terms(r)) * power_of_two(shifted)
    return tl.where(high < LOWEST_EXPONENT, 0.0, value)


@triton.jit
def log1p(e):
    """log(1 + e) for 0 <= e <= 1, and what rounding lost of it."""
    terms = tl.fma(2.801641993e-3, e, -1.718426698e-2)
    terms = tl.fma(terms, e, 4.930997343e-2)
    terms = tl.fma(terms, e, -9.139413774e-2)
    terms = tl.fma(terms, e, 1.303336424e-1)
    terms = tl.fma(terms, e, -1.636515287e-1)
    terms = tl.fma(terms, e, 1.995670795e-1)
    terms = tl.fma(terms, e, -2.499675991e-1)
    terms = tl.fma(terms, e, 3.333323735e-1)
    terms = tl.fma(terms, e, -4.999999952e-1)
    rest = e * e * terms
    total = e + rest
    return total, rest - (total - e)


@triton.jit
def inverse_of_one_plus(e):
    """1 / (1 + e) for 0 <= e <= 1.

    The quadratic is within 1/99, its first Newton step within 1e-4, and the second, whose residual takes e itself and
    not the rounded sum, within half a unit of the last place and 1e-8.
    """
    sum_ = 1.0 + e
    inverse = tl.fma(tl.fma(0.32323232, e, -0.80808081), e, 0.98989899)
    inverse = tl.fma(inverse, tl.fma(-sum_, inverse, 1.0), inverse)
    return tl.fma(inverse, tl.fma(-e, inverse, 1.0 - inverse), inverse)


@triton.jit
def reciprocal(x):
    """1 / x for x in [2^-125, 2^125], within a unit of the last place.

    The bits of a float are nearly its logarithm, so subtracting them inverts it, within 12 %; Newton's steps square
    that to 1.5 %, 0.02 % and 5e-8.
    """
    inverse = (0x7EF311C7 - x.to(tl.int32, bitcast=True)).to(tl.float32, bitcast=True)
    inverse = tl.fma(inverse, tl.fma(-x, inverse, 1.0), inverse)
    inverse = tl.fma(inverse, tl.fma(-x, inverse, 1.0), inverse)
    return tl.fma(inverse, tl.fma(-x, inverse, 1.0), inverse)


@triton.jit
def reciprocal_of_pair(high, low):
    """1 / (high + low), within half a unit of the last place and 1e-9."""
    inverse = reciprocal(high)
    return tl.fma(inverse, tl.fma(-high, inverse, 1.0) - low * inverse, inverse)


@triton.jit
def logarithm(high, low):
    """log(high + low) for high >= 0 as a pair that is exact to about 1e-9; log(0) is -infinity.

    high = 2^k f with f between the square roots of 1/2 and 2, and log f = 2 artanh t with t = (f - 1) / (f + 1), whose
    rounding is known from the remainder of the division.
    """
    bits = high.to(tl.int32, bitcast=True) + (0x3F800000 - 0x3F3504F3)
    field = bits >> MANTISSA
    k = ((field | 0x4B000000).to(tl.float32, bitcast=True) - 8388608.0) - 127.0
    f = ((bits & 0x007FFFFF) + 0x3F3504F3).to(tl.float32, bitcast=True)
    f_low = low * ((254 - field) << MANTISSA).to(tl.float32, bitcast=True)
    above, sum_ = f - 1.0, f + 1.0
    sum_low, inverse = f - (sum_ - 1.0), reciprocal(sum_)
    t = above * inverse
    remainder = tl.fma(-t, sum_, above) + tl.fma(1.0 - t, f_low, -(t * sum_low))
    s = t * t
    terms = tl.fma(2 / 11, s, 2 / 9)
    terms = tl.fma(terms, s, 2 / 7)
    terms = tl.fma(terms, s, 2 / 5)
    terms = tl.fma(terms, s, 2 / 3)
    # log 2 as a pair whose high part has 9 bits, so that its products with k are exact.
    large, small = k * 0.693359375, 2.0 * t
    total = large + small
    kept = total - large
    lost = (large - (total - kept)) + (small - kept)
    total_low = lost + tl.fma(k, -2.121944400546905827679e-4, tl.fma(t * s, terms, 2.0 * remainder * inverse))
    total = tl.where(high == 0.0, -INFINITE, tl.where(high == high, total, high))
    return total, tl.where(high > 0.0, total_low, 0.0)
