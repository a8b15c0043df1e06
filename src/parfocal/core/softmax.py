"""The focal loss of a softmax, its derivatives in every logit, and its second derivative times a vector: (f).

Class k has the link of formula.py at the margin m_k = z_k - rest_k, with rest_k = logsumexp of the other logits:

    dm_k = dz_k - sum over j != k of r_kj dz_j              r_kj = exp(z_j - rest_k)
    dr_kj = r_kj (dz_j - sum over i != k of r_ki dz_i)
    true class t    dL/dz_t = A,      dL/dz_j = -A r_j
                    d2L/dz_t2 = C,    d2L/dz_j2 = C r_j^2 - A r_j (1 - r_j)
    labels y        the sum over k of a_k y_k times these

1 - r_j is summed from the other r, never computed by subtraction.  Conventions are those of formula.py.  Logits z have
their classes on the last axis, and losses keep that axis, with length 1.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from parfocal.core.formula import (
    INFINITY,
    Array,
    Gamma,
    Namespace,
    bits_of,
    focal,
    or_one,
    weighted,
)
from parfocal.core.pairs import (
    log_pair,
    logit_difference,
    lost,
    narrow,
    stored,
    sum_of_rounded,
    sum_pair,
    two_sum,
    widens,
)


def largest_of(xp: Namespace, values: Array) -> Array:
    """True at the largest value of each row; at several where they are tied."""
    return values == xp.max(values, axis=-1, keepdims=True)


def sum_of_others(xp: Namespace, values: Array, largest: Array | None = None) -> Array:
    """For each entry of a row, the sum of the others.

    Only for the largest entry does total - entry lose digits, so its others are summed separately.  `largest` marks it
    where the result must be linear in `values`, as in a derivative, and so must not compare them.
    """
    short = largest is None and widens(xp)
    if largest is None:
        largest = largest_of(xp, xp.abs(values))
    top = xp.sum(xp.where(largest, values, 0.0), axis=-1, keepdims=True)
    below = xp.sum(xp.where(largest, 0.0, values), axis=-1, keepdims=True)
    if short:  # top is exactly the largest entry; a compiler may compute it twice, with two results
        return below + (top - values)
    # Sum of the other tied maxima; 0 without ties.  Kept separate from `top` so that it is exactly 0 in JAX's
    # transposed sums as well.
    equals = xp.where(largest, values, 0.0)
    equals = xp.sum(equals, axis=-1, keepdims=True) - equals
    return xp.where(largest, below + equals, top + (below - values))


# Where a library flushes subnormal numbers to 0, exponentials below exp(NEAR) are stored times exp(16).
NEAR = -64.0

# Cut off at the bits of their number, so many exponentials lose at most an eighth of the largest one.
FEW = 1024


class Exponentials(NamedTuple):
    """Exponentials as scaled * factor: a slope up to 1.46 times a subnormal exponential may be a normal number."""

    scaled: Array
    factor: Any = None  # an array, a number, or None for 1

    def times(self, share: Array) -> Array:
        product = share * self.scaled
        return product if self.factor is None else product * self.factor

    @property
    def values(self) -> Array:
        return self.scaled if self.factor is None else self.scaled * self.factor


class Total(NamedTuple):
    """A sum of exponentials, and what rounding lost of it.  The largest of them is 1, or all are 0."""

    rounded: Array
    low: Array | None


def exponentials(xp: Namespace, high: Array, low: Array | None, scale: float) -> Exponentials:
    """exp(high + low), stored times `scale`.  The sum high + 16 is exact where it is used.

    The sign says which are stored times exp(16): the logits need not be read, or kept, for it.
    """
    if low is None:
        return Exponentials(xp.exp(high))
    if not getattr(xp, "flushes", False):
        return Exponentials(xp.exp(high) * (1 + low))
    far = high < NEAR
    e = xp.exp(xp.where(far, high + 16, high)) * (scale + scale * low)
    e = stored(xp, xp.where(far, -e, e))
    return Exponentials(e, xp.where(e < 0, -math.exp(-16) / scale, xp.full_like(e, 1 / scale)))


def leave_out(xp: Namespace, z: Array, out: Array) -> tuple[Exponentials, Total, Array]:
    """(exp(z_j - top), their sum, top) of each row without the classes `out`; sum and top keep the axis, with length 1.

    The classes left out have exponential 0, and so have all classes of a row that holds only -inf.
    """
    others = stored(xp, xp.where(out, -INFINITY, z))
    top = xp.max(others, axis=-1, keepdims=True)
    top = xp.where(top == -INFINITY, 0.0, top)
    scale = scale_of(xp, z)
    e = exponentials(xp, *logit_difference(xp, others, top), scale)
    del others
    total = total_of(xp, e.scaled, top, scale)
    return e._replace(scaled=narrow(xp, e.scaled)), total, top


def scale_of(xp: Namespace, z: Array) -> float:
    """A power of two that exponentials of a row are stored times: rounded to whole numbers, they add up exactly.

    It saves XLA an array.  1 elsewhere: TensorFlow's graphs divide by it where that is too early, and underflows.
    """
    classes = z.shape[-1]  # a traced length is a tensor or a symbol
    if not hasattr(xp, "stored") or not isinstance(classes, int) or classes > FEW:
        return 1.0
    scale: float = 2.0 ** (bits_of(xp, z.dtype) - 1 - classes.bit_length())
    return scale


def total_of(xp: Namespace, e: Array, top: Array, scale: float) -> Total:
    """The sum of exponentials, stored times `scale`.  Those stored times exp(16), too, are too small to matter."""
    if scale != 1:
        total, low = sum_of_rounded(xp, e)
        return Total(total * (1 / scale), low * (1 / scale))
    classes, bound = e.shape[-1], None
    if isinstance(classes, int) and classes <= FEW and not widens(xp):
        # A compiler would take (values + bound) - bound for the values if it knew the number.
        bound = xp.where(xp.isnan(top), top, 2.0 ** classes.bit_length())
    return Total(*sum_pair(xp, e, bound))


def margin(xp: Namespace, z: Array, top: Array, total: Total, classes: Any) -> tuple[Array, Array | None]:
    """z - (top + log total) as a pair: the margin of a class over the others.

    The loss multiplies an error of the margin by 1 + gamma: log total as one rounded number cost 9.5e-6 with 100,000
    classes.
    """
    high, low = logit_difference(xp, z, top)
    if low is None:
        return high - xp.log(total.rounded), None
    divisor = or_one(xp, total.rounded)
    bits = classes.bit_length() if isinstance(classes, int) else 32  # a traced length is a tensor or a symbol
    log_total, log_low = log_pair(xp, divisor, scale=bits)
    high, rest = two_sum(xp, high, xp.where(total.rounded == 0, INFINITY, -log_total))
    # Of a small margin the low part may be larger than a low part should be.
    high, low = two_sum(xp, high, low + (lost(xp, rest) - (log_low + total.low / divisor)))
    return high, lost(xp, low)


# -- one true class per row, `target`: a one-hot mask, or what a namespace with its own `one_hot` takes in its place


def one_hot(xp: Namespace, target: Array, z: Array) -> Array:
    """The target as a mask of the logits' shape."""
    mask: Array = xp.one_hot(target, z) if hasattr(xp, "one_hot") else target
    return mask


