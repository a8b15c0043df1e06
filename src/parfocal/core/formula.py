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

from parfocal.core.pairs import log_pair, split, two_sum

Array = Any
Namespace = Any
Gamma = Any  # a Python float, an array, Exponents, or a Schedule

# Beyond |m| = 1000, p or q is 0 in every dtype, and every result except u has reached its limit.  Clipping m there
# avoids 0 * inf and inf - inf in the products below.
FAR = 1000.0

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
            high = xp.where(below, xp.full_like(value, pair[0]), high)
            low = xp.where(below, xp.full_like(value, pair[1]), low)
        return Exponents(high, low)

    def at_margin(self, xp: Namespace, m: Array) -> Exponents:
        return self.at(xp, m, tuple(math.log(t) - math.log1p(-t) for t in self.thresholds))

    def at_probability(self, xp: Namespace, p: Array) -> Exponents:
        return self.at(xp, p, self.thresholds)


def gamma_at(xp: Namespace, gamma: Gamma, m: Array) -> Gamma:
    return gamma.at_margin(xp, m) if isinstance(gamma, Schedule) else gamma


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


# -- the link and the three lines


class Link(NamedTuple):
    """What (b), (c) and (d) need at a margin m; v comes with its low part."""

    u: Array
    v: Array
    v_low: Array
    p: Array
    q: Array
    e: Array  # exp(-|m|)
    larger: Array  # 1 / (1 + e), the larger of p and q


def link(xp: Namespace, m: Array, m_low: Array | None = None) -> Link:
    """(a): log-probabilities and probabilities of the true class and of the others, at the margin m + m_low."""
    m = xp.clip(m, -FAR, FAR)
    size = xp.abs(m)
    e = xp.exp(-size)
    if m_low is not None:
        e = e - e * xp.where(m < 0, -m_low, m_low)
    larger, log_w = 1 / (1 + e), xp.log1p(e)
    smaller = e * larger
    positive, negative = (size + m) / 2, (size - m) / 2  # max(m, 0) and max(-m, 0), exactly
    v, v_low = two_sum(xp, positive, log_w)
    if m_low is not None:
        v_low = v_low + xp.where(m < 0, xp.zeros_like(m_low), m_low)
    p, q = xp.where(m < 0, smaller, larger), xp.where(m < 0, larger, smaller)
    return Link(u=-(negative + log_w), v=-v, v_low=-v_low, p=p, q=q, e=e, larger=larger)


def small_power(xp: Namespace, base: Array, gamma: float) -> Array:
    """base^gamma as a product, for a gamma in SMALL."""
    return {0.0: xp.ones_like, 1.0: lambda b: b, 2.0: lambda b: b * b, 3.0: lambda b: b * b * b}[gamma](base)


def power_of_q(xp: Namespace, at: Link, gamma: Gamma) -> Array:
    """q^g, from v and its low part."""
    if isinstance(gamma, float) and gamma in SMALL:
        return small_power(xp, at.q, gamma)
    high, low = times_gamma(xp, gamma, at.v, at.v_low)
    return xp.exp(high) * (1 + low)


def slope(at: Link, q_to_g: Array, g: Gamma) -> Array:
    """(c): A."""
    return q_to_g * (g * at.p * at.u - at.q)


def focal(
    xp: Namespace, m: Array, gamma: Gamma, order: int = 0, m_low: Array | None = None, boosting: bool = False
) -> tuple[Array, ...]:
    """(b), (c) and (d) at the margin m, up to `order`: the loss, its slope A, its curvature C or the positive part."""
    at = link(xp, m, m_low)
    gamma = gamma_at(xp, gamma, m)
    q_to_g, g = power_of_q(xp, at, gamma), rounded(gamma)
    # At m = -inf the loss is infinite and the slope is not, so only the loss uses the unclipped m.
    loss = -q_to_g * xp.where(m < -FAR, m, at.u)
    if order == 0:
        return (loss,)
    if order == 1:
        return loss, slope(at, q_to_g, g)
    if boosting:
        return loss, slope(at, q_to_g, g), positive_curvature(at, q_to_g, g)
    u, p, q = at.u, at.p, at.q
    bracket = q * (1 + g * (u + 2)) - g * g * p * u
    # p may underflow where C does not, because |bracket| grows like g |m|; so multiply by the square root of p twice.
    root = xp.exp(xp.clip(m, -FAR, 0.0) / 2)
    if m_low is not None:
        root = root * (1 + xp.where(m < 0, m_low, xp.zeros_like(m_low)) / 2)
    return loss, slope(at, q_to_g, g), (q_to_g * bracket * root) * (root * at.larger)


