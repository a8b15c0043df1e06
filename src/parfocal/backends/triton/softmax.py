"""The rows of a softmax with one true class each.

(a) Many classes that lie together: a program has one row and a tile of its classes (`rows_kernel`).  Where all of them
    fit, each logit is read once, and its exponential stays in a register.  Otherwise a first pass over the row's tiles
    sums them up, and a second one computes the exponentials again and writes the gradient.
(b) Few classes, or classes apart in memory: a thread has a row and goes through its classes (`columns_kernel`), with
    neighbouring rows in neighbouring threads.  No class is padding, and nothing is exchanged between threads.
(c) The target is left out of the sum.  The exponentials of the others are relative to an anchor, the largest logit (of
    the first tile), so that the largest is exactly 1 and an exact difference of logits stays exact.  Where a later tile
    has a larger logit, all are divided by a power of two, which loses nothing.
(d) Sums over classes, and their logarithm, are pairs of float32: the loss multiplies the margin's errors by 1 + gamma.
"""

from __future__ import annotations

import triton
import triton.language as tl

from parfocal.backends.triton.elementary import (
    BIAS,
    DOWN,
    INFINITE,
    LOG2_E,
    LOG_2,
    LOG_2_MISSES,
    LOWEST_EXPONENT,
    ROUND,
    TWO_TO_UP,
    UP,
    exponential_terms,
    power_of_two,
    reciprocal,
    reciprocal_of_pair,
)
from parfocal.backends.triton.focal import exponential_of_size, focal, margin, two_sum, weighted

# G of a gamma that depends on the margin; beside those of focal.py.
SCHEDULE = tl.constexpr(-3)

# 64 above all that was summed up before, 100,000 exponentials are 1e-23 of one: they don't count.
FORGOTTEN = tl.constexpr(64.0)

# -- exponentials of the other classes, and their sum


@triton.jit
def anchored(anchor, doublings):
    """What `exponentials` needs of a row whose exponentials are relative to anchor + doublings * log 2.

    anchor = base + turns * log 2 + rest, with a whole number of turns.  Logits this large lie so far apart that their
    difference is exact; there the anchor itself is the base.
    """
    far = tl.abs(anchor) >= 65536.0
    base, turn = tl.where(far, anchor, 0.0), tl.where(far, 0.0, anchor)
    turns = tl.fma(turn, LOG2_E, ROUND) - ROUND
    lowest = tl.fma(doublings, LOG_2, LOWEST_EXPONENT - 16.6)  # 24 log 2 lower, as they are multiplied by 2^24
    return anchor, base, turns, tl.fma(turns, -LOG_2, turn), -doublings + (ROUND + (BIAS + UP)), lowest


@triton.jit
def exponentials(z, anchor, base, turns, rest, offset, lowest):
    """exp(z - anchor) / 2^doublings * 2^UP, and what rounding lost of it.

    With z - anchor = k log 2 + r:  z - base - (k + turns) log 2 is exact, and so is its difference from `rest`.  The
    rounded difference of the logits only finds k.
    """
    difference = z - anchor
    shifted = tl.fma(difference, LOG2_E, offset)
    k = shifted - offset
    r = tl.fma(k, -LOG_2_MISSES, tl.fma(k + turns, -LOG_2, z - base) - rest)
    terms = exponential_terms(r)
    value, power, tiny = 1.0 + terms, power_of_two(shifted), difference < lowest
    return tl.where(tiny, 0.0, value * power), tl.where(tiny, 0.0, (terms - (value - 1.0)) * power)


@triton.jit
def row_exponentials(z, anchor, doublings):
    """`exponentials` of a tile of rows."""
    top, base, turns, rest, offset, lowest = anchored(anchor[:, None], doublings[:, None])
    e, low = exponentials(z, top, base, turns, rest, offset, lowest)
    if tl.max(anchor, axis=0) == INFINITE:
        e, low = tie_infinities(z, top, e, low)
    return e, low


@triton.jit
def tie_infinities(z, anchor, e, low):
    """Where the largest logit is +infinity, the exponential of each that equals it is 1."""
    equal = (anchor == INFINITE) & (z == INFINITE)
    return tl.where(equal, TWO_TO_UP, e), tl.where(equal, 0.0, low)