def of_target(xp: Namespace, target: Array, values: Array) -> Array:
    """The value of the true class; the axis stays, with length 1."""
    if hasattr(xp, "of_target"):
        return xp.of_target(target, values)
    return xp.sum(xp.where(target, values, 0.0), axis=-1, keepdims=True)


def hard_margin(xp: Namespace, z: Array, target: Array) -> tuple[Array, Array | None, Exponentials, Array]:
    """(m, its low part, exp(z_j - top) of the other classes, their sum) of the true class."""
    e, total, top = leave_out(xp, z, one_hot(xp, target, z))
    return *margin(xp, of_target(xp, target, z), top, total, z.shape[-1]), e, narrow(xp, total.rounded)


def hard(xp: Namespace, z: Array, target: Array, gamma: Gamma, order: int, boosting: bool = False) -> tuple[Array, ...]:
    """Loss and derivatives, up to `order`, for one true class per row."""
    m, m_low, e, total = hard_margin(xp, z, target)
    loss, *slopes = focal(xp, m, gamma, order, m_low, boosting)
    if order == 0:
        return (loss,)
    a = slopes[0]
    gradient = hard_to_logits(xp, target, e, total, a)
    if order == 1:
        return loss, gradient
    total = or_one(xp, total)
    r, one_minus_r = e.values / total, sum_of_others(xp, e.values) / total
    others = slopes[1] * r * r - a * r * one_minus_r
    return loss, gradient, xp.where(one_hot(xp, target, z), slopes[1], others)


def hard_to_logits(xp: Namespace, target: Array, e: Exponentials, total: Array, a: Array) -> Array:
    """The gradient in the logits of what has the slope `a` in the margin."""
    share = stored(xp, -a / or_one(xp, total))
    return xp.where(one_hot(xp, target, e.scaled), stored(xp, a), e.times(share))


