"""One pass over the logits of a binary loss: the losses or their sum, and the gradient.

(a) Labels are looked at before a tile is computed.  Integers are 0, 1 or invalid.  Floats are nearly always 0 or 1; a
    tile that holds another label goes the longer way of `soft_labels`, in parts of one element a thread: 8 at a time
    would need 145 registers, and so would every tile.
(b) A thread adds the losses of its elements in float32, as a tree, and the sums of its tiles as a pair.  The last sum,
    over the lanes of a program, is in float64.  A single program divides it, too.
"""

from __future__ import annotations

import triton
import triton.language as tl

from parfocal.backends.triton.elementary import exponential, reciprocal
from parfocal.backends.triton.focal import BOTH, binary_expected, binary_hard, binary_linear, finite, two_sum, weighted
from parfocal.backends.triton.sums import quotient

# What labels between 0 and 1 mean: HARD says that there are none, PAIR that none is allowed (a gamma pair has a meaning
# for hard labels alone).
HARD, LINEAR, EXPECTED, PAIR = (tl.constexpr(rule) for rule in range(4))

# A tile has 8 elements for each thread: 16 bytes of half precision, and twice 16 of float32.  At other gammas than 0 to
# 3, with weights that are broadcast and with int64 labels it is computed in two parts: 8 at a time would need 89
# registers, and 64 let twice as many threads run.
WARPS = 4
THREADS, TILE = tl.constexpr(32 * WARPS), tl.constexpr(8 * 32 * WARPS)


@triton.jit
def soft_labels(
    x, e, y, y_0, gamma_0, gamma_0_low, gamma_1, gamma_1_low, w_0, w_1, by_0, by_1, smoothing, RULE: tl.constexpr
):
    """Losses and slopes for labels in [0, 1], whatever they are; NaN for others."""
    known = (y >= 0.0) & (y <= 1.0)
    if RULE == PAIR:
        known &= (y == 0.0) | (y == 1.0)
    y_1 = tl.fma(-smoothing, y, y) + 0.5 * smoothing
    y_0 = tl.fma(-smoothing, y_0, y_0) + 0.5 * smoothing
    if RULE == EXPECTED:
        loss, slope = binary_expected(x, e, y_1, y_0, gamma_0, gamma_0_low, gamma_1, gamma_1_low, w_0, w_1, by_0, by_1)
    else:
        # Hard labels are the limit of soft ones, at which the formula of soft labels divides 0 by 0.
        loss, slope = binary_hard(
            x, e, y_1 == 1.0, gamma_0, gamma_0_low, gamma_1, gamma_1_low, w_0, w_1, by_0, by_1, BOTH
        )
        if RULE == LINEAR:
            soft_loss, soft_slope = binary_linear(x, e, y_1, y_0, gamma_1, gamma_1_low, w_0, w_1, by_0, by_1)
            hard = (y_1 == 0.0) | (y_0 == 0.0)
            loss, slope = tl.where(hard, loss, soft_loss), tl.where(hard, slope, soft_slope)
    return tl.where(known, loss, float("nan")), tl.where(known, slope, float("nan"))


