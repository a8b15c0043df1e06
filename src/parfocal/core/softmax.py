"""(f) of formula.py: the focal loss of a softmax, its derivatives to every logit, and its curvature along a vector.

Class k of a softmax is the same link at the margin m_k = z_k - rest_k, with rest_k = logsumexp of the other logits:

    dm_k = dz_k - sum over j != k of r_kj dz_j              r_kj = exp(z_j - rest_k)
    dr_kj = r_kj (dz_j - sum over i != k of r_ki dz_i)
    true class t    dL/dz_t = A,      dL/dz_j = -A r_j
                    d2L/dz_t2 = C,    d2L/dz_j2 = C r_j^2 - A r_j (1 - r_j)
    labels y        the sum over k of a_k y_k times these

1 - r_j is summed from the other r, never subtracted.  Conventions are those of formula.py; logits z have their classes
on the last axis, and losses keep that axis, with the length 1.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from parfocal.core.formula import (
    Array,
    Gamma,
    Namespace,
    focal,
    log_pair,
    logit_difference,
    or_one,
    sum_pair,
    two_sum,
    weighted,
)


def largest_of(xp: Namespace, values: Array) -> Array:
    """The largest of each row, several where they are equal."""
    return values == xp.max(values, axis=-1, keepdims=True)


def sum_of_others(xp: Namespace, values: Array, largest: Array | None = None) -> Array:
    """For each entry of a row the sum of the other ones.

    Subtraction from the total loses digits for the largest alone, so the others are summed apart.  `largest` says which
    it is where `values` must not be asked: a derivative is linear in them.
    """
    if largest is None:
        largest = largest_of(xp, xp.abs(values))
    zero = xp.zeros_like(values)
    top = xp.sum(xp.where(largest, values, zero), axis=-1, keepdims=True)
    below = xp.sum(xp.where(largest, zero, values), axis=-1, keepdims=True)
    # 0, unless several are the largest.  Told apart from `top`, it stays 0 when JAX runs the sums backwards.
    equals = xp.where(largest, values, zero)
    equals = xp.sum(equals, axis=-1, keepdims=True) - equals
    return xp.where(largest, below + equals, top + (below - values))


# Where a library flushes small numbers to 0, exponentials below exp(NEAR) are kept times exp(16).
NEAR = -64.0


class Exponentials(NamedTuple):
    """Exponentials times their factor: a slope of up to 1.46 times one below the normal numbers is a normal number."""

    scaled: Array
    factor: Array | float

    def times(self, share: Array) -> Array:
        return share * self.scaled * self.factor

    @property
    def values(self) -> Array:
        return self.scaled * self.factor


class Total(NamedTuple):
    """A sum of exponentials with what rounding lost.  Their largest is 1, or all of them are 0."""

    rounded: Array
    low: Array


def exponentials(xp: Namespace, high: Array, low: Array) -> Exponentials:
    """exp(high + low).  high + 16 is exact."""
    if not getattr(xp, "flushes", False):
        return Exponentials(xp.exp(high) * (1 + low), 1.0)
    far = high < NEAR
    factor = xp.where(far, xp.full_like(high, math.exp(-16)), xp.ones_like(high))
    return Exponentials(xp.exp(xp.where(far, high + 16, high)) * (1 + low), factor)


def leave_out(xp: Namespace, z: Array, out: Array) -> tuple[Exponentials, Total, Array]:
    """The other logits of each row, `out` left out: (exp(z_j - top), their sum, top), the last two with an axis of 1.

    The class left out, and every class of a row of nothing but -inf, has exponential 0.
    """
    others = xp.where(out, xp.full_like(z, -float("inf")), z)
    top = xp.max(others, axis=-1, keepdims=True)
    top = xp.where(top == -float("inf"), xp.zeros_like(top), top)
    e = exponentials(xp, *logit_difference(xp, others, top))
    return e, Total(*sum_pair(xp, e.values)), top


def margin(xp: Namespace, z: Array, top: Array, total: Total, classes: Any) -> tuple[Array, Array]:
    """z - (top + log total) as a pair: the margin of a class over the others.

    The loss multiplies an error of the margin by 1 + gamma.  log total rounded once cost 9.5e-6 with 100,000 classes.
    """
    high, low = logit_difference(xp, z, top)
    divisor = or_one(xp, total.rounded)
    bits = classes.bit_length() if isinstance(classes, int) else 32  # lengths that are traced are tensors, or symbols
    log_total, log_low = log_pair(xp, divisor, scale=bits)
    nothing = total.rounded == 0
    high, lost = two_sum(xp, high, xp.where(nothing, xp.full_like(log_total, float("inf")), -log_total))
    lost = xp.where(xp.isfinite(lost), lost, xp.zeros_like(lost))
    return high, low + (lost - (log_low + total.low / divisor))


# -- one true class a row


def hard_margin(xp: Namespace, z: Array, target: Array) -> tuple[Array, Array, Exponentials, Array]:
    """(m, its low part, exp(z_j - top) of the other classes, their sum) for the class of the one-hot `target`."""
    e, total, top = leave_out(xp, z, target)
    z_target = xp.sum(xp.where(target, z, xp.zeros_like(z)), axis=-1, keepdims=True)
    return *margin(xp, z_target, top, total, z.shape[-1]), e, total.rounded


def hard(xp: Namespace, z: Array, target: Array, gamma: Gamma, order: int, positive: bool = False) -> tuple[Array, ...]:
    """The terms for one true class a row."""
    m, m_low, e, total = hard_margin(xp, z, target)
    loss, *slopes = focal(xp, m, gamma, order, m_low, positive)
    if order == 0:
        return (loss,)
    a, total = slopes[0], or_one(xp, total)
    gradient = xp.where(target, a, e.times(-a / total))
    if order == 1:
        return loss, gradient
    r, one_minus_r = e.values / total, sum_of_others(xp, e.values) / total
    others = slopes[1] * r * r - a * r * one_minus_r
    return loss, gradient, xp.where(target, slopes[1], others)


def hard_product(xp: Namespace, z: Array, target: Array, gamma: Gamma, vector: Array) -> Array:
    """The second derivative times a vector, row by row; linear in the vector."""
    m, m_low, e, total = hard_margin(xp, z, target)
    _, a, c = focal(xp, m, gamma, 2, m_low)
    r, largest = e.values / or_one(xp, total), largest_of(xp, e.values)
    zero = xp.zeros_like(vector)
    dm = xp.sum(xp.where(target, vector, zero) - r * vector, axis=-1, keepdims=True)
    dr = r * (vector * sum_of_others(xp, r, largest) - sum_of_others(xp, r * vector, largest))
    return xp.where(target, c * dm, -(c * dm * r + a * dr))


# -- weight on several classes


class Margins(NamedTuple):
    """Every class's margin over the others, and what a gradient needs to come back from them."""

    m: Array
    m_low: Array
    e: Exponentials  # exp(z_j - z_first), where `first` is the largest logit of the row
    total: Array  # of e, with the class itself left out
    first: Array  # boolean; none where the largest logits are equal
    r_first: Exponentials  # exp(z_j - rest_first)
    others_first: Array  # 1 - r_first, summed


