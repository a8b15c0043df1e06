"""The focal loss, its first two derivatives, and its pull, from logits: the one place where Python code computes them.

For a sample whose true class has the margin m, and g = gamma:

    (a) the link        u = log sigmoid(m)     v = log sigmoid(-m)     p = e^u     q = e^v
    (b) the loss        l = -q^g u
    (c) its slope       A = dl/dm = q^g (g p u - q)
    (d) its curvature   C = d2l/dm2 = p q^g [q (1 + g (u + 2)) - g^2 p u]

(c) and (d) follow from du/dm = q, dv/dm = -p, dp/dm = p q = -dq/dm.  `docs/formula.md` shows every step.

For binary losses labels and logits become margins here; softmax.py does it for a softmax, (f):

    (e) binary          m = x for label 1 and -x for label 0.  Soft labels have two rules, "linear" and "expected".

Exact derivatives of badly rounded parts are badly rounded.  Hence three rules:

    (g) Never compute 1 - p from a rounded p.  p and q both come from e = exp(-|m|), and u, v from log1p(e).
    (h) exp(g v) amplifies the rounding of g v: |g v| = 500 costs 500 half-ulps.  So v and g v carry a low part, and
        q^g = exp(high) (1 + low).  Worst error without and with it, over gamma 0 to 10 and |m| to 1e4: 5.7e-14 and
        7.4e-16 in float64, 5.0e-6 and 5.2e-7 in float32.
    (i) z_j - z_k is rounded too, and exp() amplifies that the same way, so logit differences carry a low part as well.

Every function takes the array namespace first, then arrays of one floating dtype, and broadcasts.  `gamma` is a
number, `Exponents` or an array that broadcast against the margins, or a `Schedule`, which chooses gamma by the margin.
`order` 0 asks for the loss, 1 for the gradient too, 2 for the second derivative's diagonal too: order + 1 arrays.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from parfocal.core.pairs import log_pair, narrow, split, two_sum, wide, widens

Array = Any
Namespace = Any
Gamma = Any  # a Python float, an array, Exponents, or a Schedule

INFINITY = float("inf")

# Beyond |m| = 1000, p or q is 0 in every dtype, and every result except u and v has reached its limit.  Clipping these
# avoids 0 * inf and inf - inf below.  Where no number may be clipped but infinity, LARGE does.
FAR, LARGE = 1000.0, 1e30

# For these gammas q^g is computed by multiplication: 2.1 ns instead of 13 (float32, loss and slope, XLA).
SMALL = (0.0, 1.0, 2.0, 3.0)


# -- gamma


class Exponents(NamedTuple):
    """A gamma for each element.  `high` has half of the dtype's bits, so its products with other halves are exact."""

    high: Array
    low: Array