@triton.jit
def thread_sums(values, SIZE: tl.constexpr, HALVES: tl.constexpr):
    """The sums of the 1, 4 or 8 values of each thread, as a tree whose order is fixed and whose numbers never move.

    Of 8, a thread has 8 neighbours of half precision, and twice 4 of float32: there the last sum is that of the HALVES.
    """
    sums = values
    if SIZE > THREADS:
        a, b = tl.split(tl.reshape(sums, (SIZE // 2, 2)))
        a, b = tl.split(tl.reshape(a + b, (SIZE // 4, 2)))
        sums = a + b
    if SIZE == 8 * THREADS:
        if HALVES:
            a, b = tl.split(tl.permute(tl.reshape(sums, (2, SIZE // 8)), (1, 0)))
        else:
            a, b = tl.split(tl.reshape(sums, (SIZE // 8, 2)))
        sums = a + b
    return sums


@triton.jit
def broadcast_places(start, inner, outer_stride, inner_stride, SIZE: tl.constexpr):
    """Where the elements from `start` on lie in an array of rows of `inner` elements; a stride may be 0.

    Only the start is divided as an int64: an element is a small number of rows away.
    """
    row = start // inner
    past = (start - row * inner) + tl.arange(0, SIZE)
    rows = past.to(tl.int32) // inner.to(tl.int32)
    return (row + rows) * outer_stride + (past - rows * inner) * inner_stride


@triton.jit
def part_of_tile(
    x_at,
    labels_at,
    weight_at,
    upstream_at,
    losses_at,
    gradient_at,
    start,
    n,
    ignore,
    inner,
    outer_stride,
    inner_stride,
    gamma_0,
    gamma_0_low,
    gamma_1,
    gamma_1_low,
    w_0,
    w_1,
    by_0,
    by_1,
    smoothing,
    G: tl.constexpr,
    RULE: tl.constexpr,
    IGNORES: tl.constexpr,
    BROADCAST: tl.constexpr,
    ONE_FACTOR: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Reads SIZE elements, writes their losses and gradient, and returns the losses."""
    at = start + tl.arange(0, SIZE)
    inside = at < n
    x = tl.load(x_at + at, mask=inside, other=0.0).to(tl.float32)
    labels = tl.load(labels_at + at, mask=inside, other=0)
    e = exponential(-tl.abs(x))
    if RULE == HARD:
        loss, slope = binary_hard(
            x, e, labels != 0, gamma_0, gamma_0_low, gamma_1, gamma_1_low, w_0, w_1, by_0, by_1, G
        )
        if not labels.dtype.is_floating():
            invalid = (labels != 0) & (labels != 1)
            loss, slope = tl.where(invalid, float("nan"), loss), tl.where(invalid, float("nan"), slope)
    else:
        y, y_0 = labels.to(tl.float32), (1 - labels).to(tl.float32)
        loss, slope = soft_labels(
            x, e, y, y_0, gamma_0, gamma_0_low, gamma_1, gamma_1_low, w_0, w_1, by_0, by_1, smoothing, RULE
        )
    if weight_at is not None:
        places = broadcast_places(start, inner, outer_stride, inner_stride, SIZE) if BROADCAST else at
        weight = tl.load(weight_at + places, mask=inside, other=0.0).to(tl.float32)
        loss, slope = weighted(weight, loss), weight * slope
    left_out = ~inside
    if IGNORES:
        left_out |= labels == ignore
    loss, slope = tl.where(left_out, 0.0, loss), tl.where(left_out, 0.0, slope)
    if losses_at is not None:
        tl.store(losses_at + at, loss, mask=inside)
    if gradient_at is not None:
        if upstream_at is not None:
            factor = tl.load(upstream_at) if ONE_FACTOR else tl.load(upstream_at + at, mask=inside, other=0.0)
            slope *= factor.to(tl.float32)
        tl.store(gradient_at + at, slope.to(gradient_at.dtype.element_ty), mask=inside)
    return loss


@triton.jit
def has_soft_labels(labels_at, start, n, ignore, IGNORES: tl.constexpr):
    """Whether a tile has a label that is neither 0 nor 1, and counts."""
    at = start + tl.arange(0, TILE)
    labels = tl.load(labels_at + at, mask=at < n, other=0)
    soft = (labels != 0) & (labels != 1)
    if IGNORES:
        soft &= labels != ignore
    return tl.max(soft.to(tl.int32), axis=0) != 0


@triton.jit
def add_losses(sums, lost, losses, SIZE: tl.constexpr, HALVES: tl.constexpr):
    """The pair of sums of each thread, with more losses."""
    sums, low = two_sum(sums, thread_sums(losses, SIZE, HALVES))
    return sums, lost + low


@triton.jit(do_not_specialize=["steps", "ignore", "inner", "outer_stride", "inner_stride"])
def binary_kernel(
    x_at,  # n logits, one after the other; the same holds for labels, losses, gradient and upstream factors
    labels_at,
    weight_at,  # one for each logit, or rows of `inner` with strides, or None
    upstream_at,  # factors of the gradient, or None
    losses_at,  # or None
    sums_at,  # one float64 for each program; one float32 if there is one program: the sum, divided; or None
    gradient_at,  # or None
    divisor_at,  # a number that the gradient is divided by, or None
    n,
    steps,
    ignore,  # the label of elements that do not count
    inner,
    outer_stride,
    inner_stride,
    gamma_0,  # for label 0, and what float32 misses of it
    gamma_0_low,
    gamma_1,
    gamma_1_low,
    w_0,  # factors of the loss of label 0 and 1
    w_1,
    by_0,  # factors of its gradient: the same, times the scale of the reduction
    by_1,
    smoothing,
    divisor,  # of the sum, beside the one on the device, and what float32 misses of it
    divisor_low,
    G: tl.constexpr,
    RULE: tl.constexpr,
    SMOOTH: tl.constexpr,
    IGNORES: tl.constexpr,
    BROADCAST: tl.constexpr,  # the weight is not one for each logit, one after the other
    ONE_FACTOR: tl.constexpr,  # one upstream factor for all elements
    PART: tl.constexpr,  # of a tile, that is computed at once
):
    program = tl.program_id(0).to(tl.int64)
    if divisor_at is not None:
        scale = reciprocal(tl.load(divisor_at).to(tl.float32))
        by_0 *= scale
        by_1 *= scale
    HALVES: tl.constexpr = x_at.dtype.element_ty.primitive_bitwidth == 32
    sums = tl.zeros((THREADS,), tl.float32)
    lost = tl.zeros((THREADS,), tl.float32)
    for step in range(steps):
        start = (program * steps + step) * TILE
        if SMOOTH:
            soft = True
        elif RULE == HARD:
            soft = False
        else:
            soft = has_soft_labels(labels_at, start, n, ignore, IGNORES)
        if soft:
            for part in range(TILE // THREADS):
                losses = part_of_tile(
                    x_at,
                    labels_at,
                    weight_at,
                    upstream_at,
                    losses_at,
                    gradient_at,
                    start + part * THREADS,
                    n,
                    ignore,
                    inner,
                    outer_stride,
                    inner_stride,
                    gamma_0,
                    gamma_0_low,
                    gamma_1,
                    gamma_1_low,
                    w_0,
                    w_1,
                    by_0,
                    by_1,
                    smoothing,
                    G,
                    RULE,
                    IGNORES,
                    BROADCAST,
                    ONE_FACTOR,
                    THREADS,
                )
                if sums_at is not None:
                    sums, lost = add_losses(sums, lost, losses, THREADS, HALVES)
        else:
            for part in range(TILE // PART):
                losses = part_of_tile(
                    x_at,
                    labels_at,
                    weight_at,
                    upstream_at,
                    losses_at,
                    gradient_at,
                    start + part * PART,
                    n,
                    ignore,
                    inner,
                    outer_stride,
                    inner_stride,
                    gamma_0,
                    gamma_0_low,
                    gamma_1,
                    gamma_1_low,
                    w_0,
                    w_1,
                    by_0,
                    by_1,
                    smoothing,
                    G,
                    HARD,
                    IGNORES,
                    BROADCAST,
                    ONE_FACTOR,
                    PART,
                )
                if sums_at is not None:
                    sums, lost = add_losses(sums, lost, losses, PART, HALVES)
    if sums_at is not None:
        lost = tl.where(finite(sums), lost, 0.0)  # an infinite sum has lost nothing
        total = tl.sum(sums.to(tl.float64) + lost.to(tl.float64), axis=0)
        if sums_at.dtype.element_ty == tl.float32:
            tl.store(sums_at + tl.arange(0, 1), quotient(total, divisor_at, divisor, divisor_low).to(tl.float32))
        else:
            tl.store(sums_at + program, total)