@triton.jit
def sum_pair(values, low):
    """The sum of each row of numbers >= 0 as a pair (Rump, Ogita and Oishi 2008), as in formula.py.

    Each is cut at the last bit of twice the sum: the high parts add up exactly, in any order.
    """
    bound = 2.0 * tl.sum(values, axis=1)
    high = (values + bound[:, None]) - bound[:, None]
    return two_sum(tl.sum(high, axis=1), tl.sum((values - high) + low, axis=1))


@triton.jit
def or_zero(anchor):
    """An anchor; 0 where there are only -infinities."""
    return tl.where(anchor == -INFINITE, 0.0, anchor)


# -- what is read and computed once for each row


@triton.jit
def read_row(targets_at, weight_at, alphas_at, row, inside, classes, ignore, alpha, IGNORES: tl.constexpr):
    """(the target, the row's weight, whether it counts).  An invalid label has a NaN weight, and target 0."""
    label = tl.load(targets_at + row, mask=inside, other=0)
    counts = inside
    if IGNORES:
        counts &= label != ignore
    valid = (label >= 0) & (label < classes)
    target = tl.where(valid, label, 0).to(tl.int64)
    valid &= target.to(label.dtype) == label
    weight = tl.where(valid, alpha, float("nan"))
    if alphas_at is not None:
        weight *= tl.load(alphas_at + target, mask=counts, other=0.0)
    if weight_at is not None:
        weight *= tl.load(weight_at + row, mask=counts, other=0.0).to(tl.float32)
    return target, tl.where(counts, weight, 0.0), counts


@triton.jit
def target_terms(
    m, m_low, target, weight, counts, classes, gammas_at, gamma, gamma_low, late_gamma, late_gamma_low, bound, G
):
    """The loss of each row, and its slope without the weight."""
    if gammas_at is not None:
        gamma = tl.load(gammas_at + target, mask=counts, other=0.0)
        gamma_low = tl.load(gammas_at + classes + target, mask=counts, other=0.0)
    if G == SCHEDULE:
        gamma, gamma_low = tl.where(m < bound, gamma, late_gamma), tl.where(m < bound, gamma_low, late_gamma_low)
    loss, slope = focal(m, exponential_of_size(m, m_low), gamma, gamma_low, G, m_low)
    return weighted(weight, loss), slope


@triton.jit
def row_factor(weight, scale, upstream_at, divisor_at, row, inside, ONE_FACTOR: tl.constexpr):
    """What the slope of a row is multiplied by."""
    weight *= scale
    if divisor_at is not None:
        weight *= reciprocal(tl.load(divisor_at).to(tl.float32))
    if upstream_at is not None:
        factor = tl.load(upstream_at) if ONE_FACTOR else tl.load(upstream_at + row, mask=inside, other=0.0)
        weight *= factor.to(tl.float32)
    return weight


@triton.jit
def share_of(slope, total, total_low):
    """The factor of an exponential in the gradient."""
    return -slope * reciprocal_of_pair(tl.where(total == 0.0, 1.0, total), total_low)


# -- (a) a row in one program


@triton.jit
def other_logits(z_row, columns, target, counts, classes):
    """The logits of some classes; -infinity for the target, for classes that don't exist and rows that don't count."""
    z = tl.load(z_row + columns, mask=counts & (columns < classes), other=-INFINITE)
    return tl.where(columns == target, -INFINITE, z.to(tl.float32))


@triton.jit
def first_pass(z_row, target, counts, classes, CLASSES: tl.constexpr):
    """(anchor, doublings, total, total_low) of a row with more classes than a tile."""
    anchor = tl.full((1,), -INFINITE, tl.float32)
    doublings = tl.zeros((1,), tl.float32)
    total, total_low = tl.zeros((1,), tl.float32), tl.zeros((1,), tl.float32)
    for start in range(0, classes, CLASSES):
        others = other_logits(z_row, (start + tl.arange(0, CLASSES))[None, :], target, counts, classes)
        top = tl.max(others, axis=1)
        rise = tl.fma(doublings, -LOG_2, top - anchor)
        forget = rise > FORGOTTEN  # also in the first tile that has a finite logit
        anchor = tl.where(forget, top, anchor)
        more = tl.where((rise > 0.0) & ~forget, (tl.fma(rise, LOG2_E, 0.5) + ROUND) - ROUND, 0.0)
        doublings = tl.where(forget, 0.0, doublings + more)
        factor = tl.where(forget, 0.0, power_of_two(-more + (ROUND + BIAS)))  # 0 times NaN stays NaN
        e, low = row_exponentials(others, or_zero(anchor), doublings)
        e, low = sum_pair(e, low)
        total, lost = two_sum(total * factor, e)
        total_low = total_low * factor + (lost + low)
    total, total_low = two_sum(total, total_low)
    return or_zero(anchor), doublings, total, total_low


