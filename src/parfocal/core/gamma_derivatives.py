"""The derivatives of the focal loss with respect to gamma, for a gamma that is trained.

dq^g/dg is v q^g.  So with the loss l, its slope A and the link of formula.py, at the margin m:

    dl/dg = v l          B = dA/dg = v A - p l          d2l/dg2 = v^2 l

and for the rule "linear", with n and k = (dn/dx) / n in place of q and -p:

    dL/dg = L log n      d2L/dg dx = log n dL/dx + k L  d2L/dg2 = L (log n)^2

Where l is infinite v is 0, and so is their product: l is taken at the clipped margin.  A softmax has a gamma for each
row (`hard`) or for each class of each row (`dense`).  The mixed derivative, of gammas and logits, is needed in both
directions: `along` is its product with a vector of logits, `back` that of its transpose with a vector of gammas.
"""

from __future__ import annotations

from parfocal.core import softmax
from parfocal.core.formula import (
    FAR,
    Array,
    Namespace,
    Sides,
    at_least_tiny,
    binary_linear,
    exponential,
    link,
    log_of_n,
    log_q,
    or_one,
    power_of_q,
    shares,
    slope,
    weighted,
)
from parfocal.core.pairs import narrow, plus

Three = tuple[Array, Array, Array]  # the first derivative, its derivative in the margin or score, the second derivative


def focal(xp: Namespace, m: Array, gamma: Array, m_low: Array | None = None) -> Three:
    """v l, B and v^2 l."""
    at = link(xp, m, m_low)
    q_to_g, v = power_of_q(xp, at, gamma), narrow(xp, log_q(xp, at)[0])
    loss, e = -q_to_g * xp.clip(at.u, -FAR, 0.0), narrow(xp, exponential(xp, m, m_low))
    # Below 0 v, and above 0 u, is log(1 + e), which underflows where the product does not: e is multiplied by its root
    # twice.
    root, m = narrow(xp, xp.exp(xp.abs(m) / -2)), narrow(xp, m)
    if m_low is not None:
        root = root * (1 + xp.where(m < 0, m_low, -m_low) / 2)
    ratio = xp.where(e == 0, 1.0, at.log_w / or_one(xp, e))
    first = -(root * xp.where(m < 0, loss, -v * q_to_g)) * (root * ratio)
    return first, v * slope(xp, at, q_to_g, gamma) - at.p * loss, v * first


def binary_hard(xp: Namespace, x: Array, y: Array, gamma: Array, w_1: float, w_0: float) -> Three:
    y_1, y_0 = shares(xp, y, 0.0)
    on_1, on_0 = y_1 * w_1, y_0 * w_0
    first, mixed, second = focal(xp, (2 * y - 1) * x, gamma)
    return (on_1 + on_0) * first, (on_1 - on_0) * mixed, (on_1 + on_0) * second


def binary_soft(xp: Namespace, x: Array, label: Sides, gamma: Array) -> Three:
    """The rule "linear"."""
    loss, gradient = binary_linear(xp, x, label, gamma, 1)
    near, far, _ = label
    e = exponential(xp, x)
    total = at_least_tiny(xp, near + far * e)
    log_n = narrow(xp, plus(*log_of_n(xp, x, near, far, e, total)))
    k = (near - far) * (e / total) / (1 + e)
    first = weighted(xp, log_n, loss)
    return first, gradient * log_n + weighted(xp, xp.where(x < 0, -k, k), loss), log_n * first


# -- softmax, one true class per row


def hard(xp: Namespace, z: Array, target: Array, gamma: Array) -> tuple[Array, Array]:
    """v l and v^2 l of each row."""
    m, m_low, _, _ = softmax.hard_margin(xp, z, target)
    first, _, second = focal(xp, m, gamma, m_low)
    return first, second


def hard_along(xp: Namespace, z: Array, target: Array, gamma: Array, vector: Array) -> Array:
    m, m_low, e, total = softmax.hard_margin(xp, z, target)
    return focal(xp, m, gamma, m_low)[1] * softmax.hard_change(xp, target, e, total, vector)


def hard_back(xp: Namespace, z: Array, target: Array, gamma: Array, vector: Array) -> Array:
    m, m_low, e, total = softmax.hard_margin(xp, z, target)
    return softmax.hard_to_logits(xp, target, e, total, focal(xp, m, gamma, m_low)[1] * vector)


# -- softmax, weight on several classes; w holds a_k y_k


def dense(xp: Namespace, z: Array, w: Array, gamma: Array) -> tuple[Array, Array]:
    """v l and v^2 l of each class."""
    at = softmax.margins(xp, z)
    first, _, second = focal(xp, at.m, gamma, at.m_low)
    return w * first, w * second


def dense_along(xp: Namespace, z: Array, w: Array, gamma: Array, vector: Array) -> Array:
    at = softmax.margins(xp, z)
    second = softmax.second_largest(xp, at)
    return w * focal(xp, at.m, gamma, at.m_low)[1] * (vector - softmax.change_of_rest(xp, at, vector, second)[0])


def dense_back(xp: Namespace, z: Array, w: Array, gamma: Array, vector: Array) -> Array:
    at = softmax.margins(xp, z)
    own = w * focal(xp, at.m, gamma, at.m_low)[1] * vector
    return softmax.to_logits(xp, at, own, softmax.second_largest(xp, at))
