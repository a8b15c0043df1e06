"""The sum over all programs of a kernel, and what a mean divides by where only the device knows it.

The one division here is float64's, which IEEE rounds: one program computes it once.
"""

from __future__ import annotations

import triton
import triton.language as tl

LANES = tl.constexpr(1024)


@triton.jit
def quotient(total, divisor_at, divisor, divisor_low):
    """A sum in float64, divided by a number on the device, if there is one, and by one of the host."""
    one = tl.full((1,), 1.0, tl.float64)
    total = one * total
    if divisor_at is not None:
        total /= tl.load(divisor_at).to(tl.float64)
    return total / (one * divisor + one * divisor_low)


@triton.jit(do_not_specialize=["n"])
def total_kernel(
    sums_at,  # n numbers, float64
    result_at,  # with AS_DIVISOR also the same as a divisor: 1 in place of 0, or at least 1
    divisor_at,  # a number in the device's memory, or None
    n,
    divisor,  # and what float32 misses of it
    divisor_low,
    AS_DIVISOR: tl.constexpr,
    AT_LEAST_ONE: tl.constexpr,
):
    """Writes the sum of n numbers, divided."""
    sums = tl.zeros((LANES,), tl.float64)
    for start in range(0, n, LANES):
        at = start + tl.arange(0, LANES)
        sums += tl.load(sums_at + at, mask=at < n, other=0.0)
    total = quotient(tl.sum(sums, axis=0), divisor_at, divisor, divisor_low)
    tl.store(result_at + tl.arange(0, 1), total.to(result_at.dtype.element_ty))
    if AS_DIVISOR:
        other = total < 1.0 if AT_LEAST_ONE else total == 0.0
        tl.store(result_at + 1 + tl.arange(0, 1), tl.where(other, 1.0, total).to(result_at.dtype.element_ty))


@triton.jit(do_not_specialize=["steps", "ignore"])
def count_kernel(
    labels_at,  # n labels, one after the other
    weights_at,  # one for each class, or None
    sums_at,  # one float64 for each program
    n,
    classes,
    steps,
    ignore,
    IGNORES: tl.constexpr,
    POSITIVES: tl.constexpr,  # adds up the labels themselves
    TILE: tl.constexpr,
):
    """Counts the labels that are not ignored, or adds up their weights."""
    program = tl.program_id(0).to(tl.int64)
    sums = tl.zeros((TILE,), tl.float64)
    for step in range(steps):
        at = (program * steps + step) * TILE + tl.arange(0, TILE)
        counts = at < n
        labels = tl.load(labels_at + at, mask=counts, other=0)
        if IGNORES:
            counts &= labels != ignore
        if POSITIVES:
            sums += tl.where(counts, labels.to(tl.float64), 0.0)
        elif weights_at is not None:
            known = counts & (labels >= 0) & (labels < classes)
            sums += tl.load(weights_at + tl.where(known, labels, 0), mask=known, other=0.0).to(tl.float64)
        else:
            sums += tl.where(counts, 1.0, 0.0).to(tl.float64)
    tl.store(sums_at + program, tl.sum(sums, axis=0))


@triton.jit
def multiply_kernel(
    values_at,  # n numbers, one after the other
    factor_at,
    n,
    TILE: tl.constexpr,
):
    """Multiplies in place, and returns at once where the factor is 1, as that of a sum nearly always is."""
    factor = tl.load(factor_at).to(tl.float32)
    if factor != 1.0:
        at = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
        values = tl.load(values_at + at, mask=at < n, other=0.0).to(tl.float32)
        tl.store(values_at + at, (values * factor).to(values_at.dtype.element_ty), mask=at < n)
