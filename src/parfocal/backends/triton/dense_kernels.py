"""The rows of a softmax with weight on several classes: dense labels, and smoothed class indices (dense.py).

(a) As in softmax.py a program has a row (`dense_rows_kernel`), or a thread has one (`dense_columns_kernel`).
(b) Where a row is not in the registers, it takes four passes over the classes: for the two largest logits, the sum of
    the exponentials, the losses and slopes, and the gradient.  Exponentials are computed again in each.
"""

from __future__ import annotations

import triton
import triton.language as tl

from parfocal.backends.triton.dense import (
    add_up,
    below_first,
    class_gradient,
    class_weight,
    read_dense_row,
    sum_of_row,
    whole_row,
)
from parfocal.backends.triton.elementary import DOWN, INFINITE, TWO_TO_UP
from parfocal.backends.triton.focal import margin, two_sum, weighted
from parfocal.backends.triton.softmax import (
    anchored,
    exponentials,
    or_zero,
    row_exponentials,
    row_factor,
    share_of,
    sum_pair,
    target_terms,
    tie_infinities,
)


@triton.jit
def class_terms(
    z, e, e_low, label_at, k, target, exists, classes, weights, gammas, of_row, G: tl.constexpr, DENSE: tl.constexpr
):
    """below_first with the weight of the class."""
    weight = class_weight(label_at, k, target, exists, weights, DENSE)
    return below_first(z, e, e_low, weight, of_row, k, exists, classes, gammas, G)


@triton.jit
def first_terms(
    first_z,
    anchor,
    total,
    total_low,
    label_at,
    first,
    target,
    exists,
    classes,
    weights,
    gammas,
    G: tl.constexpr,
    DENSE: tl.constexpr,
):
    """The loss of the first class, and its slope, both weighted."""
    gammas_at, gamma, gamma_low, late_gamma, late_gamma_low, bound = gammas
    m, m_low = margin(first_z, anchor, total, total_low)
    weight = class_weight(label_at, first, target, exists, weights, DENSE)
    loss, slope = target_terms(
        m, m_low, first, weight, exists, classes, gammas_at, gamma, gamma_low, late_gamma, late_gamma_low, bound, G
    )
    return loss, weight * slope


# -- (a) a row in one program


@triton.jit
def logits(z_row, columns, counts, classes):
    """The logits of some classes; 0 in rows that don't count, and -infinity for classes that don't exist."""
    absent = tl.where(counts, -INFINITE, 0.0)
    return tl.load(z_row + columns, mask=counts & (columns < classes), other=absent).to(tl.float32)


@triton.jit
def two_largest(z, columns):
    """(the largest logit of a tile, its class, the largest of the others)."""
    first_z = tl.max(z, axis=1)
    first = tl.min(tl.where(z == first_z[:, None], columns, 0x7FFFFFFF), axis=1)
    return first_z, first, tl.max(tl.where(columns == first[:, None], -INFINITE, z), axis=1)


@triton.jit
def tile_exponentials(z, columns, first, anchor):
    """exp(z - anchor) * 2^UP of a tile of classes, and what rounding lost; 0 for the first class."""
    below = tl.where(columns == first[:, None], -INFINITE, z)
    return row_exponentials(below, anchor, tl.zeros_like(anchor))


@triton.jit
def tile_terms(
    z,
    e,
    e_low,
    labels_row,
    columns,
    first,
    target,
    counts,
    classes,
    weights,
    gammas,
    of_row,
    G: tl.constexpr,
    DENSE: tl.constexpr,
):
    """class_terms of a tile of classes."""
    exists = counts & (columns < classes) & (columns != first[:, None])
    return class_terms(
        z, e, e_low, labels_row + columns, columns, target, exists, classes, weights, gammas, of_row, G, DENSE
    )


@triton.jit
def store_tile(gradient, gradient_row, columns, first, of_first, factor, inside, classes):
    gradient = tl.where(columns == first[:, None], of_first, gradient) * factor
    tl.store(gradient_row + columns, gradient.to(gradient_row.dtype.element_ty), mask=inside & (columns < classes))


