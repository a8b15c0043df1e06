"""The rows of a softmax with weight on several classes: dense labels, and smoothed class indices.

Each class has its own margin over the others, as in dense() of core/softmax.py:

(a) `first` is the class of the largest logit, one of them where they are tied.  Its margin is that of a target
    (softmax.py): the sum of the others' exponentials is relative to the second largest logit.
(b) A class below the first has p <= 1/2.  So u = z - logsumexp(z) loses nothing there, and neither does the sum of the
    others, T - e, which holds the first class's own 1.  One reciprocal a class gives e^m = e / (T - e).
(c) e = exp(z - z_first) is not computed again: it is exp(z - z_second) times one number of the row, both as pairs.
(d) As in softmax.py a program has a row (`dense_rows_kernel`) or a thread has one (`dense_columns_kernel`).  In a wide
    row the largest logits, the sum of exponentials, the slopes and the gradient are each a pass over the classes.
"""

from __future__ import annotations

import triton
import triton.language as tl

from parfocal.backends.triton.elementary import DOWN, INFINITE, TWO_TO_UP, log1p, logarithm, reciprocal
from parfocal.backends.triton.focal import finite, margin, near, power_of_q, slope, two_sum, weighted
from parfocal.backends.triton.softmax import (
    SCHEDULE,
    anchored,
    exponentials,
    or_zero,
    read_row,
    row_exponentials,
    row_factor,
    sum_pair,
    target_terms,
    tie_infinities,
)

# -- what is read and computed once for each row


@triton.jit
def read_dense_row(
    labels_at, weight_at, row, inside, classes, ignore, alpha, IGNORES: tl.constexpr, DENSE: tl.constexpr
):
    """read_row, without the alpha of a class.  Dense labels have no target."""
    if DENSE:
        target, weight, counts = tl.zeros_like(row), tl.where(inside, alpha, 0.0), inside
        if weight_at is not None:
            weight *= tl.load(weight_at + row, mask=inside, other=0.0).to(tl.float32)
    else:
        target, weight, counts = read_row(labels_at, weight_at, None, row, inside, classes, ignore, alpha, IGNORES)
    return target, weight, counts


@triton.jit
def whole_row(first_z, second_z, total, total_low):
    """What the classes below the first need of their row: (first_z, by, by_low, T, T_low, 1 / T, log T).

    `total` is the sum of exponentials relative to second_z, without the first class, and `by` is
    exp(second_z - first_z) * 2^UP.
    """
    anchor, base, turns, rest, offset, lowest = anchored(first_z, tl.zeros_like(first_z))
    by, by_low = exponentials(second_z, anchor, base, turns, rest, offset, lowest)
    by, by_low = tie_infinities(second_z, first_z, by, by_low)
    e, e_low = by * DOWN, by_low * DOWN
    others = e * total
    whole, lost = two_sum(1.0, others)
    whole_low = lost + (tl.fma(e, total, -others) + tl.fma(e, total_low, e_low * total))
    inverse = reciprocal(whole)
    inverse = tl.fma(inverse, tl.fma(-whole, inverse, 1.0) - whole_low * inverse, inverse)
    log_high, log_low = logarithm(whole, whole_low)
    return first_z, by, by_low, whole, whole_low, inverse, log_high + log_low


# -- a class below the first


@triton.jit
def class_weight(labels_at, alphas_at, k, target, exists, on, off, DENSE: tl.constexpr):
    """The smoothed label of class k times its alpha; NaN for an invalid label, and 0 for a class that does not exist.

    `labels_at` has the address of the class's own label, where labels are dense.
    """
    if DENSE:
        y = tl.load(labels_at, mask=exists, other=0).to(tl.float32)
        weight = tl.where((y >= 0.0) & (y <= 1.0), tl.fma(on, y, off), float("nan"))
    else:
        weight = tl.where(k == target, on + off, off)
    if alphas_at is not None:
        weight *= tl.load(alphas_at + k, mask=exists, other=0.0)
    return tl.where(exists, weight, 0.0)