def hard_change(xp: Namespace, target: Array, e: Exponentials, total: Array, vector: Array) -> Array:
    """The change of the margin for a change of the logits."""
    own = xp.where(one_hot(xp, target, vector), vector, 0.0)
    return xp.sum(own - e.values / or_one(xp, total) * vector, axis=-1, keepdims=True)


def hard_product(xp: Namespace, z: Array, target: Array, gamma: Gamma, vector: Array) -> Array:
    """The second derivative times a vector, row by row; linear in the vector."""
    m, m_low, e, total = hard_margin(xp, z, target)
    _, a, c = focal(xp, m, gamma, 2, m_low)
    r, largest = e.values / or_one(xp, total), largest_of(xp, e.values)
    dm = hard_change(xp, target, e, total, vector)
    dr = r * (vector * sum_of_others(xp, r, largest) - sum_of_others(xp, r * vector, largest))
    return xp.where(one_hot(xp, target, z), c * dm, -(c * dm * r + a * dr))


# -- weight on several classes


class Margins(NamedTuple):
    """The margin of every class over the others, and what the derivatives in the logits need."""

    m: Array
    m_low: Array | None
    e: Exponentials  # exp(z_j - z_first), where `first` is the largest logit of the row
    total: Array  # of e, with the class itself left out
    first: Array  # True at the largest logit; nowhere if it is tied
    r_first: Exponentials  # exp(z_j - rest_first)
    others_first: Array  # 1 - r_first, summed


def margins(xp: Namespace, z: Array) -> Margins:
    """The margins of all classes of a row.

    `first` is the largest logit.  Every other class uses exponentials relative to it: subtracting e_k from their total
    is safe, because the first class's own 1 stays in the total.  The first class uses exponentials relative to the
    second largest logit.  If two logits tie for the largest, both are computed as the other classes are.
    """
    largest = largest_of(xp, z)
    first = largest & (count(xp, largest, z) == 1)
    z_first = xp.max(z, axis=-1, keepdims=True)
    scale = scale_of(xp, z)
    e = exponentials(xp, *logit_difference(xp, z, z_first), scale)
    total = total_of_others(xp, e.scaled, first, z_first, scale)
    e = e._replace(scaled=narrow(xp, e.scaled))
    e_second, total_second, z_second = leave_out(xp, z, first)
    m, m_low = margin(xp, z, z_first, total, z.shape[-1])
    m_first, m_first_low = margin(xp, z_first, z_second, total_second, z.shape[-1])
    divisor = or_one(xp, narrow(xp, total_second.rounded))
    return Margins(
        m=xp.where(first, m_first, m),
        m_low=None if m_low is None else xp.where(first, m_first_low, m_low),
        e=e,
        total=narrow(xp, total.rounded),
        first=first,
        r_first=e_second._replace(scaled=e_second.scaled / divisor),
        others_first=sum_of_others(xp, e_second.values) / divisor,
    )


def total_of_others(xp: Namespace, e: Array, first: Array, top: Array, scale: float) -> Total:
    """For each class the sum of the others, among them a 1; for the first class, which has no such 1, simply 1."""
    total, low = total_of(xp, e, top, scale)
    rounded, rest = two_sum(xp, total, -e if scale == 1 else e * (-1 / scale))
    if low is not None:
        rounded, low = two_sum(xp, rounded, rest + low)
        low = xp.where(first, 0.0, low)
    return Total(xp.where(first, 1.0, rounded), low)


def count(xp: Namespace, mask: Array, like: Array) -> Array:
    """How many entries of each row are True, in the dtype of `like`."""
    return xp.sum(xp.where(mask, 1.0, xp.zeros_like(like)), axis=-1, keepdims=True)


def of_first(xp: Namespace, at: Margins, values: Array) -> Array:
    """The value of the first class; the axis stays, with length 1."""
    return xp.sum(xp.where(at.first, values, 0.0), axis=-1, keepdims=True)


def of_others(xp: Namespace, at: Margins, values: Array, largest: Array | None = None) -> Array:
    """For each class the sum over the classes other than the first and itself."""
    return sum_of_others(xp, xp.where(at.first, 0.0, values), largest)