@triton.jit
def two_largest_of_row(z_row, counts, classes, CLASSES: tl.constexpr):
    """two_largest of a row with more classes than a tile."""
    first_z, second_z = tl.full((1,), -INFINITE, tl.float32), tl.full((1,), -INFINITE, tl.float32)
    first = tl.zeros((1,), tl.int32)
    for start in range(0, classes, CLASSES):
        columns = (start + tl.arange(0, CLASSES))[None, :]
        tile_z, tile_first, tile_second = two_largest(logits(z_row, columns, counts, classes), columns)
        second_z = tl.maximum(tl.maximum(second_z, tile_second), tl.minimum(first_z, tile_z))
        first = tl.where(tile_z > first_z, tile_first, first)
        first_z = tl.maximum(first_z, tile_z)
    return first_z, first, second_z


@triton.jit
def total_of_row(z_row, first, anchor, counts, classes, CLASSES: tl.constexpr):
    """The sum of the exponentials of such a row, as a pair."""
    total, total_low = tl.zeros((1,), tl.float32), tl.zeros((1,), tl.float32)
    for start in range(0, classes, CLASSES):
        columns = (start + tl.arange(0, CLASSES))[None, :]
        e, e_low = tile_exponentials(logits(z_row, columns, counts, classes), columns, first, anchor)
        e, e_low = sum_pair(e, e_low)
        total, lost = two_sum(total, e)
        total_low += lost + e_low
    return two_sum(total, total_low)


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
    on,  # the label y means the weight on * y + off
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
    weights, gammas = (on, off, alphas_at), (gammas_at, gamma, gamma_low, late_gamma, late_gamma_low, bound)
    program = tl.program_id(0).to(tl.int64)
    sums = tl.zeros((1,), tl.float64)
    for step in range(steps):
        row = program * steps + step + tl.arange(0, 1)
        inside = row < rows
        target, weight, counts = read_dense_row(
            labels_at, weight_at, row, inside, classes, ignore, alpha, IGNORES, DENSE
        )
        count, z_row = counts[:, None], (z_at + row * z_stride)[:, None]
        labels_row = labels_at + row * labels_stride
        if WHOLE:
            columns = tl.arange(0, CLASSES)[None, :]
            z = logits(z_row, columns, count, classes)
            first_z, first, second_z = two_largest(z, columns)
            anchor = or_zero(second_z)
            e, e_low = tile_exponentials(z, columns, first, anchor)
            total, total_low = sum_pair(e, e_low)
        else:
            first_z, first, second_z = two_largest_of_row(z_row, count, classes, CLASSES)
            anchor = or_zero(second_z)
            total, total_low = total_of_row(z_row, first, anchor, count, classes, CLASSES)
        total, total_low = total * DOWN, total_low * DOWN
        k, exists = first.to(tl.int64), counts & (first < classes)  # with NaN logits there may be no first class
        loss, first_slope = first_terms(
            first_z, anchor, total, total_low, labels_row + k, k, target, exists, classes, weights, gammas, G, DENSE
        )
        share = share_of(first_slope, total, total_low) * TWO_TO_UP
        of_row, labels_row = whole_row(first_z, second_z, total, total_low), labels_row[:, None]
        if WHOLE:
            losses, own, over_others = tile_terms(
                z, e, e_low, labels_row, columns, first, target, count, classes, weights, gammas, of_row, G, DENSE
            )
            loss, total_over_others = loss + sum_of_row(losses), -sum_of_row(-over_others)
        else:
            loss_low, slopes, slopes_low = tl.zeros_like(loss), tl.zeros_like(loss), tl.zeros_like(loss)
            for start in range(0, classes, CLASSES):
                columns = (start + tl.arange(0, CLASSES))[None, :]
                z = logits(z_row, columns, count, classes)
                e, e_low = tile_exponentials(z, columns, first, anchor)
                losses, own, over_others = tile_terms(
                    z, e, e_low, labels_row, columns, first, target, count, classes, weights, gammas, of_row, G, DENSE
                )
                loss, loss_low = add_up(loss, loss_low, sum_of_row(losses))
                slopes, slopes_low = add_up(slopes, slopes_low, sum_of_row(-over_others))
            loss, total_over_others = loss + loss_low, -(slopes + slopes_low)
        loss = weighted(weight, loss)
        if losses_at is not None:
            tl.store(losses_at + row, loss, mask=inside)
        if sums_at is not None:
            sums += loss.to(tl.float64)
        if gradient_at is not None:
            factor = row_factor(weight, scale, upstream_at, divisor_at, row, inside, ONE_FACTOR)
            by, of_first = of_row[1], first_slope - total_over_others
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
                        z,
                        e,
                        e_low,
                        labels_row,
                        columns,
                        first,
                        target,
                        count,
                        classes,
                        weights,
                        gammas,
                        of_row,
                        G,
                        DENSE,
                    )
                    gradient = class_gradient(own, e, over_others, total_over_others, by, share)
                    store_tile(gradient, gradient_row, columns, first, of_first, factor, inside[:, None], classes)
    if sums_at is not None:
        tl.store(sums_at + program + tl.arange(0, 1), sums)