@triton.jit
def below_first(z, e, e_low, weight, of_row, k, exists, classes, gammas_at, gammas, G: tl.constexpr):
    """(the loss of a class below the first, its slope, and that over the sum of the other classes), all weighted.

    `e` is exp(z - second_z) * 2^UP.
    """
    first_z, by, by_low, whole, whole_low, inverse, log_whole = of_row
    gamma, gamma_low, late_gamma, late_gamma_low, bound = gammas
    if gammas_at is not None:
        gamma = tl.load(gammas_at + k, mask=exists, other=0.0)
        gamma_low = tl.load(gammas_at + classes + k, mask=exists, other=0.0)
    by, by_low = by * (DOWN * DOWN), by_low * (DOWN * DOWN)
    own = e * by
    p, q = own * inverse, tl.fma(-own, inverse, 1.0)  # (T - e) / T, as e <= T / 2 is not rounded before
    u = tl.minimum(z - first_z, 0.0) - log_whole  # two infinities differ by 0
    if G >= 0:
        # A / (T - e) is A / (q T).
        q_to_g = power_of_q(u, u, q, gamma, gamma_low, G)
        part = -weight if G == 0 else weight * power_of_q(u, u, q, gamma, gamma_low, G - 1) * tl.fma(gamma * p, near(u), -q)
        weighted_slope, over_others = part * q, part * inverse
    else:
        others = whole - own
        own_low = tl.fma(e, by, -own) + tl.fma(e, by_low, e_low * by)
        others_low = ((whole - others) - own) + (whole_low - own_low)
        inverse_of_others = reciprocal(others)
        ratio = own * inverse_of_others  # exp(m)
        remainder = tl.fma(-ratio, others, own) + tl.fma(-ratio, others_low, own_low)
        high, low = log1p(ratio)
        v, v_low = -high, -tl.fma(remainder * inverse_of_others, q, low)
        if G == SCHEDULE:
            early = u - v < bound
            gamma, gamma_low = tl.where(early, gamma, late_gamma), tl.where(early, gamma_low, late_gamma_low)
        q_to_g = power_of_q(v, v_low, q, gamma, gamma_low, G)
        weighted_slope = weight * slope(u, p, q, q_to_g, gamma)
        over_others = weighted_slope * inverse_of_others
    loss = tl.where(weight == 0.0, 0.0, weight * -(q_to_g * u))  # NaN of this row is in the first class's loss too
    return loss, weighted_slope, over_others


@triton.jit
def class_gradient(own, e, over_others, total_over_others, by, share_of_first):
    """dL/dz_j of a class below the first.

    Its own slope, less e_j times those of the others, each over the sum of all but itself, less the first class's.
    """
    return tl.fma(e * tl.fma(by, total_over_others - over_others, share_of_first), -(DOWN * DOWN), own)


@triton.jit
def add_up(sums, lost, more):
    """The pair of sums of each row, with more numbers >= 0; infinite ones have lost nothing."""
    sums, low = two_sum(sums, more)
    return sums, lost + tl.where(finite(sums), low, 0.0)


@triton.jit
def sum_of_row(values):
    """The sum of each row of numbers >= 0, perhaps infinite."""
    rough = tl.sum(values, axis=1)
    total, low = sum_pair(values, tl.zeros_like(values))
    return tl.where(finite(rough), total + low, rough)


# -- (a) a row in one program


@triton.jit
def logits(z_row, columns, counts, classes):
    """The logits of some classes; 0 in rows that don't count, and -infinity for classes that don't exist."""
    absent = tl.where(counts, -INFINITE, 0.0)
    return tl.load(z_row + columns, mask=counts & (columns < classes), other=absent).to(tl.float32)


@triton.jit
def two_largest(z, columns, CLASSES: tl.constexpr):
    """(the largest logit of a tile, its class, the largest of the others)."""
    first_z = tl.max(z, axis=1)
    first = tl.min(tl.where(z == first_z[:, None], columns, 0x7FFFFFFF), axis=1)
    return first_z, first, tl.max(tl.where(columns == first[:, None], -INFINITE, z), axis=1)


@triton.jit
def largest_of_row(z_row, counts, classes, CLASSES: tl.constexpr):
    """two_largest of a row with more classes than a tile."""
    first_z, second_z = tl.full((1,), -INFINITE, tl.float32), tl.full((1,), -INFINITE, tl.float32)
    first = tl.zeros((1,), tl.int32)
    for start in range(0, classes, CLASSES):
        columns = (start + tl.arange(0, CLASSES))[None, :]
        tile_z, tile_first, tile_second = two_largest(logits(z_row, columns, counts, classes), columns, CLASSES)
        second_z = tl.maximum(tl.maximum(second_z, tile_second), tl.minimum(first_z, tile_z))
        first = tl.where(tile_z > first_z, tile_first, first)
        first_z = tl.maximum(first_z, tile_z)
    return first_z, first, second_z


@triton.jit
def tile_exponentials(z, columns, first, anchor):
    """exp(z - anchor) * 2^UP of a tile of classes, and what rounding lost; 0 for the first class."""
    return row_exponentials(tl.where(columns == first[:, None], -INFINITE, z), anchor, tl.zeros_like(anchor))


