"""One pass over the logits of a binary loss: the losses or their sum, and the gradient.

(a) Labels are looked at before a tile is computed.  Integers are 0, 1 or invalid.  Floats are nearly always 0 or 1; a
    tile that holds another label goes the longer way of `soft_labels`, in parts of one element a thread: 8 at a time
    would need 145 registers, and so would every tile.
(b) A thread adds the losses of its elements in float32, as a tree, and the sums of its tiles as a pair.  The last sum,
    over the lanes of a program, is in float64.
"""

from __future__ import annotations

import triton
import triton.language as tl

from parfocal.backends.triton.elementary import exponential, reciprocal
from parfocal.backends.triton.focal import binary_expected, binary_hard, binary_linear, finite, two_sum, weighted

# What labels between 0 and 1 mean: HARD says that there are none, PAIR that none is allowed (a gamma pair has a meaning
# for hard labels alone).
HARD, LINEAR, EXPECTED, PAIR = (tl.constexpr(rule) for rule in range(4))

# Tiles have 8 elements a thread: 16 bytes of half precision, and twice 16 of float32.  At any other gamma than 0 to 3
# and with weights that are broadcast they have 4, as 8 would need 89 registers, and 64 let twice as many threads run.
WARPS = 4
THREADS = tl.constexpr(32 * WARPS)


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
            x, e, y_1 == 1.0, gamma_0, gamma_0_low, gamma_1, gamma_1_low, w_0, w_1, by_0, by_1, -1
        )
        if RULE == LINEAR:
            soft_loss, soft_slope = binary_linear(x, e, y_1, y_0, gamma_1, gamma_1_low, w_0, w_1, by_0, by_1)
            hard = (y_1 == 0.0) | (y_0 == 0.0)
            loss, slope = tl.where(hard, loss, soft_loss), tl.where(hard, slope, soft_slope)
    return tl.where(known, loss, float("nan")), tl.where(known, slope, float("nan"))


