"""The focal loss, its first two derivatives, and its pull: the one place where parfocal computes them.

For a sample whose true class has the margin m, and g = gamma:

    (a) the link        u = log sigmoid(m)     v = log sigmoid(-m)     p = e^u     q = e^v
    (b) the loss        l = -q^g u
    (c) its slope       A = dl/dm = q^g (g p u - q)
    (d) its curvature   C = d2l/dm2 = p q^g [q (1 + g (u + 2)) - g^2 p u]

(c) and (d) follow from du/dm = q, dv/dm = -p, dp/dm = p q = -dq/dm.  `docs/formula.md` takes every step.

The rest of the file brings labels and logits to a margin and the slopes back to the logits:

    (e) binary          m = x for label 1 and -x for label 0.  Soft labels have two rules, "linear" and "expected".
    (f) softmax         m_k = z_k - rest_k, rest_k = logsumexp of the other logits.  With r_kj = exp(z_j - rest_k):
                        true class t    dL/dz_t = A,      dL/dz_j = -A r_j
                                        d2L/dz_t2 = C,    d2L/dz_j2 = C r_j^2 - A r_j (1 - r_j)
                        labels y        the sum over k of a_k y_k times these

Three things decide how it is written, because exact derivatives of badly rounded parts are badly rounded:

    (g) No 1 - p from a p that was rounded.  p and q both come from e = exp(-|m|), and u, v from log1p(e).
    (h) exp(g v) amplifies the rounding of g v: |g v| = 500 costs 500 half-ulps.  So v and g v carry a low part, and
        q^g = exp(high) (1 + low).  Worst error over gamma 0 to 10 and |m| to 1e4, without the low part and with it:
        5.7e-14 and 7.4e-16 in float64, 5.0e-6 and 5.2e-7 in float32.
    (i) z_j - z_k is rounded too, and exp() amplifies that the same way, so logit differences carry a low part as well.

Every function takes the array namespace first, then arrays of one floating dtype, and broadcasts.  `gamma` is a
number, or an array that broadcasts against the margins.  `order` says how far to go: 0 the loss, 1 and its
gradient, 2 and the diagonal of its second derivative; the answer is a tuple of order + 1 arrays.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Array = Any
Namespace = Any
Gamma = Any  # a Python float, or an array

# Beyond |m| = 1000, p or q is 0 in every dtype and every result but u has reached its limit.  Stopping there keeps
# the products below free of 0 * inf and of inf - inf.
FAR = 1000.0


# -- numbers that carry what rounding lost


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """The rounded sum and what rounding lost (Knuth 1969); the pair is exact."""
    total = a + b
    b_kept = total - a
    return total, (a - (total - b_kept)) + (b - b_kept)


def logit_difference(xp: Namespace, a: Array, b: Array) -> tuple[Array, Array]:
    """`a - b` and what rounding lost.  Equal infinities differ by 0, and an infinite difference has lost nothing."""
    high, low = two_sum(a, -b)
    high = xp.where((a == b) & ~xp.isfinite(a), xp.zeros_like(high), high)
    return high, xp.where(xp.isfinite(high) & xp.isfinite(low), low, xp.zeros_like(low))


def split(a: Array, bits: int) -> tuple[Array, Array]:
    """`a` as a high and a low half, with `bits` bits cut off the high one (Veltkamp 1968); the pair is exact."""
    shifted = a * (2.0**bits + 1.0)
    high = shifted - (shifted - a)
    return high, a - high


def times_gamma(xp: Namespace, gamma: Gamma, v: Array, v_low: Array) -> tuple[Array, Array]:
    """gamma * (v + v_low) as a pair (Dekker 1971).  A Python gamma keeps all its digits whatever the dtype of v."""
    cut = 27 if v.dtype == xp.float64 else 12  # about half of the 53 or 24 bits
    if isinstance(gamma, float):
        gamma_high, gamma_low = split(gamma, 27 if cut == 27 else 53 - cut)
    else:
        gamma_high, gamma_low = split(gamma, cut)
    v_high, v_rest = split(v, cut)
    high = gamma * v
    low = ((gamma_high * v_high - high) + gamma_high * v_rest + gamma_low * v_high) + gamma_low * v_rest
    return high, low + gamma * v_low


# -- the link and the three lines


class Link(NamedTuple):
    """What the three lines need at a margin m; v comes with its low part."""

    u: Array
    v: Array
    v_low: Array
    p: Array
    q: Array
    e: Array  # exp(-|m|)


def link(xp: Namespace, m: Array, m_low: Array | None = None) -> Link:
    """(a): log-probabilities and probabilities of the true class and of the others, at the margin m + m_low."""
    m = xp.clip(m, -FAR, FAR)
    size = xp.abs(m)
    e = xp.exp(-size)
    if m_low is not None:
        e = e - e * xp.where(m < 0, -m_low, m_low)
    log1p_e = xp.log1p(e)
    positive, negative = (size + m) / 2, (size - m) / 2  # max(m, 0) and max(-m, 0), exactly
    v, v_low = two_sum(positive, log1p_e)
    if m_low is not None:
        v_low = v_low + xp.where(m < 0, xp.zeros_like(m_low), m_low)
    one = xp.ones_like(e)
    return Link(
        u=-(negative + log1p_e),
        v=-v,
        v_low=-v_low,
        p=xp.where(m < 0, e, one) / (1 + e),
        q=xp.where(m < 0, one, e) / (1 + e),
        e=e,
    )


def power_of_q(xp: Namespace, at: Link, gamma: Gamma) -> Array:
    """q^g, from v and its low part."""
    high, low = times_gamma(xp, gamma, at.v, at.v_low)
    return xp.exp(high) * (1 + low)


def slope(at: Link, q_to_g: Array, g: Gamma) -> Array:
    """(c): A."""
    return q_to_g * (g * at.p * at.u - at.q)


def focal(
    xp: Namespace, m: Array, gamma: Gamma, order: int = 0, m_low: Array | None = None, positive: bool = False
) -> tuple[Array, ...]:
    """(b), (c) and (d) at the margin m, up to `order`: the loss, its slope A, its curvature C or the positive part."""
    at = link(xp, m, m_low)
    q_to_g = power_of_q(xp, at, gamma)
    # m = -inf is where the loss is infinite and the slope is not, so only the loss sees it.
    loss = -q_to_g * xp.where(m < -FAR, m, at.u)
    if order == 0:
        return (loss,)
    if order == 1:
        return loss, slope(at, q_to_g, gamma)
    if positive:
        return loss, slope(at, q_to_g, gamma), positive_curvature(at, q_to_g, gamma)
    u, p, q, g = at.u, at.p, at.q, gamma
    bracket = q * (1 + g * (u + 2)) - g * g * p * u
    # |bracket| reaches g |m|, so C is a normal number where p no longer is: multiply by sqrt(p (1 + e)) twice.
    root = xp.exp(xp.clip(m, -FAR, 0.0) / 2)
    if m_low is not None:
        root = root * (1 + xp.where(m < 0, m_low, xp.zeros_like(m_low)) / 2)
    return loss, slope(at, q_to_g, gamma), (q_to_g * bracket * root) * (root / (1 + at.e))


def positive_curvature(at: Link, q_to_g: Array, g: Gamma) -> Array:
    """C without its one negative term, p q^(g+1) g u: never below C, 0 only by underflow, and p q at gamma 0.

    Boosters divide by it.  C itself is negative where p < 0.018, 0.043, 0.058, 0.050 at gamma 0.5, 1, 2, 5.
    """
    return q_to_g * at.p * (at.q * (1 + 2 * g) - g * g * at.p * at.u)


# -- binary: logits x, labels y in [0, 1], class weights w_1 and w_0


def weighted(xp: Namespace, weight: Array, value: Array) -> Array:
    """weight * value, where a zero weight wins over an infinite value."""
    product = weight * value
    return xp.where((weight == 0) & (xp.abs(value) == float("inf")), xp.zeros_like(product), product)


def binary_hard(
    xp: Namespace, x: Array, y: Array, gamma: Gamma, w_1: float, w_0: float, order: int, positive: bool = False
) -> tuple[Array, ...]:
    """(e) for labels that are 0 or 1: the margin is x or -x."""
    sign, w = 2 * y - 1, y * w_1 + (1 - y) * w_0
    terms = focal(xp, sign * x, gamma, order, positive=positive)
    return tuple(weighted(xp, w, term * sign if i == 1 else term) for i, term in enumerate(terms))


def binary_expected(
    xp: Namespace,
    x: Array,
    y: Array,
    gamma_1: Gamma,
    gamma_0: Gamma,
    w_1: float,
    w_0: float,
    order: int,
    positive: bool = False,
) -> tuple[Array, ...]:
    """(e), the rule "expected": y w_1 l(x) + (1 - y) w_0 l(-x)."""
    terms_1 = focal(xp, x, gamma_1, order, positive=positive)
    terms_0 = focal(xp, -x, gamma_0, order, positive=positive)
    return tuple(
        weighted(xp, y * w_1, a) + weighted(xp, (1 - y) * w_0, -b if i == 1 else b)
        for i, (a, b) in enumerate(zip(terms_1, terms_0, strict=True))
    )


def binary_linear(
    xp: Namespace, x: Array, y: Array, gamma: float, w_1: float, w_0: float, order: int
) -> tuple[Array, ...]:
    """(e), the rule "linear": L = w n^g CE with n = 1 - p_t linear in y, for labels strictly between 0 and 1.

        n = y q + (1 - y) p       CE = -(y u + (1 - y) v)      w = y w_1 + (1 - y) w_0
        d = dCE/dx = (1 - y) p - y q                           k = (dn/dx) / n = (1 - 2y) p q / n
        dL/dx = w n^g (d + g k CE)
        d2L/dx2 = w n^g [p q + 2 g k d + g CE (k s + g k^2)],  s = (y q^2 - (1 - y) p^2) / n

    k s is k (q - p - k), which is k'(x), without its cancellation at labels near 0 and 1.
    """
    at = link(xp, x)
    p, q, e, g = at.p, at.q, at.e, gamma
    w = y * w_1 + (1 - y) * w_0
    # The label's shares of the larger and of the smaller of p and q.
    near, far = xp.where(x < 0, y, 1 - y), xp.where(x < 0, 1 - y, y)
    mixture = near + far * e  # n (1 + e)
    n = mixture / (1 + e)
    weight, log1p_e = w * n**g, xp.log1p(e)
    loss = weight * (near * xp.abs(x) + log1p_e)
    if order == 0:
        return (loss,)
    cross_entropy = near * xp.clip(xp.abs(x), 0.0, FAR) + log1p_e
    d = (1 - y) * p - y * q
    k = (1 - 2 * y) / (1 + e) * (e / mixture)
    gradient = weight * (d + g * k * cross_entropy)
    if order == 1:
        return loss, gradient
    s = (y * q * q - (1 - y) * p * p) / n
    # As in `focal`, e may underflow before the result does: divide the bracket by its root, and multiply at the end.
    root = xp.exp(xp.abs(x) / -2)
    k_over_root = (1 - 2 * y) / (1 + e) * (root / mixture)
    bracket = root / ((1 + e) * (1 + e)) + g * k_over_root * (2 * d + cross_entropy * (s + g * k))
    return loss, gradient, (weight * bracket) * root


# -- softmax: logits z, classes on the last axis


def sum_of_others(xp: Namespace, values: Array) -> Array:
    """For each entry of a row the sum of the other ones.

    Subtraction from the total loses digits for the largest alone, so its others are summed apart.
    """
    largest = xp.arange(values.shape[-1]) == xp.argmax(xp.abs(values), axis=-1, keepdims=True)
    zero = xp.zeros_like(values)
    top = xp.sum(xp.where(largest, values, zero), axis=-1, keepdims=True)
    below = xp.sum(xp.where(largest, zero, values), axis=-1, keepdims=True)
    return xp.where(largest, below, top + (below - values))


def or_one(xp: Namespace, total: Array) -> Array:
    """A divisor: 1 in place of 0, where what is above it is 0 as well, or the quotient is not used."""
    return xp.where(total == 0, xp.ones_like(total), total)


def leave_out(xp: Namespace, z: Array, out: Array) -> tuple[Array, Array, Array]:
    """The other logits of each row, `out` left out: (exp(z_j - top), their sum, top), the last two with an axis of 1.

    The class left out, and every class of a row of nothing but -inf, has exponential 0.
    """
    others = xp.where(out, xp.full_like(z, -float("inf")), z)
    top = xp.max(others, axis=-1, keepdims=True)
    top = xp.where(top == -float("inf"), xp.zeros_like(top), top)
    high, low = logit_difference(xp, others, top)
    exponentials = xp.exp(high) * (1 + low)
    return exponentials, xp.sum(exponentials, axis=-1, keepdims=True), top


def margin(xp: Namespace, z: Array, top: Array, total: Array) -> tuple[Array, Array]:
    """z - (top + log total) as a pair: the margin of a class over the others."""
    high, low = logit_difference(xp, z, top)
    high, lost = two_sum(high, -xp.log(total))
    return high, low + xp.where(xp.isfinite(lost), lost, xp.zeros_like(lost))


def softmax_hard(
    xp: Namespace, z: Array, target: Array, gamma: Gamma, order: int, positive: bool = False
) -> tuple[Array, ...]:
    """(f) for one true class a row: `target` is a boolean one-hot array.  The loss keeps a last axis of 1."""
    e, total, top = leave_out(xp, z, target)
    z_target = xp.sum(xp.where(target, z, xp.zeros_like(z)), axis=-1, keepdims=True)
    m, m_low = margin(xp, z_target, top, total)
    loss, *slopes = focal(xp, m, gamma, order, m_low, positive)
    if order == 0:
        return (loss,)
    a = slopes[0]
    r = e / or_one(xp, total)
    gradient = xp.where(target, a, -a * r)
    if order == 1:
        return loss, gradient
    one_minus_r = sum_of_others(xp, e) / or_one(xp, total)
    others = slopes[1] * r * r - a * r * one_minus_r
    return loss, gradient, xp.where(target, slopes[1], others)


class Margins(NamedTuple):
    """Every class's margin over the others, and what a gradient needs to come back from them."""

    m: Array
    m_low: Array
    e: Array  # exp(z_j - z_first), where `first` is the largest logit of the row
    total: Array  # of e, with the class itself left out
    first: Array  # boolean one-hot
    r_first: Array  # exp(z_j - rest_first)
    others_first: Array  # 1 - r_first, summed