def margins(xp: Namespace, z: Array) -> Margins:
    """All margins of a row in one go.  Each class but the first is measured against the first logit; leaving e_k
    out of the total is then safe, as the first class's own 1 stays in it.  The first is measured against the second.
    Of two equal first ones each is as safe as the others are.
    """
    largest = largest_of(xp, z)
    first = largest & (count(xp, largest, z) == 1)
    z_first = xp.max(z, axis=-1, keepdims=True)
    e = exponentials(xp, *logit_difference(xp, z, z_first))
    total = total_of_others(xp, e.values, first)
    e_second, total_second, z_second = leave_out(xp, z, first)
    m, m_low = margin(xp, z, z_first, total, z.shape[-1])
    m_first, m_first_low = margin(xp, z_first, z_second, total_second, z.shape[-1])
    divisor = or_one(xp, total_second.rounded)
    return Margins(
        m=xp.where(first, m_first, m),
        m_low=xp.where(first, m_first_low, m_low),
        e=e,
        total=total.rounded,
        first=first,
        r_first=Exponentials(e_second.scaled / divisor, e_second.factor),
        others_first=sum_of_others(xp, e_second.values) / divisor,
    )


def total_of_others(xp: Namespace, e: Array, first: Array) -> Total:
    """For each class the sum of the others, which holds a 1; for the first class, where it would not, 1 alone."""
    total, low = sum_pair(xp, e)
    rounded, lost = two_sum(xp, total, -e)
    rounded, low = two_sum(xp, rounded, lost + low)
    return Total(xp.where(first, xp.ones_like(e), rounded), xp.where(first, xp.zeros_like(e), low))