@triton.jit
def store_row(e, share, slope, gradient_row, columns, target, inside, classes):
    """Writes the gradient of some classes."""
    gradient = tl.where(columns == target, slope, (e * share) * DOWN)
    tl.store(gradient_row + columns, gradient.to(gradient_row.dtype.element_ty), mask=inside & (columns < classes))


@triton.jit(do_not_specialize=["steps", "ignore"])
def rows_kernel(
    z_at,
    targets_at,  # class indices; one for each row, and so are weights, upstream factors and losses
    weight_at,  # or None
    upstream_at,  # or None
    losses_at,  # or None
    sums_at,  # one float64 for each program, or None
    gradient_at,  # or None
    divisor_at,  # a number that the gradient is divided by, or None
    alphas_at,  # one for each class, or None
    gammas_at,  # those, and then what float32 misses of each; or None
    rows,
    classes,  # these three are multiplied by UNIT, so that the compiler knows what divides them
    z_stride,  # from row to row
    gradient_stride,
    steps,
    ignore,  # the class of rows that do not count
    alpha,
    scale,
    gamma,  # and what float32 misses of it
    gamma_low,
    late_gamma,  # of margins from `bound` on, where gamma is a SCHEDULE
    late_gamma_low,
    bound,
    G: tl.constexpr,
    IGNORES: tl.constexpr,
    ONE_FACTOR: tl.constexpr,  # one upstream factor for all rows
    UNIT: tl.constexpr,
    WHOLE: tl.constexpr,  # all classes fit into a tile
    CLASSES: tl.constexpr,
):
    classes, z_stride, gradient_stride = classes * UNIT, z_stride * UNIT, gradient_stride * UNIT
    program = tl.program_id(0).to(tl.int64)
    sums = tl.zeros((1,), tl.float64)
    for step in range(steps):
        row = program * steps + step + tl.arange(0, 1)
        inside = row < rows
        target, weight, counts = read_row(
            targets_at, weight_at, alphas_at, row, inside, classes, ignore, alpha, IGNORES
        )
        z_row = z_at + row * z_stride
        z_target = tl.load(z_row + target, mask=counts, other=0.0).to(tl.float32)
        z_row, targets, count = z_row[:, None], target[:, None], counts[:, None]
        if WHOLE:
            columns = tl.arange(0, CLASSES)[None, :]
            others = other_logits(z_row, columns, targets, count, classes)
            anchor = or_zero(tl.max(others, axis=1))
            e, low = row_exponentials(others, anchor, tl.zeros((1,), tl.float32))
            total, total_low = sum_pair(e, low)
            m, m_low = margin(z_target, anchor, total * DOWN, total_low * DOWN)
        else:
            anchor, doublings, total, total_low = first_pass(z_row, targets, count, classes, CLASSES)
            m, m_low = margin(z_target, anchor, total * DOWN, total_low * DOWN, doublings)
        loss, slope = target_terms(
            m, m_low, target, weight, counts, classes, gammas_at, gamma, gamma_low, late_gamma, late_gamma_low, bound, G
        )
        if losses_at is not None:
            tl.store(losses_at + row, loss, mask=inside)
        if sums_at is not None:
            sums += loss.to(tl.float64)
        if gradient_at is not None:
            slope *= row_factor(weight, scale, upstream_at, divisor_at, row, inside, ONE_FACTOR)
            share, slope = share_of(slope, total * DOWN, total_low * DOWN)[:, None], slope[:, None]
            gradient_row = (gradient_at + row * gradient_stride)[:, None]
            if WHOLE:
                store_row(e, share, slope, gradient_row, columns, targets, inside[:, None], classes)
            else:
                for start in range(0, classes, CLASSES):
                    columns = (start + tl.arange(0, CLASSES))[None, :]
                    others = other_logits(z_row, columns, targets, count, classes)
                    e, low = row_exponentials(others, anchor, doublings)
                    store_row(e, share, slope, gradient_row, columns, targets, inside[:, None], classes)
    if sums_at is not None:
        tl.store(sums_at + program + tl.arange(0, 1), sums)


