"""A row of a softmax with weight on several classes, and each of its classes: dense() of native/dense.hpp.

Each class has its own margin over the others:

(a) `first` is the class of the largest logit, one of them where they are tied.  Its margin is that of a target
    (softmax.py): the sum of the others' exponentials is relative to the second largest logit.
(b) A class below the first has e = exp(z - z_first) <= T / 2, with T the sum of all e.  So u = z - logsumexp(z) loses
    nothing there, nor does T - e, which holds the first class's own 1.  e^m is e / (T - e).
(c) exp(z - z_first) is exp(z - z_second) times one number of the row, both with what rounding lost.
"""

from __future__ import annotations

import triton
import triton.language as tl

from parfocal.backends.triton.elementary import DOWN, log1p, logarithm, reciprocal, reciprocal_of_pair
from parfocal.backends.triton.focal import finite, near, power_of_q, slope, two_sum
from parfocal.backends.triton.softmax import SCHEDULE, anchored, exponentials, read_row, sum_pair, tie_infinities

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
    """What the classes below the first need of their row: (z_first, by, by_low, T, T_low, 1 / T, log T).

    `total` is the sum of exponentials relative to second_z, without the first class; `by` is
    exp(second_z - first_z) * 2^UP.
    """
    anchor, base, turns, rest, offset, lowest = anchored(first_z, tl.zeros_like(first_z))
    by, by_low = exponentials(second_z, anchor, base, turns, rest, offset, lowest)
    by, by_low = tie_infinities(second_z, first_z, by, by_low)
    e, e_low = by * DOWN, by_low * DOWN
    others = e * total
    whole, lost = two_sum(1.0, others)
    whole_low = lost + (tl.fma(e, total, -others) + tl.fma(e, total_low, e_low * total))
    inverse = reciprocal_of_pair(whole, whole_low)
    log_high, log_low = logarithm(whole, whole_low)
    return first_z, by, by_low, whole, whole_low, inverse, log_high + log_low


# -- a class


@triton.jit
def class_weight(label_at, k, target, exists, weights, DENSE: tl.constexpr):
    """alpha_k times the smoothed label of class k; NaN for an invalid label, and 0 for a class that does not exist."""
    on, off, alphas_at = weights
    if DENSE:
        y = tl.load(label_at, mask=exists, other=0).to(tl.float32)
        weight = tl.where((y >= 0.0) & (y <= 1.0), tl.fma(on, y, off), float("nan"))
    else:
        weight = tl.where(k == target, on + off, off)
    if alphas_at is not None:
        weight *= tl.load(alphas_at + k, mask=exists, other=0.0)
    return tl.where(exists, weight, 0.0)


@triton.jit
def below_first(z, e, e_low, weight, of_row, k, exists, classes, gammas, G: tl.constexpr):
    """(the loss of a class below the first, its slope, and that over the sum of the other classes), all weighted.

    `e` is exp(z - second_z) * 2^UP.
    """
    first_z, by, by_low, whole, whole_low, inverse, log_whole = of_row
    gammas_at, gamma, gamma_low, late_gamma, late_gamma_low, bound = gammas
    if gammas_at is not None:
        gamma = tl.load(gammas_at + k, mask=exists, other=0.0)
        gamma_low = tl.load(gammas_at + classes + k, mask=exists, other=0.0)
    by, by_low = by * (DOWN * DOWN), by_low * (DOWN * DOWN)
    own = e * by
    p, q = own * inverse, tl.fma(-own, inverse, 1.0)  # (T - e) / T; the product is at most 1/2, and not rounded
    u = tl.minimum(z - first_z, 0.0) - log_whole  # two infinities differ by 0
    if G == 0:
        q_to_g = 1.0
        weighted_slope, over_others = -weight * q, -weight * inverse
    elif G > 0:
        q_to_g = power_of_q(u, u, q, gamma, gamma_low, G)
        part = weight * power_of_q(u, u, q, gamma, gamma_low, G - 1) * tl.fma(gamma * p, near(u), -q)
        weighted_slope, over_others = part * q, part * inverse  # A / (T - e) = (A / q) / T
    else:
        others = whole - own
        own_low = tl.fma(e, by, -own) + tl.fma(e, by_low, e_low * by)
        others_low = ((whole - others) - own) + (whole_low - own_low)
        inverse_of_others = reciprocal(others)
        ratio = own * inverse_of_others  # e^m
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
def class_gradient(own, e, over_others, total_over_others, by, share):
    """dL/dz_j of a class below the first: its own slope, less what the others and the first class add.

    `share` is share_of the first class, times 2^UP.  Relative to the sum of the gradient's absolute terms, the
    subtraction loses nothing.
    """
    return tl.fma(e * tl.fma(by, over_others - total_over_others, share), DOWN * DOWN, own)


# -- sums of numbers >= 0, which may be infinite


@triton.jit
def add_up(sums, lost, more):
    """The pair of sums of each row, with one number more."""
    sums, low = two_sum(sums, more)
    return sums, lost + tl.where(finite(sums), low, 0.0)


@triton.jit
def sum_of_row(values):
    """The sum of each row of a tile."""
    rough = tl.sum(values, axis=1)
    total, low = sum_pair(values, tl.zeros_like(values))
    return tl.where(finite(rough), total + low, rough)
