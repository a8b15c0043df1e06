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
    (g) probabilities   the same loss as a function of p, for models that end in a sigmoid or a softmax.

Three things decide how it is written, because exact derivatives of badly rounded parts are badly rounded:

    (h) No 1 - p from a p that was rounded.  p and q both come from e = exp(-|m|), and u, v from log1p(e).
    (i) exp(g v) amplifies the rounding of g v: |g v| = 500 costs 500 half-ulps.  So v and g v carry a low part, and
        q^g = exp(high) (1 + low).  Worst error over gamma 0 to 10 and |m| to 1e4, without the low part and with it:
        5.7e-14 and 7.4e-16 in float64, 5.0e-6 and 5.2e-7 in float32.
    (j) z_j - z_k is rounded too, and exp() amplifies that the same way, so logit differences carry a low part as well.

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


def focal(xp: Namespace, m: Array, gamma: Gamma, order: int = 0, m_low: Array | None = None) -> tuple[Array, ...]:
    """(b), (c) and (d) at the margin m: the loss, its slope A and its curvature C, up to `order`."""
    at = link(xp, m, m_low)
    q_to_g = power_of_q(xp, at, gamma)
    # m = -inf is where the loss is infinite and the slope is not, so only the loss sees it.
    loss = -q_to_g * xp.where(m < -FAR, m, at.u)
    if order == 0:
        return (loss,)
    if order == 1:
        return loss, slope(at, q_to_g, gamma)
    u, p, q, g = at.u, at.p, at.q, gamma
    bracket = q * (1 + g * (u + 2)) - g * g * p * u
    # |bracket| reaches g |m|, so C is a normal number where p no longer is: multiply by sqrt(p (1 + e)) twice.
    root = xp.exp(xp.clip(m, -FAR, 0.0) / 2)
    if m_low is not None:
        root = root * (1 + xp.where(m < 0, m_low, xp.zeros_like(m_low)) / 2)
    return loss, slope(at, q_to_g, gamma), (q_to_g * bracket * root) * (root / (1 + at.e))


def positive_curvature(at: Link, q_to_g: Array, g: Gamma) -> Array:
    """C without its one negative term, p q^(g+1) g u: never below C, above 0 wherever p q is, and p q at gamma 0.

    Boosters divide by it.  C itself is negative where p < 0.018, 0.043, 0.058, 0.050 at gamma 0.5, 1, 2, 5.
    """
    return q_to_g * at.p * (at.q * (1 + 2 * g) - g * g * at.p * at.u)


# -- binary: logits x, labels y in [0, 1], class weights w_1 and w_0


def weighted(xp: Namespace, weight: Array, value: Array) -> Array:
    """weight * value, where a zero weight wins over an infinite value."""
    product = weight * value
    return xp.where((weight == 0) & (xp.abs(value) == float("inf")), xp.zeros_like(product), product)


def binary_hard(
    xp: Namespace, x: Array, y: Array, gamma: Gamma, w_1: float, w_0: float, order: int
) -> tuple[Array, ...]:
    """(e) for labels that are 0 or 1: the margin is x or -x."""
    sign, w = 2 * y - 1, y * w_1 + (1 - y) * w_0
    terms = focal(xp, sign * x, gamma, order)
    return tuple(weighted(xp, w, term * sign if i == 1 else term) for i, term in enumerate(terms))


def binary_expected(
    xp: Namespace, x: Array, y: Array, gamma_1: Gamma, gamma_0: Gamma, w_1: float, w_0: float, order: int
) -> tuple[Array, ...]:
    """(e), the rule "expected": y w_1 l(x) + (1 - y) w_0 l(-x)."""
    terms_1, terms_0 = focal(xp, x, gamma_1, order), focal(xp, -x, gamma_0, order)
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
    near, far = (
        xp.where(x < 0, y, 1 - y),
        xp.where(x < 0, 1 - y, y),
    )  # the weights of the larger and the smaller of p, q
    mixture = near + far * e  # n (1 + e)
    n = mixture / (1 + e)
    weight, log1p_e = w * n**g, xp.log1p(e)
    loss = weight * (near * xp.abs(x) + log1p_e)
    if order == 0:
        return (loss,)
    cross_entropy = near * xp.clip(xp.abs(x), 0.0, FAR) + log1p_e
    d = (1 - y) * p - y * q
    k_over_e = (1 - 2 * y) / ((1 + e) * mixture)
    gradient = weight * (d + g * (k_over_e * e) * cross_entropy)
    if order == 1:
        return loss, gradient
    s = (y * q * q - (1 - y) * p * p) / n
    bracket = 1 / ((1 + e) * (1 + e)) + g * k_over_e * (2 * d + cross_entropy * (s + g * k_over_e * e))
    root = xp.exp(xp.abs(x) / -2)  # e may underflow before the result does
    return loss, gradient, (weight * bracket * root) * root


