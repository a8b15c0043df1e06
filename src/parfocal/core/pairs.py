"""Numbers as pairs: a rounded number, and what rounding lost.

A namespace may have `wide` and `narrow` instead, from float32 to float64 and back.  Then what would be a pair is a wide
number and None, which takes a third of the operations.
"""

from __future__ import annotations

from typing import Any

Array = Any
Namespace = Any

# log 2 as a pair whose high part has 9 bits, so that small multiples of it are exact.
LOG_2_HIGH, LOG_2_LOW = 0.693359375, -2.121944400546905827679e-4
SHIFTS = (512, 256, 128, 64, 32, 16, 8, 4, 2, 1)
ROOT_OF_HALF = 0.5**0.5


def widens(xp: Namespace) -> bool:
    return hasattr(xp, "wide")


def wide(xp: Namespace, a: Array) -> Array:
    return xp.wide(a) if hasattr(xp, "wide") else a


def narrow(xp: Namespace, a: Array) -> Array:
    return xp.narrow(a) if hasattr(xp, "wide") else a


def plus(a: Array, low: Array | None) -> Array:
    """A pair as one number."""
    return a if low is None else a + low


def two_sum(xp: Namespace, a: Array, b: Array) -> tuple[Array, Any]:
    """The rounded sum and what rounding lost (Knuth 1969); the pair is exact."""
    if widens(xp):
        a = wide(xp, a)
        return a + wide(xp, b), None
    total = materialised(xp, a + b)
    b_kept = total - a
    return total, materialised(xp, (a - (total - b_kept)) + (b - b_kept))


def materialised(xp: Namespace, value: Array) -> Array:
    """The same value, which a compiler should store and not compute again at each use."""
    return xp.materialised(value) if hasattr(xp, "materialised") else value


def stored(xp: Namespace, value: Array) -> Array:
    """The same value, which a compiler must store: it is large, and each of several sums would compute it again."""
    return xp.stored(value) if hasattr(xp, "stored") else value


def logit_difference(xp: Namespace, a: Array, b: Array) -> tuple[Array, Any]:
    """`a - b` and what rounding lost.  Equal infinities differ by 0, and an infinite difference has lost nothing."""
    high, low = (wide(xp, a) - wide(xp, b), None) if widens(xp) else two_sum(xp, a, -b)
    return xp.where(a == b, 0.0, high), lost(xp, low)


def lost(xp: Namespace, low: Array | None) -> Array | None:
    """What rounding lost: nothing of an infinite sum, where `two_sum` says NaN."""
    return None if low is None else xp.where(xp.isnan(low), 0.0, low)


def split(a: Array, bits: int) -> tuple[Array, Array]:
    """`a` as a high and a low half, with `bits` bits cut off the high one (Veltkamp 1968); the pair is exact."""
    shifted = a * (2.0**bits + 1.0)
    high = shifted - (shifted - a)
    return high, a - high


def binary_exponent(xp: Namespace, a: Array, lowest: int | None = None) -> tuple[Array, Array]:
    """(b, k) with a = 2^k b and b in [1/2, 1], for a in [2^lowest, 1].  A namespace may have its own function."""
    if hasattr(xp, "binary_exponent"):
        return xp.binary_exponent(a)
    if lowest is None:
        lowest = -1023 if a.dtype == xp.float64 else -127
    k = xp.zeros_like(a)
    for shift in (shift for shift in SHIFTS if shift <= -lowest):
        small = a < 2.0**-shift
        a, k = xp.where(small, a * 2.0**shift, a), xp.where(small, k - shift, k)
    return a, k


def log_pair(xp: Namespace, a: Array, scale: int = 0) -> tuple[Array, Any]:
    """log a as a pair, for a in (0, 2^scale], or [1, 2^scale] where `scale` is given.

    log a = k log 2 + log b for a = 2^k b, and k log 2 is known exactly enough.  b lies between the square roots of 1/2
    and 2, where log b is small, and so is its rounding.
    """
    if widens(xp):
        return xp.log(wide(xp, a)), None
    b, k = binary_exponent(xp, a * 2.0**-scale, -scale - 1) if scale else binary_exponent(xp, a)
    small = b < ROOT_OF_HALF
    b, k = xp.where(small, 2 * b, b), xp.where(small, k - 1, k) + scale
    high, low = two_sum(xp, k * LOG_2_HIGH, xp.log(b))
    return two_sum(xp, high, low + k * LOG_2_LOW)


def sum_pair(xp: Namespace, values: Array, bound: Array | None = None) -> tuple[Array, Any]:
    """The sum of numbers of one sign over the last axis, which keeps the length 1; and what rounding lost.

    Each number is cut at the last bit of twice the sum (Rump, Ogita and Oishi 2008): the high parts add up exactly, in
    any order, and the parts that were cut off are small.  `bound` is a power of two above the sum, if one is known.
    """
    if widens(xp):
        return xp.sum(values, axis=-1, keepdims=True), None
    bound = 2 * xp.sum(values, axis=-1, keepdims=True) if bound is None else bound
    high = materialised(xp, values + bound) - bound
    rest = xp.sum(values - high, axis=-1, keepdims=True)
    return two_sum(xp, xp.sum(high, axis=-1, keepdims=True), rest)


def sum_of_rounded(xp: Namespace, values: Array) -> tuple[Array, Array]:
    """The same for numbers whose whole parts add up exactly, in two sums that read them once each."""
    again = stored(xp, values)  # a compiler would store what is rounded, for both sums
    rest = xp.sum(again - xp.round(again), axis=-1, keepdims=True)
    return two_sum(xp, xp.sum(xp.round(values), axis=-1, keepdims=True), rest)