# -- (b) a row in one thread


@triton.jit
def class_exponential(z_at, k, first, of_anchor, counts):
    """(the logit of class k of each row, exp(z - anchor) * 2^UP, what rounding lost); 0 for the first class."""
    z = tl.load(z_at, mask=counts, other=0.0).to(tl.float32)
    anchor, base, turns, rest, offset, lowest = of_anchor
    below = tl.where(first == k, -INFINITE, z)
    e, e_low = exponentials(below, anchor, base, turns, rest, offset, lowest)
    e, e_low = tie_infinities(below, anchor, e, e_low)
    return below, e, e_low


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
    weights, gammas = (on, off, alphas_at), (gammas_at, gamma, gamma_low, late_gamma, late_gamma_low, bound)
    program = tl.program_id(0).to(tl.int64)
    sums, zero = tl.zeros((ROWS,), tl.float64), tl.zeros((ROWS,), tl.float32)
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
        first_z, second_z = zero - INFINITE, zero - INFINITE
        first = tl.zeros((ROWS,), tl.int32)
        for k in range(classes):
            z = tl.load(z_row + k * z_class, mask=counts, other=0.0).to(tl.float32)
            second_z = tl.maximum(second_z, tl.minimum(first_z, z))
            first = tl.where(z > first_z, k, first)
            first_z = tl.maximum(first_z, z)
        of_anchor = anchored(or_zero(second_z), zero)
        total, total_low = zero, zero
        for k in range(classes):
            below, e, e_low = class_exponential(z_row + k * z_class, k, first, of_anchor, counts)
            total, lost = two_sum(total, e)
            total_low += lost + e_low
        total, total_low = two_sum(total * DOWN, total_low * DOWN)
        wide, anchor = first.to(tl.int64), of_anchor[0]
        first_label = labels_row + wide * labels_class
        loss, first_slope = first_terms(
            first_z, anchor, total, total_low, first_label, wide, target, counts, classes, weights, gammas, G, DENSE
        )
        share = share_of(first_slope, total, total_low) * TWO_TO_UP
        of_row = whole_row(first_z, second_z, total, total_low)
        loss_low, slopes, slopes_low = zero, zero, zero
        for k in range(classes):
            below, e, e_low = class_exponential(z_row + k * z_class, k, first, of_anchor, counts)
            exists, each, label = counts & (first != k), tl.zeros_like(row) + k, labels_row + k * labels_class
            more, own, over_others = class_terms(
                below, e, e_low, label, each, target, exists, classes, weights, gammas, of_row, G, DENSE
            )
            loss, loss_low = add_up(loss, loss_low, more)
            slopes, slopes_low = add_up(slopes, slopes_low, -over_others)
        loss, total_over_others = weighted(weight, loss + loss_low), -(slopes + slopes_low)
        if losses_at is not None:
            tl.store(losses_at + row, loss, mask=inside)
        if sums_at is not None:
            sums += loss.to(tl.float64)
        if gradient_at is not None:
            factor = row_factor(weight, scale, upstream_at, divisor_at, row, inside, ONE_FACTOR)
            by, of_first = of_row[1], first_slope - total_over_others
            gradient_row = gradient_at + group * gradient_outer + place * gradient_inner
            for k in range(classes):
                below, e, e_low = class_exponential(z_row + k * z_class, k, first, of_anchor, counts)
                exists, each, label = counts & (first != k), tl.zeros_like(row) + k, labels_row + k * labels_class
                more, own, over_others = class_terms(
                    below, e, e_low, label, each, target, exists, classes, weights, gammas, of_row, G, DENSE
                )
                gradient = class_gradient(own, e, over_others, total_over_others, by, share)
                gradient = tl.where(first == k, of_first, gradient) * factor
                tl.store(gradient_row + k * gradient_class, gradient.to(gradient_at.dtype.element_ty), mask=inside)
    if sums_at is not None:
        tl.store(sums_at + program, tl.sum(sums, axis=0))