def positive_curvature(at: Link, q_to_g: Array, g: Gamma) -> Array:
    """C without its only negative term, p q^(g+1) g u: never below C, 0 only by underflow, and p q at gamma 0.

    Boosters divide by it, and C itself is negative where p < 0.018, 0.043, 0.058, 0.050 at gamma 0.5, 1, 2, 5.
    """
    return q_to_g * at.p * (at.q * (1 + 2 * g) - g * g * at.p * at.u)


# -- binary: logits x, labels y_1 in [0, 1] and y_0 = 1 - y_1, class weights w_1 and w_0


def weighted(xp: Namespace, weight: Array, value: Array) -> Array:
    """weight * value; 0 where the weight is 0 and the value infinite."""
    # The zero is put in before the product, whose derivative would be NaN otherwise.
    return weight * xp.where((weight == 0) & (xp.abs(value) == float("inf")), xp.zeros_like(value), value)


def or_one(xp: Namespace, total: Array) -> Array:
    """A divisor: 1 in place of 0.  There the numerator is 0 too, or the quotient is not used."""
    return xp.where(total == 0, xp.ones_like(total), total)


def shares(y: Array, smoothing: float) -> tuple[Array, Array]:
    """(y_1, y_0) of labels y, smoothed.  With weak smoothing 1 - y_1 of a rounded y_1 would lose digits."""
    if not smoothing:
        return y, 1 - y
    return y * (1 - smoothing) + smoothing / 2, (1 - y) * (1 - smoothing) + smoothing / 2


def binary_hard(
    xp: Namespace, x: Array, y: Array, gamma: Gamma, w_1: float, w_0: float, order: int, boosting: bool = False
) -> tuple[Array, ...]:
    """(e) for labels y that are 0 or 1: the margin is x or -x."""
    sign, w = 2 * y - 1, y * w_1 + (1 - y) * w_0
    terms = focal(xp, sign * x, gamma, order, boosting=boosting)
    return tuple(weighted(xp, w, term * sign if i == 1 else term) for i, term in enumerate(terms))


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
    terms_1 = focal(xp, x, gamma_1, order, boosting=boosting)
    terms_0 = focal(xp, -x, gamma_0, order, boosting=boosting)
    return tuple(
        weighted(xp, y_1 * w_1, a) + weighted(xp, y_0 * w_0, -b if i == 1 else b)
        for i, (a, b) in enumerate(zip(terms_1, terms_0, strict=True))
    )