@triton.jit
def thread_sums(values, TILE: tl.constexpr, HALVES: tl.constexpr):
    """The sums of the 4 or 8 values of each thread, as a tree whose order is fixed and whose numbers never move.

    A thread has 8 neighbours of half precision, and twice 4 of float32: there the last sum is that of the HALVES.
    """
    a, b = tl.split(tl.reshape(values, (TILE // 2, 2)))
    a, b = tl.split(tl.reshape(a + b, (TILE // 4, 2)))
    sums = a + b
    if TILE == 8 * THREADS:
        if HALVES:
            a, b = tl.split(tl.permute(tl.reshape(sums, (2, TILE // 8)), (1, 0)))
        else:
            a, b = tl.split(tl.reshape(sums, (TILE // 8, 2)))
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
def finish(
    loss,
    slope,
    left_out,
    start,
    at,
    inside,
    weight_at,
    upstream_at,
    losses_at,
    gradient_at,
    inner,
    outer_stride,
    inner_stride,
    BROADCAST: tl.constexpr,
    ONE_FACTOR: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Weights and writes what was computed, and returns the losses."""
    if weight_at is not None:
        places = broadcast_places(start, inner, outer_stride, inner_stride, SIZE) if BROADCAST else at
        weight = tl.load(weight_at + places, mask=inside, other=0.0).to(tl.float32)
        loss, slope = weighted(weight, loss), weight * slope
    loss, slope = tl.where(left_out, 0.0, loss), tl.where(left_out, 0.0, slope)
    if losses_at is not None:
        tl.store(losses_at + at, loss, mask=inside)
    if gradient_at is not None:
        if upstream_at is not None:
            factor = tl.load(upstream_at) if ONE_FACTOR else tl.load(upstream_at + at, mask=inside, other=0.0)
            slope *= factor.to(tl.float32)
        tl.store(gradient_at + at, slope.to(gradient_at.dtype.element_ty), mask=inside)
    return loss


@triton.jit(do_not_specialize=["steps", "ignore", "inner", "outer_stride", "inner_stride"])
def binary_kernel(
    x_at,  # n logits, one after the other; the same holds for labels, losses, gradient and upstream factors
    labels_at,
    weight_at,  # one for each logit, or rows of `inner` with strides, or None
    upstream_at,  # factors of the gradient, or None
    losses_at,  # or None
    sums_at,  # one float64 for each program, or None
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
    G: tl.constexpr,
    RULE: tl.constexpr,
    SMOOTH: tl.constexpr,
    IGNORES: tl.constexpr,
    BROADCAST: tl.constexpr,  # the weight is not one for each logit, one after the other
    ONE_FACTOR: tl.constexpr,  # one upstream factor for all elements
    TILE: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    if divisor_at is not None:
        scale = reciprocal(tl.load(divisor_at).to(tl.float32))
        by_0 *= scale
        by_1 *= scale
    sums = tl.zeros((THREADS,), tl.float32)
    lost = tl.zeros((THREADS,), tl.float32)
    for step in range(steps):
        start = (program * steps + step) * TILE
        at = start + tl.arange(0, TILE)
        inside = at < n
        labels = tl.load(labels_at + at, mask=inside, other=0)
        left_out = ~inside
        if IGNORES:
            left_out |= labels == ignore
        others = (labels != 0) & (labels != 1)
        if RULE == HARD:
            hard = True
        elif SMOOTH:
            hard = False
        else:
            hard = tl.max((others & ~left_out).to(tl.int32), axis=0) == 0
        if hard:
            x = tl.load(x_at + at, mask=inside, other=0.0).to(tl.float32)
            e = exponential(-tl.abs(x))
            loss, slope = binary_hard(
                x, e, labels != 0, gamma_0, gamma_0_low, gamma_1, gamma_1_low, w_0, w_1, by_0, by_1, G
            )
            if RULE == HARD:
                loss, slope = tl.where(others, float("nan"), loss), tl.where(others, float("nan"), slope)
            loss = finish(
                loss,
                slope,
                left_out,
                start,
                at,
                inside,
                weight_at,
                upstream_at,
                losses_at,
                gradient_at,
                inner,
                outer_stride,
                inner_stride,
                BROADCAST,
                ONE_FACTOR,
                TILE,
            )
            if sums_at is not None:
                loss = thread_sums(loss, TILE, x_at.dtype.element_ty.primitive_bitwidth == 32)
                sums, low = two_sum(sums, loss)
                lost += tl.where(finite(low), low, 0.0)
        else:
            for part in range(TILE // THREADS):
                start_ = start + part * THREADS
                at_ = start_ + tl.arange(0, THREADS)
                inside_ = at_ < n
                x_ = tl.load(x_at + at_, mask=inside_, other=0.0).to(tl.float32)
                labels_ = tl.load(labels_at + at_, mask=inside_, other=0)
                left_out_ = ~inside_
                if IGNORES:
                    left_out_ |= labels_ == ignore
                loss_, slope_ = soft_labels(
                    x_,
                    exponential(-tl.abs(x_)),
                    labels_.to(tl.float32),
                    (1 - labels_).to(tl.float32),
                    gamma_0,
                    gamma_0_low,
                    gamma_1,
                    gamma_1_low,
                    w_0,
                    w_1,
                    by_0,
                    by_1,
                    smoothing,
                    RULE,
                )
                loss_ = finish(
                    loss_,
                    slope_,
                    left_out_,
                    start_,
                    at_,
                    inside_,
                    weight_at,
                    upstream_at,
                    losses_at,
                    gradient_at,
                    inner,
                    outer_stride,
                    inner_stride,
                    BROADCAST,
                    ONE_FACTOR,
                    THREADS,
                )
                if sums_at is not None:
                    sums, low_ = two_sum(sums, loss_)
                    lost += tl.where(finite(low_), low_, 0.0)
    if sums_at is not None:
        tl.store(sums_at + program, tl.sum(sums.to(tl.float64) + lost.to(tl.float64), axis=0))