@triton.jit
def tile_terms(
    z, e, e_low, labels_row, columns, target, first, counts, classes, on, off, alphas_at, of_row, gammas_at, gammas,
    G: tl.constexpr, DENSE: tl.constexpr,
):  # fmt: skip
    """below_first of a tile of classes."""
    exists = counts & (columns < classes) & (columns != first[:, None])
    weight = class_weight(labels_row + columns, alphas_at, columns, target, exists, on, off, DENSE)
    return below_first(z, e, e_low, weight, of_row, columns, exists, classes, gammas_at, gammas, G)


@triton.jit
def store_tile(gradient, gradient_row, columns, first, of_first, factor, inside, classes):
    gradient = tl.where(columns == first[:, None], of_first, gradient) * factor
    tl.store(gradient_row + columns, gradient.to(gradient_row.dtype.element_ty), mask=inside & (columns < classes))


@triton.jit(do_not_specialize=["steps", "ignore"])
def dense_rows_kernel(
    z_at,
    labels_at,  # of z's shape where they are DENSE, and class indices otherwise; all others are as in rows_kernel
    weight_at,
    upstream_at,
    losses_at,
    sums_at,
    gradient_at,
    divisor_at,
    alphas_at,
    gammas_at,
    rows,
    classes,
    z_stride,
    gradient_stride,
    labels_stride,
    steps,
    ignore,
    alpha,
    scale,
    gamma,
    gamma_low,
    late_gamma,
    late_gamma_low,
    bound,
    on,  # a class has the weight on * label + off
    off,
    G: tl.constexpr,
    IGNORES: tl.constexpr,
    ONE_FACTOR: tl.constexpr,
    DENSE: tl.constexpr,
    UNIT: tl.constexpr,
    WHOLE: tl.constexpr,
    CLASSES: tl.constexpr,
):
    classes, labels_stride = classes * UNIT, labels_stride * UNIT
    z_stride, gradient_stride = z_stride * UNIT, gradient_stride * UNIT
    program = tl.program_id(0).to(tl.int64)
    gammas = gamma, gamma_low, late_gamma, late_gamma_low, bound
    sums = tl.zeros((1,), tl.float64)
    for step in range(steps):
        row = program * steps + step + tl.arange(0, 1)
        inside = row < rows
        target, weight, counts = read_dense_row(
            labels_at, weight_at, row, inside, classes, ignore, alpha, IGNORES, DENSE
        )
        count, z_row = counts[:, None], (z_at + row * z_stride)[:, None]
        labels_row = (labels_at + row * labels_stride)[:, None]
        if WHOLE:
            columns = tl.arange(0, CLASSES)[None, :]
            z = logits(z_row, columns, count, classes)
            first_z, first, second_z = two_largest(z, columns, CLASSES)
            anchor = or_zero(second_z)
            e, e_low = tile_exponentials(z, columns, first, anchor)
            total, total_low = sum_pair(e, e_low)
        else:
            first_z, first, second_z = largest_of_row(z_row, count, classes, CLASSES)
            anchor = or_zero(second_z)
            total, total_low = tl.zeros((1,), tl.float32), tl.zeros((1,), tl.float32)
            for start in range(0, classes, CLASSES):
                columns = (start + tl.arange(0, CLASSES))[None, :]
                z = logits(z_row, columns, count, classes)
                e, e_low = tile_exponentials(z, columns, first, anchor)
                e, e_low = sum_pair(e, e_low)
                total, total_low = add_up(total, total_low + e_low, e)
            total, total_low = two_sum(total, total_low)
        total, total_low = total * DOWN, total_low * DOWN
        m, m_low = margin(first_z, anchor, total, total_low)
        exists = counts & (first < classes)
        first_label = labels_row + first[:, None]
        first_weight = class_weight(tl.reshape(first_label, (1,)), alphas_at, first, target, exists, on, off, DENSE)
        first_loss, first_slope = target_terms(
            m, m_low, first, first_weight, exists, classes, gammas_at, gamma, gamma_low, late_gamma, late_gamma_low,
            bound, G,
        )  # fmt: skip
        first_own = first_weight * first_slope
        of_row = whole_row(first_z, second_z, total, total_low)
        if WHOLE:
            losses, own, over_others = tile_terms(
                z, e, e_low, labels_row, columns, target, first, count, classes, on, off, alphas_at, of_row, gammas_at,
                gammas, G, DENSE,
            )  # fmt: skip
            loss, total_over_others = sum_of_row(losses), -sum_of_row(-over_others)
        else:
            loss, loss_low = tl.zeros((1,), tl.float32), tl.zeros((1,), tl.float32)
            slopes, slopes_low = tl.zeros((1,), tl.float32), tl.zeros((1,), tl.float32)
            for start in range(0, classes, CLASSES):
                columns = (start + tl.arange(0, CLASSES))[None, :]
                z = logits(z_row, columns, count, classes)
                e, e_low = tile_exponentials(z, columns, first, anchor)
                losses, own, over_others = tile_terms(
                    z, e, e_low, labels_row, columns, target, first, count, classes, on, off, alphas_at, of_row,
                    gammas_at, gammas, G, DENSE,
                )  # fmt: skip
                loss, loss_low = add_up(loss, loss_low, sum_of_row(losses))
                slopes, slopes_low = add_up(slopes, slopes_low, sum_of_row(-over_others))
            loss, total_over_others = loss + loss_low, -(slopes + slopes_low)
        loss = weighted(weight, first_loss + loss)
        if losses_at is not None:
            tl.store(losses_at + row, loss, mask=inside)
        if sums_at is not None:
            sums += loss.to(tl.float64)
        if gradient_at is not None:
            factor = row_factor(weight, scale, upstream_at, divisor_at, row, inside, ONE_FACTOR)
            share = first_own * reciprocal(tl.where(total == 0.0, 1.0, total)) * TWO_TO_UP
            by, of_first = of_row[1], first_own - total_over_others
            gradient_row = (gradient_at + row * gradient_stride)[:, None]
            if WHOLE:
                gradient = class_gradient(own, e, over_others, total_over_others, by, share)
                store_tile(gradient, gradient_row, columns, first, of_first, factor, inside[:, None], classes)
            else:
                for start in range(0, classes, CLASSES):
                    columns = (start + tl.arange(0, CLASSES))[None, :]
                    z = logits(z_row, columns, count, classes)
                    e, e_low = tile_exponentials(z, columns, first, anchor)
                    losses, own, over_others = tile_terms(
                        z, e, e_low, labels_row, columns, target, first, count, classes, on, off, alphas_at, of_row,
                        gammas_at, gammas, G, DENSE,
                    )  # fmt: skip
                    gradient = class_gradient(own, e, over_others, total_over_others, by, share)
                    store_tile(gradient, gradient_row, columns, first, of_first, factor, inside[:, None], classes)
    if sums_at is not None:
        tl.store(sums_at + program + tl.arange(0, 1), sums)