def count(xp: Namespace, mask: Array, like: Array) -> Array:
    """How many of each row are true, as numbers of the dtype of `like`."""
    return xp.sum(xp.where(mask, xp.ones_like(like), xp.zeros_like(like)), axis=-1, keepdims=True)


def of_first(xp: Namespace, at: Margins, values: Array) -> Array:
    """The largest class's value, with an axis of 1."""
    return xp.sum(xp.where(at.first, values, xp.zeros_like(values)), axis=-1, keepdims=True)


def of_others(xp: Namespace, at: Margins, values: Array, largest: Array | None = None) -> Array:
    """For each class the sum over the classes below the largest one, itself left out."""
    return sum_of_others(xp, xp.where(at.first, xp.zeros_like(values), values), largest)


def dense(xp: Namespace, z: Array, w: Array, gamma: Gamma, order: int) -> tuple[Array, ...]:
    """The terms for labels with weight on several classes: w holds a_k y_k."""
    at = margins(xp, z)
    loss, *slopes = focal(xp, at.m, gamma, order, at.m_low)
    loss = xp.sum(weighted(xp, w, loss), axis=-1, keepdims=True)
    if order == 0:
        return (loss,)
    # r_kj is e_j / total_k for every class k but the first, whose r is at hand.
    own, total = w * slopes[0], at.total
    gradient = own - at.e.times(of_others(xp, at, own / total)) - at.r_first.times(of_first(xp, at, own))
    if order == 1:
        return loss, gradient
    e, r = at.e.values, at.r_first.values
    # r (1 - r) is expanded for j below the first class, where r is at most 1/2, and taken apart for the first.
    bend = w * slopes[1]
    below = e * e * of_others(xp, at, (bend + own) / (total * total)) - e * of_others(xp, at, own / total)
    rest = of_others(xp, at, e)  # of the classes below the first, with k itself left out
    top = xp.where(at.first, xp.zeros_like(e), bend / (total * total) - own / total * (rest / total))
    by_first = of_first(xp, at, bend) * r * r - of_first(xp, at, own) * r * at.others_first
    return loss, gradient, bend + by_first + xp.where(at.first, xp.sum(top, axis=-1, keepdims=True), below)


def dense_product(xp: Namespace, z: Array, w: Array, gamma: Gamma, vector: Array) -> Array:
    """The second derivative times a vector, row by row; linear in the vector.

    With s_k = sum over i != k of r_ki v_i:

        sum over k of  a_k y_k [C_k (v_k - s_k) dm_k/dz_j - [j != k] A_k r_kj (v_j - s_k)]

    v_j - s_k is v_j (1 - r_kj) - the other terms of s_k where r_kj may be near 1: for k or j the largest class.
    """
    at = margins(xp, z)
    _, slopes, bends = focal(xp, at.m, gamma, 2, at.m_low)
    e, total, r, v = at.e.values, at.total, at.r_first.values, vector
    own, bend = w * slopes, w * bends
    zero = xp.zeros_like(e)
    second = largest_of(xp, xp.where(at.first, zero, e))
    r_largest = largest_of(xp, r)
    v_first, below = of_first(xp, at, v), of_others(xp, at, e * v, second)
    s = xp.where(at.first, xp.sum(r * v, axis=-1, keepdims=True), (v_first + below) / total)
    turned = bend * (v - s)
    product = turned - e * of_others(xp, at, (turned - own * s) / total, second)
    product = product - e * v * of_others(xp, at, own / total)
    # from the others to the largest class
    rest = of_others(xp, at, e, second)
    to_first = xp.where(at.first, zero, turned / total + own / total * ((v_first * rest - below) / total))
    product = xp.where(at.first, turned - xp.sum(to_first, axis=-1, keepdims=True), product)
    # from the largest class to the others
    dr = r * (v * at.others_first - sum_of_others(xp, r * v, r_largest))
    return product - of_first(xp, at, turned) * r - of_first(xp, at, own) * dr