# -- (b) a row in one thread


@triton.jit
def other_logit(z_row, k, z_class, target, counts):
    """The logit of class k of each row; -infinity for the target and for rows that don't count."""
    z = tl.load(z_row + k * z_class, mask=counts, other=-INFINITE).to(tl.float32)
    return tl.where(target == k, -INFINITE, z)


@triton.jit(do_not_specialize=["steps", "ignore", "inner", "z_class", "gradient_class"])
def columns_kernel(
    z_at,
    targets_at,  # and all others as in rows_kernel
    weight_at,
    upstream_at,
    losses_at,
    sums_at,
    gradient_at,
    divisor_at,
    alphas_at,
    gammas_at,
    rows,  # `inner` of them have one stride; from each such group to the next there is another
    inner,
    classes,
    z_outer,
    z_inner,
    z_class,
    gradient_outer,
    gradient_inner,
    gradient_class,
    steps,
    ignore,
    alpha,
    scale,
    gamma,
    gamma_low,
    late_gamma,
    late_gamma_low,
    bound,
    G: tl.constexpr,
    IGNORES: tl.constexpr,
    ONE_FACTOR: tl.constexpr,
    ROWS: tl.constexpr,
):
    z_class, gradient_class = z_class.to(tl.int64), gradient_class.to(tl.int64)
    program = tl.program_id(0).to(tl.int64)
    sums = tl.zeros((ROWS,), tl.float64)
    blocks = (inner + (ROWS - 1)) // ROWS
    for step in range(steps):
        block = program * steps + step
        group = block // blocks
        place = (block - group * blocks) * ROWS + tl.arange(0, ROWS)
        row = group * inner + place
        inside = place < tl.where(group * inner < rows, inner, 0)
        target, weight, counts = read_row(
            targets_at, weight_at, alphas_at, row, inside, classes, ignore, alpha, IGNORES
        )
        z_row = z_at + group * z_outer + place * z_inner
        z_target = tl.load(z_row + target * z_class, mask=counts, other=0.0).to(tl.float32)
        top = tl.full((ROWS,), -INFINITE, tl.float32)
        for k in range(classes):
            top = tl.maximum(top, other_logit(z_row, k, z_class, target, counts))
        top = or_zero(top)
        anchor, base, turns, rest, offset, lowest = anchored(top, tl.zeros((ROWS,), tl.float32))
        total, total_low = tl.zeros((ROWS,), tl.float32), tl.zeros((ROWS,), tl.float32)
        for k in range(classes):
            z = other_logit(z_row, k, z_class, target, counts)
            e, low = exponentials(z, anchor, base, turns, rest, offset, lowest)
            e, low = tie_infinities(z, anchor, e, low)
            total, lost = two_sum(total, e)
            total_low += lost + low
        total, total_low = two_sum(total * DOWN, total_low * DOWN)
        m, m_low = margin(z_target, top, total, total_low)
        loss, slope = target_terms(
            m, m_low, target, weight, counts, classes, gammas_at, gamma, gamma_low, late_gamma, late_gamma_low, bound, G
        )
        if losses_at is not None:
            tl.store(losses_at + row, loss, mask=inside)
        if sums_at is not None:
            sums += loss.to(tl.float64)
        if gradient_at is not None:
            slope *= row_factor(weight, scale, upstream_at, divisor_at, row, inside, ONE_FACTOR)
            share = share_of(slope, total, total_low)
            gradient_row = gradient_at + group * gradient_outer + place * gradient_inner
            for k in range(classes):
                z = other_logit(z_row, k, z_class, target, counts)
                e, low = exponentials(z, anchor, base, turns, rest, offset, lowest)
                e, low = tie_infinities(z, anchor, e, low)
                gradient = tl.where(target == k, slope, (e * share) * DOWN)
                places = gradient_row + k * gradient_class
                tl.store(places, gradient.to(gradient_at.dtype.element_ty), mask=inside)
    if sums_at is not None:
        tl.store(sums_at + program, tl.sum(sums, axis=0))