def dense(xp: Namespace, z: Array, w: Array, gamma: Gamma, order: int) -> tuple[Array, ...]:
    """Loss and derivatives, up to `order`, for labels with weight on several classes; w holds a_k y_k."""
    if widens(xp) and order < 2:
        return dense_wide(xp, z, w, gamma, order)
    at = margins(xp, z)
    loss, *slopes = focal(xp, at.m, gamma, order, at.m_low)
    loss = xp.sum(weighted(xp, w, loss), axis=-1, keepdims=True)
    if order == 0:
        return (loss,)
    own, total = w * slopes[0], at.total
    gradient = to_logits(xp, at, own)
    if order == 1:
        return loss, gradient
    e, r = at.e.values, at.r_first.values
    # For classes other than the largest r <= 1/2, so r (1 - r) may be expanded; for the largest it is kept as a
    # product.
    curvature = w * slopes[1]
    below = e * e * of_others(xp, at, (curvature + own) / (total * total)) - e * of_others(xp, at, own / total)
    rest = of_others(xp, at, e)
    top = xp.where(at.first, 0.0, curvature / (total * total) - own / total * (rest / total))
    by_first = of_first(xp, at, curvature) * r * r - of_first(xp, at, own) * r * at.others_first
    return loss, gradient, curvature + by_first + xp.where(at.first, xp.sum(top, axis=-1, keepdims=True), below)


def dense_wide(xp: Namespace, z: Array, w: Array, gamma: Gamma, order: int) -> tuple[Array, ...]:
    """`dense` up to order 1 in a namespace that widens: one set of exponentials does for the largest class as well."""
    e, total, *m = margins_wide(xp, z)
    loss, *slopes = focal(xp, m.pop(), gamma, order)  # popped: it is not kept while `focal` runs
    loss = xp.sum(weighted(xp, w, loss), axis=-1, keepdims=True)
    if order == 0:
        return (loss,)
    own = w * slopes.pop()
    return loss, own - e * sum_of_others(xp, own / or_one(xp, total))


def margins_wide(xp: Namespace, z: Array) -> tuple[Array, Array, Array]:
    """(exp(z_j - z_first), their sum without the class itself, m); m is wide."""
    m, _ = logit_difference(xp, z, xp.max(z, axis=-1, keepdims=True))
    e = xp.exp(m)
    total = sum_of_others(xp, e)
    m = m - xp.log(total)
    e = narrow(xp, e)
    return e, narrow(xp, total), m


def to_logits(xp: Namespace, at: Margins, own: Array, largest: Array | None = None) -> Array:
    """The gradient in the logits of what has the slope `own` in the margin of each class.

    r_kj is e_j / total_k for every class k except the first, whose r is r_first.  `largest` makes the gradient linear
    in `own`, see `sum_of_others`.
    """
    return own - at.e.times(of_others(xp, at, own / at.total, largest)) - at.r_first.times(of_first(xp, at, own))


def second_largest(xp: Namespace, at: Margins) -> Array:
    return largest_of(xp, xp.where(at.first, 0.0, at.e.values))


def change_of_rest(xp: Namespace, at: Margins, v: Array, second: Array) -> tuple[Array, Array, Array]:
    """s_k = sum over i != k of r_ki v_i; and of it v of the first class, and the sum over the others, times total_k."""
    v_first, below = of_first(xp, at, v), of_others(xp, at, at.e.values * v, second)
    s_first = xp.sum(at.r_first.values * v, axis=-1, keepdims=True)
    return xp.where(at.first, s_first, (v_first + below) / at.total), v_first, below


def dense_product(xp: Namespace, z: Array, w: Array, gamma: Gamma, vector: Array) -> Array:
    """The second derivative times a vector, row by row; linear in the vector.

    With s_k = sum over i != k of r_ki v_i:

        sum over k of  a_k y_k [C_k (v_k - s_k) dm_k/dz_j - [j != k] A_k r_kj (v_j - s_k)]

    Where r_kj may be near 1, that is if k or j is the largest class, v_j - s_k is computed as v_j (1 - r_kj) minus the
    other terms of s_k.
    """
    at = margins(xp, z)
    _, slopes, curvatures = focal(xp, at.m, gamma, 2, at.m_low)
    e, total, r, v = at.e.values, at.total, at.r_first.values, vector
    own, curvature = w * slopes, w * curvatures
    second, r_largest = second_largest(xp, at), largest_of(xp, r)
    s, v_first, below = change_of_rest(xp, at, v, second)
    change = curvature * (v - s)
    product = change - e * of_others(xp, at, (change - own * s) / total, second)
    product = product - e * v * of_others(xp, at, own / total)
    # what the other classes add to the largest
    rest = of_others(xp, at, e, second)
    to_first = xp.where(at.first, 0.0, change / total + own / total * ((v_first * rest - below) / total))
    product = xp.where(at.first, change - xp.sum(to_first, axis=-1, keepdims=True), product)
    # what the largest class adds to the others
    dr = r * (v * at.others_first - sum_of_others(xp, r * v, r_largest))
    return product - of_first(xp, at, change) * r - of_first(xp, at, own) * dr