def halves(gamma: float, bits: int) -> tuple[float, float]:
    """A Python gamma as the two numbers of `Exponents`, for a dtype of `bits` bits."""
    return split(gamma, 53 - bits // 2)


def bits_of(xp: Namespace, dtype: Any) -> int:
    return 53 if dtype == xp.float64 else 24


class Schedule:
    """Gamma as a table: gammas[i] where the probability of the true class is below thresholds[i], else the last gamma.

    Derivatives treat gamma as a constant, as its paper does (Mukhoti et al. 2020, arXiv:2002.09437, FLSD-53).
    """

    def __init__(self, thresholds: tuple[float, ...], gammas: tuple[float, ...]) -> None:
        self.thresholds, self.gammas = thresholds, gammas

    def at(self, xp: Namespace, value: Array, bounds: tuple[float, ...]) -> Exponents:
        """One gamma per element: gammas[i] where `value`, which increases with the probability, is below bounds[i]."""
        pairs = [halves(gamma, bits_of(xp, value.dtype)) for gamma in self.gammas]
        high, low = (xp.full_like(value, part) for part in pairs[-1])
        for bound, pair in list(zip(bounds, pairs, strict=False))[::-1]:
            below = value < bound
            high, low = xp.where(below, pair[0], high), xp.where(below, pair[1], low)
        return Exponents(high, low)

    def at_margin(self, xp: Namespace, m: Array) -> Exponents:
        return self.at(xp, m, tuple(math.log(t) - math.log1p(-t) for t in self.thresholds))

    def at_probability(self, xp: Namespace, p: Array) -> Exponents:
        return self.at(xp, p, self.thresholds)


def gamma_at(xp: Namespace, gamma: Gamma, m: Array) -> Gamma:
    return gamma.at_margin(xp, narrow(xp, m)) if isinstance(gamma, Schedule) else gamma


def rounded(gamma: Gamma) -> Gamma:
    """gamma as one number or array."""
    return gamma.high + gamma.low if isinstance(gamma, Exponents) else gamma


def times_gamma(xp: Namespace, gamma: Gamma, v: Array, v_low: Array) -> tuple[Array, Array]:
    """gamma * (v + v_low) as a pair (Dekker 1971).  A Python gamma keeps all its digits whatever the dtype of v.

    The only large product is one of two halves, which is exact, so a compiler may fuse it with a sum.  XLA did so
    with `gamma * v` and the difference from it, which cost 1.3e-6 before.
    """
    bits = bits_of(xp, v.dtype)
    if isinstance(gamma, float):
        gamma_high, gamma_low = halves(gamma, bits)
    elif isinstance(gamma, Exponents):
        gamma_high, gamma_low = gamma
    else:
        gamma_high, gamma_low = split(gamma, bits - bits // 2)
    v_high, v_rest = split(v, bits - bits // 2)
    product = gamma_high * v_high
    rest = gamma_high * v_rest + (gamma_low * v_high + gamma_low * v_rest)
    high = product + rest
    return high, (rest - (high - product)) + rounded(gamma) * v_low


def power(xp: Namespace, gamma: Gamma, log: Array, log_low: Array | None) -> Array:
    """The number with the logarithm log + log_low, to the power of gamma."""
    if widens(xp):
        gamma = wide(xp, gamma.high) + gamma.low if isinstance(gamma, Exponents) else gamma
        return narrow(xp, xp.exp(gamma * log))
    high, low = times_gamma(xp, gamma, log, log_low)
    return xp.exp(high) * (1 + low)


# -- the link and the three lines


class Link(NamedTuple):
    """What (b), (c) and (d) need at a margin m, which may be wide.  Where m is -inf, so is u."""

    m: Array
    m_low: Array | None
    log_w: Array  # log(1 + exp(-|m|))
    u: Array
    p: Array
    q: Array


def exponential(xp: Namespace, m: Array, m_low: Array | None = None) -> Array:
    """exp(-|m|), at the margin m + m_low."""
    e = xp.exp(-xp.abs(m))
    return e if m_low is None else e - e * xp.where(m < 0, -m_low, m_low)


def link(xp: Namespace, m: Array, m_low: Array | None = None) -> Link:
    """(a): log-probabilities and probabilities of the true class and of the others, at the margin m + m_low."""
    e = narrow(xp, exponential(xp, m, m_low))
    log_w = xp.log1p(e)
    u = xp.clip(narrow(xp, m), -INFINITY, 0.0) - log_w
    p, q = xp.where(m < 0, e, 1.0), xp.where(m < 0, 1.0, e)
    w = 1 + e
    del e  # run one by one, operations keep every array that has a name
    p = p / w
    return Link(m, m_low, log_w, u, p, q / w)


def log_q(xp: Namespace, at: Link) -> tuple[Array, Array | None]:
    """v as a pair, with m clipped."""
    v, low = two_sum(xp, xp.clip(at.m, 0.0, FAR), at.log_w)
    if low is None:
        return -v, None
    return -v, -(low if at.m_low is None else low + xp.where(at.m < 0, 0.0, at.m_low))


def log_of_others(xp: Namespace, at: Link) -> Array:
    """v as one number; infinite where m is."""
    return xp.clip(-at.m, -INFINITY, 0.0) - at.log_w


def small_power(base: Array, gamma: float) -> Array:
    """base^gamma as a product, for a gamma in SMALL."""
    if gamma == 0:
        return 1.0
    return {1.0: lambda b: b, 2.0: lambda b: b * b, 3.0: lambda b: b * b * b}[gamma](base)


def power_of_q(xp: Namespace, at: Link, gamma: Gamma) -> Array:
    """q^g, from v and its low part."""
    if isinstance(gamma, float) and gamma in SMALL:
        return small_power(at.q, gamma)
    return power(xp, gamma, *log_q(xp, at))


def slope(xp: Namespace, at: Link, q_to_g: Array, g: Gamma) -> Array:
    """(c): A.  It is finite where u is not."""
    return q_to_g * (g * (at.p * xp.clip(at.u, -FAR, 0.0)) - at.q)


def focal(
    xp: Namespace, m: Array, gamma: Gamma, order: int = 0, m_low: Array | None = None, boosting: bool = False
) -> tuple[Array, ...]:
    """(b), (c) and (d) at the margin m, up to `order`: the loss, its slope A, its curvature C or the positive part."""
    at = link(xp, m, m_low)
    gamma = gamma_at(xp, gamma, m)
    del m
    q_to_g, g = power_of_q(xp, at, gamma), rounded(gamma)
    if order < 2:
        at = at._replace(m=None, log_w=None)
    loss = -(q_to_g * at.u)
    if order == 0:
        return (loss,)
    if order == 1:
        return loss, slope(xp, at, q_to_g, g)
    return loss, slope(xp, at, q_to_g, g), (positive_curvature if boosting else curvature)(xp, at, q_to_g, g)


def curvature(xp: Namespace, at: Link, q_to_g: Array, g: Gamma) -> Array:
    """(d): C."""
    u, p, q, m = xp.clip(at.u, -FAR, 0.0), at.p, at.q, narrow(xp, at.m)
    bracket = q * (1 + g * (u + 2)) - g * g * p * u
    # p may underflow where C does not, because |bracket| grows like g |m|; so multiply by the square root of p twice.
    root = narrow(xp, xp.exp(xp.clip(at.m, -FAR, 0.0) / 2))
    if at.m_low is not None:
        root = root * (1 + xp.where(m < 0, at.m_low, 0.0) / 2)
    return (q_to_g * bracket * root) * (root * xp.where(m < 0, q, p))


def positive_curvature(xp: Namespace, at: Link, q_to_g: Array, g: Gamma) -> Array:
    """C without its only negative term, p q^(g+1) g u: never below C, 0 only by underflow, and p q at gamma 0.

    Boosters divide by it, and C itself is negative where p < 0.018, 0.043, 0.058, 0.050 at gamma 0.5, 1, 2, 5.
    """
    return q_to_g * at.p * (at.q * (1 + 2 * g) - g * g * at.p * xp.clip(at.u, -FAR, 0.0))


# -- binary: logits x, labels y_1 in [0, 1] and y_0 = 1 - y_1, class weights w_1 and w_0


def weighted(xp: Namespace, weight: Array, value: Array) -> Array:
    """weight * value; 0 where the weight is 0 and the value infinite."""
    # The value is made finite before the product, whose derivative would be NaN otherwise.
    return weight * xp.where(weight == 0, xp.clip(value, -LARGE, LARGE), value)


def or_one(xp: Namespace, total: Array) -> Array:
    """A divisor: 1 in place of 0.  There the numerator is 0 too, or the quotient is not used."""
    return xp.where(total == 0, 1.0, total)


def only_labels(xp: Namespace, y: Array) -> Array:
    """Labels in [0, 1]; NaN in place of an invalid one."""
    return xp.where(xp.clip(y, 0.0, 1.0) == y, y, float("nan"))


def shares(xp: Namespace, y: Array, smoothing: float) -> tuple[Array, Array]:
    """(y_1, y_0) of labels y, smoothed.  With weak smoothing 1 - y_1 of a rounded y_1 would lose digits."""
    y = only_labels(xp, y)
    if not smoothing:
        return y, 1 - y
    return y * (1 - smoothing) + smoothing / 2, (1 - y) * (1 - smoothing) + smoothing / 2


def binary_hard(
    xp: Namespace, x: Array, y: Array, gamma: Gamma, w_1: float, w_0: float, order: int, boosting: bool = False
) -> tuple[Array, ...]:
    """(e) for labels y that are 0 or 1: the margin is x or -x."""
    loss, *slopes = focal(xp, (2 * y - 1) * x, gamma, order, boosting=boosting)
    on_1, on_0 = (share * weight for share, weight in zip(shares(xp, y, 0.0), (w_1, w_0), strict=True))
    w, signed = on_1 + on_0, on_1 - on_0  # the slope has the sign of the label
    del on_1, on_0
    return weighted(xp, w, loss), *(factor * term for factor, term in zip((signed, w), slopes, strict=False))


def binary_expected(
    xp: Namespace,
    x: Array,
    y_1: Array,
    y_0: Array,
    gamma_1: Gamma,
    gamma_0: Gamma,
    w_1: float,
    w_0: float,
    order: int,
    boosting: bool = False,
) -> tuple[Array, ...]:
    """(e), the rule "expected": y_1 w_1 l(x) + y_0 w_0 l(-x)."""
    loss_1, *slopes_1 = focal(xp, x, gamma_1, order, boosting=boosting)
    loss_0, *slopes_0 = focal(xp, -x, gamma_0, order, boosting=boosting)
    on_1, on_0 = y_1 * w_1, y_0 * w_0
    pairs = zip(slopes_1, slopes_0, strict=True)
    slopes = (on_1 * a - on_0 * b if i == 0 else on_1 * a + on_0 * b for i, (a, b) in enumerate(pairs))
    return weighted(xp, on_1, loss_1) + weighted(xp, on_0, loss_0), *slopes


class Sides(NamedTuple):
    """A soft label as its logit sees it."""

    near: Array  # the share of the label that the logit is for: 1 where x >= 0
    far: Array
    weight: Array


def sides(xp: Namespace, x: Array, y_1: Array, y_0: Array, w_1: float, w_0: float) -> Sides:
    weight = y_1 * w_1 + y_0 * w_0
    return Sides(xp.where(x < 0, y_1, y_0), xp.where(x < 0, y_0, y_1), weight)


def binary_linear(xp: Namespace, x: Array, label: Sides, gamma: Gamma, order: int) -> tuple[Array, ...]:
    """(e), the rule "linear": L = w n^g CE with n = 1 - p_t linear in the label.

        n = y_1 q + y_0 p         CE = -(y_1 u + y_0 v)        w = y_1 w_1 + y_0 w_0
        d = dCE/dx = y_0 p - y_1 q                             k = (dn/dx) / n = (y_0 - y_1) p q / n
        dL/dx = w n^g (d + g k CE)
        d2L/dx2 = w n^g [p q + 2 g k d + g CE (k s + g k^2)],  s = (y_1 q^2 - y_0 p^2) / n

    k s is k (q - p - k), which is k'(x), without its cancellation at labels near 0 and 1.  In terms of `label` and of
    e = exp(-|x|), with S = near + far e, and d, k and s changing their signs where x < 0:

        n = S / (1 + e)           CE = near |x| + log(1 + e)
        d = (near - far e) / (1 + e)     k = (near - far) e / S / (1 + e)     s = (far e^2 - near) / S / (1 + e)
    """
    near, far, weight = label
    del label  # as in `link`
    e = exponential(xp, x)
    total = at_least_tiny(xp, near + far * e)
    if isinstance(gamma, Schedule):
        gamma = gamma.at_probability(xp, (near * e + far) / (1 + e))
    g, weight = rounded(gamma), weight * power_of_n(xp, gamma, x, near, far, e, total)
    cross_entropy = near * xp.where(near == 0, 0.0, xp.abs(x)) + xp.log1p(e)
    if order == 0:
        return (weighted(xp, weight, cross_entropy),)
    bent = linear_curvature(xp, x, near, far, e, total, cross_entropy, g) if order > 1 else None
    k, far = near - far, far * e
    d = near - far
    del near, far
    k = k * (e / total)
    del total
    gradient = d + g * k * xp.clip(cross_entropy, 0.0, LARGE)  # it is finite where the loss is not
    del d, k
    gradient = weight * gradient / (1 + e)
    del e
    gradient = xp.where(x < 0, -gradient, gradient)
    loss = weighted(xp, weight, cross_entropy)
    return (loss, gradient) if bent is None else (loss, gradient, weight * bent)


def linear_curvature(
    xp: Namespace, x: Array, near: Array, far: Array, e: Array, total: Array, cross_entropy: Array, g: Gamma
) -> Array:
    """The second derivative without w n^g.

    As in `curvature`, e may underflow before the result does: divide by its square root, and multiply at the end.
    """
    root, w, cross_entropy = xp.exp(xp.abs(x) / -2), 1 + e, xp.clip(cross_entropy, 0.0, LARGE)
    k_over_root = (near - far) * root / total
    bracket = 2 * (near - far * e) + cross_entropy * ((far * e * e - near + g * (near - far) * e) / total)
    return (root + g * k_over_root * bracket) / (w * w) * root


def at_least_tiny(xp: Namespace, total: Array) -> Array:
    """A divisor: the smallest normal number in place of what is less."""
    return xp.clip(total, 2.0**-1022 if total.dtype == xp.float64 else 2.0**-126, None)


def power_of_n(xp: Namespace, gamma: Gamma, x: Array, near: Array, far: Array, e: Array, total: Array) -> Array:
    """n^g for n = (near + far e) / (1 + e): like q^g a product, or exp(g log n) with a log n that has a low part."""
    if isinstance(gamma, float) and gamma in SMALL:
        return small_power(total / (1 + e), gamma)
    return power(xp, gamma, *log_of_n(xp, x, near, far, e, total))


def log_of_n(xp: Namespace, x: Array, near: Array, far: Array, e: Array, total: Array) -> tuple[Array, Array | None]:
    """log n as a pair.

    log n = log S - log(1 + e), with S = near + far e.  Where far e is the larger, log n = -size + log S - log(1 + e)
    with S = far + near / e.  S may be as small as the smaller share, so log S gets a low part too.
    """
    far_is_larger = far * e > near
    log_n, low = log_pair(xp, xp.where(far_is_larger, far + near / or_one(xp, e), total))
    minus_size = xp.where(far_is_larger, -xp.clip(xp.abs(x), 0.0, FAR), 0.0)
    del far_is_larger
    log_n, rest = two_sum(xp, minus_size, log_n)
    del minus_size
    log_n, lost = two_sum(xp, log_n, -xp.log1p(e))
    return log_n, None if low is None else rest + lost + low


# -- recovering probabilities: the pull of a label on its margin


def log_pull(xp: Namespace, m: Array, gamma: Gamma, m_low: Array | None = None) -> Array:
    """log |A| = (g + 1) v + log1p(g p (-u / q)).  |A| is the pull: how hard a label moves its own score up.

    At a trained score the labels' pulls, each times its posterior, are in balance, which gives the posterior.
    """
    at = link(xp, m, m_low)
    g, u = rounded(gamma_at(xp, gamma, m)), xp.clip(at.u, -FAR, 0.0)
    ratio = xp.where(at.q == 0, 1.0, -u / or_one(xp, at.q))  # -u / q -> 1 as q -> 0
    return (g + 1) * log_of_others(xp, at) + xp.log1p(g * at.p * ratio)