def margins(xp: Namespace, z: Array) -> Margins:
    """(f): all margins of a row in one go.  Each class but the first is measured against the first logit; leaving e_k
    out of the total is then safe, as the first class's own 1 stays in it.  The first is measured against the second.
    """
    first = xp.arange(z.shape[-1]) == xp.argmax(z, axis=-1, keepdims=True)
    z_first = xp.max(z, axis=-1, keepdims=True)
    high, low = logit_difference(xp, z, z_first)
    e = xp.exp(high) * (1 + low)
    total = sum_of_others(xp, e)
    e_second, total_second, z_second = leave_out(xp, z, first)
    m, m_low = margin(xp, z, z_first, xp.where(first, xp.ones_like(e), total))
    m_first, m_first_low = margin(xp, z_first, z_second, total_second)
    return Margins(
        m=xp.where(first, m_first, m),
        m_low=xp.where(first, m_first_low, m_low),
        e=e,
        total=xp.where(first, xp.ones_like(e), total),
        first=first,
        r_first=e_second / or_one(xp, total_second),
        others_first=sum_of_others(xp, e_second) / or_one(xp, total_second),
    )


def softmax_dense(xp: Namespace, z: Array, w: Array, gamma: Gamma, order: int) -> tuple[Array, ...]:
    """(f) for labels with weight on several classes: w holds a_k y_k.  The loss keeps a last axis of 1."""
    at = margins(xp, z)
    loss, *slopes = focal(xp, at.m, gamma, order, at.m_low)
    loss = xp.sum(weighted(xp, w, loss), axis=-1, keepdims=True)
    if order == 0:
        return (loss,)

    def of_first(values: Array) -> Array:
        return xp.sum(xp.where(at.first, values, xp.zeros_like(values)), axis=-1, keepdims=True)

    def of_others(values: Array) -> Array:
        return sum_of_others(xp, xp.where(at.first, xp.zeros_like(values), values))

    # r_kj is e_j / total_k for every class k but the first, whose r is at hand.
    e, total, r = at.e, at.total, at.r_first
    own = w * slopes[0]
    gradient = own - e * of_others(own / total) - of_first(own) * r
    if order == 1:
        return loss, gradient
    # r (1 - r) is expanded for j below the first class, where r is at most 1/2, and taken apart for the first.
    bend = w * slopes[1]
    below = e * e * of_others((bend + own) / (total * total)) - e * of_others(own / total)
    rest = of_others(e)  # of the classes below the first, with k itself left out
    top = xp.where(at.first, xp.zeros_like(e), bend / (total * total) - own / total * (rest / total))
    by_first = of_first(bend) * r * r - of_first(own) * r * at.others_first
    return loss, gradient, bend + by_first + xp.where(at.first, xp.sum(top, axis=-1, keepdims=True), below)


# -- the way back: the pull of a label on its margin


def log_pull(xp: Namespace, m: Array, gamma: Gamma, m_low: Array | None = None) -> Array:
    """log |A| = (g + 1) v + log1p(g p (-u / q)): how hard a label pulls its own score up.

    At a trained score the pulls of the labels, each times its posterior, are in balance: the posterior is their ratio.
    -u / q -> 1 as q -> 0.
    """
    at = link(xp, m, m_low)
    ratio = xp.where(at.q == 0, xp.ones_like(at.q), -at.u / or_one(xp, at.q))
    return (gamma + 1) * xp.where(m > FAR, -m, at.v) + xp.log1p(gamma * at.p * ratio)