# -- softmax: logits z, classes on the last axis


def leave_out(xp: Namespace, z: Array, out: Array) -> tuple[Array, Array, Array]:
    """The other logits of each row, `out` left out: (exp(z_j - top), their sum, top), kept as a last axis of 1.

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


def softmax_hard(xp: Namespace, z: Array, target: Array, gamma: Gamma, order: int) -> tuple[Array, ...]:
    """(f) for one true class a row: `target` is a boolean one-hot array.  The loss keeps a last axis of 1."""
    e, total, top = leave_out(xp, z, target)
    z_target = xp.sum(xp.where(target, z, xp.zeros_like(z)), axis=-1, keepdims=True)
    m, m_low = margin(xp, z_target, top, total)
    loss, *slopes = focal(xp, m, gamma, order, m_low)
    if order == 0:
        return (loss,)
    a = slopes[0]
    r = e / xp.where(total == 0, xp.ones_like(total), total)
    gradient = xp.where(target, a, -a * r)
    if order == 1:
        return loss, gradient
    # 1 - r_j: total - e_j is at least 1 unless j alone is on top; then the sum of the smaller ones is the answer.
    is_top = e == 1
    ties = xp.sum(xp.where(is_top, e, xp.zeros_like(e)), axis=-1, keepdims=True)
    smaller = xp.sum(xp.where(is_top, xp.zeros_like(e), e), axis=-1, keepdims=True)
    one_minus_r = xp.where(is_top, smaller + (ties - 1), total - e) / xp.where(total == 0, xp.ones_like(total), total)
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


def margins(xp: Namespace, z: Array) -> Margins:
    """(f): all margins of a row in one go.  Each class but the first is measured against the first logit; leaving e_k
    out of the total is then safe, as the first class's own 1 stays in it.  The first is measured against the second.
    """
    first = xp.arange(z.shape[-1]) == xp.argmax(z, axis=-1, keepdims=True)
    z_first = xp.max(z, axis=-1, keepdims=True)
    high, low = logit_difference(xp, z, z_first)
    e = xp.exp(high) * (1 + low)
    below = xp.sum(xp.where(first, xp.zeros_like(e), e), axis=-1, keepdims=True)
    total = 1 + (below - e)
    e_second, total_second, z_second = leave_out(xp, z, first)
    m, m_low = margin(xp, z, z_first, xp.where(first, xp.ones_like(e), total))
    m_first, m_first_low = margin(xp, z_first, z_second, total_second)
    return Margins(
        m=xp.where(first, m_first, m),
        m_low=xp.where(first, m_first_low, m_low),
        e=e,
        total=xp.where(first, xp.ones_like(e), total),
        first=first,
        r_first=e_second / xp.where(total_second == 0, xp.ones_like(total_second), total_second),
    )


def softmax_dense(xp: Namespace, z: Array, w: Array, gamma: Gamma, order: int) -> tuple[Array, ...]:
    """(f) for labels with weight on several classes: w holds a_k y_k.  The loss keeps a last axis of 1."""
    at = margins(xp, z)
    loss, *slopes = focal(xp, at.m, gamma, min(order, 1), at.m_low)
    loss = xp.sum(weighted(xp, w, loss), axis=-1, keepdims=True)
    if order == 0:
        return (loss,)
    own = w * slopes[0]
    # The sum over k of w_k A_k r_kj: r_kj = e_j / total_k for all k but the first, whose r is at hand.
    pull = xp.where(at.first, xp.zeros_like(own), own / at.total)
    own_first = xp.sum(xp.where(at.first, own, xp.zeros_like(own)), axis=-1, keepdims=True)
    gradient = own - at.e * (xp.sum(pull, axis=-1, keepdims=True) - pull) - own_first * at.r_first
    if order == 1:
        return loss, gradient
    # The simple sum, one class after the other: quadratic in the classes, but each term is exact.
    curvature = xp.zeros_like(z)
    for k in range(z.shape[-1]):
        target = xp.broadcast_to(xp.arange(z.shape[-1]) == k, z.shape)
        gamma_k = gamma if isinstance(gamma, float) else gamma[..., k : k + 1]
        curvature = curvature + w[..., k : k + 1] * softmax_hard(xp, z, target, gamma_k, 2)[2]
    return loss, gradient, curvature


# -- probabilities: the loss as a function of p, with 1 - p beside it as the caller rounded it ------------------------


def focal_of_probability(xp: Namespace, p: Array, q: Array, gamma: Gamma, order: int) -> tuple[Array, ...]:
    """(g): -q^g log p for q = 1 - p, and its first two derivatives in p.  Both p and q are above 0."""
    q_to_g, log_p, g = q**gamma, xp.log(p), gamma
    loss = -q_to_g * log_p
    if order == 0:
        return (loss,)
    first = q_to_g * (g * log_p / q - 1 / p)
    if order == 1:
        return loss, first
    second = q_to_g * (g * (1 - g) * log_p / (q * q) + 2 * g / (p * q) + 1 / (p * p))
    return loss, first, second


def binary_expected_of_probability(
    xp: Namespace, p: Array, q: Array, y: Array, gamma_1: Gamma, gamma_0: Gamma, w_1: float, w_0: float, order: int
) -> tuple[Array, ...]:
    """The rule "expected" as a function of p.  Hard labels are its special case."""
    terms_1 = focal_of_probability(xp, p, q, gamma_1, order)
    terms_0 = focal_of_probability(xp, q, p, gamma_0, order)
    return tuple(
        y * w_1 * a + (1 - y) * w_0 * (-b if i == 1 else b)
        for i, (a, b) in enumerate(zip(terms_1, terms_0, strict=True))
    )


def binary_linear_of_probability(
    xp: Namespace, p: Array, q: Array, y: Array, gamma: float, w_1: float, w_0: float, order: int
) -> tuple[Array, ...]:
    """The rule "linear" as a function of p: w n^g CE with n = y q + (1 - y) p."""
    n = y * q + (1 - y) * p
    cross_entropy = -(y * xp.log(p) + (1 - y) * xp.log(q))
    weight, g = (y * w_1 + (1 - y) * w_0) * n**gamma, gamma
    if order == 0:
        return (weight * cross_entropy,)
    k = (1 - 2 * y) / n
    d = (1 - y) / q - y / p
    gradient = weight * (g * k * cross_entropy + d)
    if order == 1:
        return weight * cross_entropy, gradient
    d_prime = (1 - y) / (q * q) + y / (p * p)
    second = weight * (g * (g - 1) * k * k * cross_entropy + 2 * g * k * d + d_prime)
    return weight * cross_entropy, gradient, second


def softmax_of_probability(
    xp: Namespace, p: Array, p_clipped: Array, q: Array, scale: Array, w: Array, gamma: Gamma, order: int
) -> tuple[Array, ...]:
    """The softmax loss as a function of class scores s that were normalised to p = s / scale, then clipped.

    The clip does not stop the gradient: the hardest examples must keep learning.  f is the loss of one class:

        dL/ds_j   = (w_j f'_j - sum_k w_k f'_k p_k) / scale
        d2L/ds_j2 = (sum_k w_k [f''_k (delta_kj - p_k)^2 - 2 f'_k (delta_kj - p_k)]) / scale^2
    """
    terms = focal_of_probability(xp, p_clipped, q, gamma, order)
    loss = xp.sum(weighted(xp, w, terms[0]), axis=-1, keepdims=True)
    if order == 0:
        return (loss,)
    first = w * terms[1]
    gradient = (first - xp.sum(first * p, axis=-1, keepdims=True)) / scale
    if order == 1:
        return loss, gradient
    second = w * terms[2]
    everywhere = second * p * p + 2 * first * p  # what class k gives to every j
    own = second * (1 - 2 * p) - 2 * first  # what it gives to j = k beside that
    return loss, gradient, (xp.sum(everywhere, axis=-1, keepdims=True) + own) / (scale * scale)


# -- the way back: the pull of a label on its margin


def log_pull(xp: Namespace, m: Array, gamma: Gamma, m_low: Array | None = None) -> Array:
    """log |A| = (g + 1) v + log1p(g p (-u / q)): how hard a label pulls its own score up.

    At a trained score the pulls of the labels, each times its posterior, are in balance: the posterior is their ratio.
    -u / q -> 1 as q -> 0.
    """
    at = link(xp, m, m_low)
    ratio = xp.where(at.q == 0, xp.ones_like(at.q), -at.u / xp.where(at.q == 0, xp.ones_like(at.q), at.q))
    return (gamma + 1) * xp.where(m > FAR, -m, at.v) + xp.log1p(gamma * at.p * ratio)