# -- (b) a row in one thread


@triton.jit
def class_exponential(z_place, k, first, second_z, anchored_row, counts):
    """(the logit of class k of each row, exp(z - second_z) * 2^UP, what rounding lost); 0 for the first class."""
    z = tl.load(z_place, mask=counts, other=0.0).to(tl.float32)
    anchor, base, turns, rest, offset, lowest = anchored_row
    others = tl.where(first == k, -INFINITE, z)
    e, e_low = exponentials(others, anchor, base, turns, rest, offset, lowest)
    e, e_low = tie_infinities(others, anchor, e, e_low)
    return others, e, e_low


@triton.jit
def class_terms(
    z, e, e_low, labels_at, k, target, first, counts, classes, on, off, alphas_at, of_row, gammas_at, gammas,
    G: tl.constexpr, DENSE: tl.constexpr,
):  # fmt: skip
    """below_first of class k of each row."""
    exists, k = counts & (first != k), tl.zeros_like(first) + k
    weight = class_weight(labels_at, alphas_at, k, target, exists, on, off, DENSE)
    return below_first(z, e, e_low, weight, of_row, k, exists, classes, gammas_at, gammas, G)


@triton.jit(do_not_specialize=["steps", "ignore", "inner", "z_class", "gradient_class", "labels_class"])
def dense_columns_kernel(
    z_at,
    labels_at,  # all as in dense_rows_kernel and columns_kernel
    weight_at,
    upstream_at,
    losses_at,
    sums_at,
    gradient_at,
    divisor_at,
    alphas_at,
    gammas_at,
    rows,
    inner,
    classes,
    z_outer,
    z_inner,
    z_class,
    gradient_outer,
    gradient_inner,
    gradient_class,
    labels_outer,
    labels_inner,
    labels_class,
    steps,
    ignore,
    alpha,
    scale,
    gamma,
    gamma_low,
    late_gamma,
    late_gamma_low,
    bound,
    on,
    off,
    G: tl.constexpr,
    IGNORES: tl.constexpr,
    ONE_FACTOR: tl.constexpr,
    DENSE: tl.constexpr,
    ROWS: tl.constexpr,
):
    z_class, gradient_class = z_class.to(tl.int64), gradient_class.to(tl.int64)
    labels_class = labels_class.to(tl.int64)
    program = tl.program_id(0).to(tl.int64)
    gammas = gamma, gamma_low, late_gamma, late_gamma_low, bound
    sums = tl.zeros((ROWS,), tl.float64)
    blocks = (inner + (ROWS - 1)) // ROWS
    for step in range(steps):
        block = program * steps + step
        group = block // blocks
        place = (block - group * blocks) * ROWS + tl.arange(0, ROWS)
        row = group * inner + place
        inside = place < tl.where(group * inner < rows, inner, 0)
        target, weight, counts = read_dense_row(
            labels_at, weight_at, row, inside, classes, ignore, alpha, IGNORES, DENSE
        )
        z_row = z_at + group * z_outer + place * z_inner
        labels_row = labels_at + group * labels_outer + place * labels_inner
        first_z, second_z = tl.full((ROWS,), -INFINITE, tl.float32), tl.full((ROWS,), -INFINITE, tl.float32)
        first = tl.zeros((ROWS,), tl.int32)
        for k in range(classes):
            z = tl.load(z_row + k * z_class, mask=counts, other=0.0).to(tl.float32)
            second_z = tl.maximum(second_z, tl.minimum(first_z, z))
            first = tl.where(z > first_z, k, first)
            first_z = tl.maximum(first_z, z)
        anchor = or_zero(second_z)
        anchored_row = anchored(anchor, tl.zeros((ROWS,), tl.float32))
        total, total_low = tl.zeros((ROWS,), tl.float32), tl.zeros((ROWS,), tl.float32)
        for k in range(classes):
            z, e, e_low = class_exponential(z_row + k * z_class, k, first, anchor, anchored_row, counts)
            total, lost = two_sum(total, e)
            total_low += lost + e_low
        total, total_low = two_sum(total * DOWN, total_low * DOWN)
        m, m_low = margin(first_z, anchor, total, total_low)
        first_label = labels_row + first * labels_class
        first_weight = class_weight(first_label, alphas_at, first, target, counts, on, off, DENSE)
        loss, first_slope = target_terms(
            m, m_low, first, first_weight, counts, classes, gammas_at, gamma, gamma_low, late_gamma, late_gamma_low,
            bound, G,
        )  # fmt: skip
        first_own = first_weight * first_slope
        of_row = whole_row(first_z, second_z, total, total_low)
        loss_low = tl.zeros((ROWS,), tl.float32)
        slopes, slopes_low = tl.zeros((ROWS,), tl.float32), tl.zeros((ROWS,), tl.float32)
        for k in range(classes):
            z, e, e_low = class_exponential(z_row + k * z_class, k, first, anchor, anchored_row, counts)
            more, own, over_others = class_terms(
                z, e, e_low, labels_row + k * labels_class, k, target, first, counts, classes, on, off, alphas_at,
                of_row, gammas_at, gammas, G, DENSE,
            )  # fmt: skip
            loss, loss_low = add_up(loss, loss_low, more)
            slopes, slopes_low = add_up(slopes, slopes_low, -over_others)
        loss, total_over_others = weighted(weight, loss + loss_low), -(slopes + slopes_low)
        if losses_at is not None:
            tl.store(losses_at + row, loss, mask=inside)
        if sums_at is not None:
            sums += loss.to(tl.float64)
        if gradient_at is not None:
            factor = row_factor(weight, scale, upstream_at, divisor_at, row, inside, ONE_FACTOR)
            share = first_own * reciprocal(tl.where(total == 0.0, 1.0, total)) * TWO_TO_UP
            by, of_first = of_row[1], first_own - total_over_others
            gradient_row = gradient_at + group * gradient_outer + place * gradient_inner
            for k in range(classes):
                z, e, e_low = class_exponential(z_row + k * z_class, k, first, anchor, anchored_row, counts)
                more, own, over_others = class_terms(
                    z, e, e_low, labels_row + k * labels_class, k, target, first, counts, classes, on, off, alphas_at,
                    of_row, gammas_at, gammas, G, DENSE,
                )  # fmt: skip
                gradient = class_gradient(own, e, over_others, total_over_others, by, share)
                gradient = tl.where(first == k, of_first, gradient) * factor
                tl.store(gradient_row + k * gradient_class, gradient.to(gradient_at.dtype.element_ty), mask=inside)
    if sums_at is not None:
        tl.store(sums_at + program, tl.sum(sums, axis=0))