def binary_linear(
    xp: Namespace, x: Array, y_1: Array, y_0: Array, gamma: Gamma, w_1: float, w_0: float, order: int
) -> tuple[Array, ...]:
    """(e), the rule "linear": L = w n^g CE with n = 1 - p_t linear in the label.

        n = y_1 q + y_0 p         CE = -(y_1 u + y_0 v)        w = y_1 w_1 + y_0 w_0
        d = dCE/dx = y_0 p - y_1 q                             k = (dn/dx) / n = (y_0 - y_1) p q / n
        dL/dx = w n^g (d + g k CE)
        d2L/dx2 = w n^g [p q + 2 g k d + g CE (k s + g k^2)],  s = (y_1 q^2 - y_0 p^2) / n

    k s is k (q - p - k), which is k'(x), without its cancellation at labels near 0 and 1.  Labels 0 and 1 give (b) to
    (d): where e underflows there, n and e become equal, and their ratio is 1.
    """
    at = link(xp, x)
    p, q, e = at.p, at.q, at.e
    w = y_1 * w_1 + y_0 * w_0
    mixed, size = mixture(xp, at, x, y_1, y_0), xp.clip(xp.abs(x), 0.0, FAR)
    near, far, log_w, k = mixed.near, mixed.far, mixed.log_w, mixed.k
    if isinstance(gamma, Schedule):
        gamma = gamma.at_probability(xp, (near * e + far) * at.larger)
    g = rounded(gamma)
    weight = w * power_of_n(xp, gamma, size, mixed)
    loss = weighted(xp, weight, weighted(xp, near, xp.abs(x)) + log_w)
    if order == 0:
        return (loss,)
    cross_entropy = near * size + log_w
    d = y_0 * p - y_1 * q
    gradient = weight * (d + g * k * cross_entropy)
    if order == 1:
        return loss, gradient
    s = (y_1 * q * q - y_0 * p * p) / or_one(xp, mixed.n)
    # As in `focal`, e may underflow before the result does: divide the bracket by its square root, multiply at the end.
    root = xp.exp(size / -2)
    k_over_root = (y_0 - y_1) * at.larger * (root / or_one(xp, near + far * e))
    bracket = root * at.larger * at.larger + g * k_over_root * (2 * d + cross_entropy * (s + g * k))
    return loss, gradient, (weight * bracket) * root


class Mixture(NamedTuple):
    """n = y_1 q + y_0 p and what belongs to it, for the rule "linear"."""

    near: Array  # the factor in n of the larger of p and q
    far: Array  # that of the smaller
    e: Array
    n: Array
    k: Array
    log_w: Array  # log(1 + e)


def mixture(xp: Namespace, at: Link, x: Array, y_1: Array, y_0: Array) -> Mixture:
    near, far, e = xp.where(x < 0, y_1, y_0), xp.where(x < 0, y_0, y_1), at.e
    total = near + far * e  # n (1 + e)
    ratio = xp.where(total == 0, xp.ones_like(e), e / or_one(xp, total))
    return Mixture(near, far, e, total * at.larger, (y_0 - y_1) * at.larger * ratio, xp.log1p(e))


def power_of_n(xp: Namespace, gamma: Gamma, size: Array, of: Mixture) -> Array:
    """n^g for n = (near + far e) / (1 + e): like q^g a product, or exp(g log n) with a log n that has a low part."""
    if isinstance(gamma, float) and gamma in SMALL:
        return small_power(xp, of.n, gamma)
    high, low = times_gamma(xp, gamma, *log_of_n(xp, size, of))
    return xp.exp(high) * (1 + low)


def log_of_n(xp: Namespace, size: Array, of: Mixture) -> tuple[Array, Array]:
    """log n as a pair.

    log n = log S - log(1 + e), with S = near + far e.  Where far e is the larger, log n = -size + log S - log(1 + e)
    with S = far + near / e.  S may be as small as the smaller share, so log S gets a low part too.
    """
    near, far, e = of.near, of.far, of.e
    far_is_larger = far * e > near
    # S is 0 only where the label is hard and e underflows; the loss is then 0 whatever n^g is.
    s = or_one(xp, xp.where(far_is_larger, far + near / or_one(xp, e), near + far * e))
    log_s, log_s_low = log_pair(xp, s)
    high, low = two_sum(xp, xp.where(far_is_larger, -size, xp.zeros_like(size)), log_s)
    high, lost = two_sum(xp, high, -of.log_w)
    return high, low + lost + log_s_low


# -- recovering probabilities: the pull of a label on its margin


def log_pull(xp: Namespace, m: Array, gamma: Gamma, m_low: Array | None = None) -> Array:
    """log |A| = (g + 1) v + log1p(g p (-u / q)).  |A| is the pull: how hard a label moves its own score up.

    At a trained score the labels' pulls, each times its posterior, are in balance, which gives the posterior.
    """
    at = link(xp, m, m_low)
    g = rounded(gamma_at(xp, gamma, m))
    ratio = xp.where(at.q == 0, xp.ones_like(at.q), -at.u / or_one(xp, at.q))  # -u / q -> 1 as q -> 0
    return (g + 1) * xp.where(m > FAR, -m, at.v) + xp.log1p(g * at.p * ratio)
