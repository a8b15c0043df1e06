"""The focal loss a third time: naive, exact, straight from the papers, in mpmath.

Nothing here is clever.  Probabilities are exponentials over sums, 1 - p is a subtraction, and derivatives are Taylor
coefficients or numerical differences of the loss as it is defined; the working precision is simply so high that none
of that matters.  A sigmoid of -1e4 is 1e-4343, and 1 minus it needs that many digits, so the precision follows the
largest logit.

Losses and derivatives come from the definition alone.  The `..._scale` functions give the sum of the absolute terms of
the closed forms, against which a quantity that changes sign is judged; no value is taken from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import mpmath
from mpmath import mp, mpf


def digits_for(*logits: float) -> int:
    """Decimal digits that survive a subtraction from 1 for every logit given, with 60 to spare."""
    finite = [abs(float(x)) for x in logits] or [0.0]
    spread = max(finite) if len(finite) == 1 else max(logits) - min(logits)
    return 60 + int(spread / 2.302585)


def power(base: mpf, exponent: float) -> mpf:
    return mpf(1) if exponent == 0 else base ** mpf(exponent)


def sigmoid(x: mpf) -> mpf:
    return 1 / (1 + mp.exp(-x))


def softmax(z: Sequence[mpf]) -> list[mpf]:
    total = mp.fsum(mp.exp(x) for x in z)
    return [mp.exp(x) / total for x in z]


# -- losses, as the papers write them


def focal_of_probability(p: mpf, gamma: float) -> mpf:
    """Lin et al. 2017, equation 4: FL(p_t) = -(1 - p_t)^gamma log(p_t)."""
    return -power(1 - p, gamma) * mp.log(p)


def binary_loss(x: mpf, y: float, gamma: tuple[float, float], weights: tuple[float, float], rule: str) -> mpf:
    """One logit, one label in [0, 1]; gamma and weights as (negatives, positives)."""
    return binary_loss_of_probability(sigmoid(x), y, gamma, weights, rule)


def binary_loss_of_probability(
    p: mpf, y: float, gamma: tuple[float, float], weights: tuple[float, float], rule: str
) -> mpf:
    label = mpf(y)
    if rule == "expected" or y in (0, 1):  # the rules agree at hard labels
        positive = weights[1] * focal_of_probability(p, gamma[1]) if y > 0 else mpf(0)
        negative = weights[0] * focal_of_probability(1 - p, gamma[0]) if y < 1 else mpf(0)
        return label * positive + (1 - label) * negative
    p_t = label * p + (1 - label) * (1 - p)
    cross_entropy = -(label * mp.log(p) + (1 - label) * mp.log(1 - p))
    weight = label * mpf(weights[1]) + (1 - label) * mpf(weights[0])
    return weight * power(1 - p_t, gamma[1]) * cross_entropy


def softmax_loss(z: Sequence[mpf], weights: Sequence[float], gammas: Sequence[float]) -> mpf:
    """The sum over classes of w_k times the focal loss of p_k; w_k is alpha_k y_k."""
    return mp.fsum(
        mpf(w) * focal_of_probability(p, g) for p, w, g in zip(softmax(z), weights, gammas, strict=True) if w
    )


def softmax_loss_of_scores(s: Sequence[mpf], weights: Sequence[float], gammas: Sequence[float]) -> mpf:
    """The same for scores that are normalised to probabilities."""
    total = mp.fsum(s)
    return mp.fsum(mpf(w) * focal_of_probability(x / total, g) for x, w, g in zip(s, weights, gammas, strict=True) if w)


# -- derivatives: differences of the exact loss


def derivatives(f: Callable[[mpf], mpf], x: float, digits: int) -> tuple[mpf, mpf, mpf]:
    """f, f' and f'' at x by central differences, which are off by about h^2 = 1e-60.

    `digits` is what f itself needs.  f'' may be e^-|x| of f, so the differences need as many again.
    """
    with mp.workdps(2 * digits + 60):
        h, at = mpf(10) ** -30, mpf(x)
        below, middle, above = f(at - h), f(at), f(at + h)
        return middle, (above - below) / (2 * h), (above - 2 * middle + below) / (h * h)


@cache
def binary(
    x: float, y: float, gamma: tuple[float, float], weights: tuple[float, float] = (1, 1), rule: str = "linear"
) -> tuple[mpf, mpf, mpf]:
    """Loss, gradient and curvature of one binary element."""
    return derivatives(lambda t: binary_loss(t, y, gamma, weights, rule), x, digits_for(x))


def categorical(
    z: Sequence[float], weights: Sequence[float], gammas: Sequence[float]
) -> tuple[mpf, list[mpf], list[mpf]]:
    """Loss, gradient and diagonal of the second derivative of one softmax row."""
    return categorical_row(tuple(z), tuple(weights), tuple(gammas))


@cache
def categorical_row(
    z: tuple[float, ...], weights: tuple[float, ...], gammas: tuple[float, ...]
) -> tuple[mpf, list[mpf], list[mpf]]:
    digits = digits_for(*z)
    rows = []
    for j in range(len(z)):

        def along(t: mpf, j: int = j) -> mpf:
            return softmax_loss([t if i == j else mpf(x) for i, x in enumerate(z)], weights, gammas)

        rows.append(derivatives(along, z[j], digits))
    return rows[0][0], [row[1] for row in rows], [row[2] for row in rows]


def hessian(f: Callable[[list[mpf]], mpf], at: Sequence[float], digits: int) -> list[list[mpf]]:
    """All second derivatives of f, by central differences; `digits` as in `derivatives`.

    500 more suffice: a derivative that they cannot distinguish from 0 is not a float64 number either.
    """
    with mp.workdps(digits + 500):
        h, centre = mpf(10) ** -30, [mpf(x) for x in at]

        def moved(*steps: tuple[int, int]) -> mpf:
            point = list(centre)
            for i, step in steps:
                point[i] += step * h
            return f(point)

        middle, n = f(centre), len(centre)
        bends = [[mpf(0)] * n for _ in at]
        for i in range(n):
            bends[i][i] = (moved((i, 1)) - 2 * middle + moved((i, -1))) / (h * h)
            for j in range(i):
                corners = mp.fsum(a * b * moved((i, a), (j, b)) for a in (1, -1) for b in (1, -1))
                bends[i][j] = bends[j][i] = corners / (4 * h * h)
        return bends


# -- sums of absolute terms: what a rounding error is measured against ------------------------------------------------


def curvature_scale(m: mpf, gamma: float) -> mpf:
    """p q^g [q (1 + 2g) + g q |u| + g^2 p |u|] at the margin m."""
    p, g = sigmoid(m), mpf(gamma)
    q, u = 1 - p, abs(mp.log(p))
    return p * power(q, gamma) * (q * (1 + 2 * g) + g * q * u + g * g * p * u)


def slope_scale(m: mpf, gamma: float) -> mpf:
    """q^g (g p |u| + q), which is |A|: its terms have one sign."""
    p = sigmoid(m)
    return power(1 - p, gamma) * (mpf(gamma) * p * abs(mp.log(p)) + 1 - p)


def linear_scale(x: float, y: float, gamma: float, weights: tuple[float, float]) -> tuple[mpf, mpf]:
    """The same for gradient and curvature of the rule "linear"."""
    p, label, g = sigmoid(mpf(x)), mpf(y), mpf(gamma)
    q = 1 - p
    n = label * q + (1 - label) * p
    cross_entropy = -(label * mp.log(p) + (1 - label) * mp.log(q))
    k, d = abs(1 - 2 * label) * p * q / n, (1 - label) * p + label * q
    weight = (label * mpf(weights[1]) + (1 - label) * mpf(weights[0])) * power(n, gamma)
    curvature = p * q + 2 * g * k * d + g * cross_entropy * (k * abs(q - p) + abs(g - 1) * k * k)
    return weight * (d + g * k * cross_entropy), weight * curvature


def softmax_scale(z: Sequence[float], weights: Sequence[float], gammas: Sequence[float]) -> list[tuple[mpf, mpf]]:
    """The same for every logit of a softmax row."""
    gradient = [mpf(0)] * len(z)
    for w, slope, _, r in softmax_slopes(z, weights, gammas):
        gradient = [total + w * slope * r_j for total, r_j in zip(gradient, r, strict=True)]
    hessian = softmax_hessian_scale(z, weights, gammas)
    return [(gradient[j], hessian[j][j]) for j in range(len(z))]


def softmax_hessian_scale(z: Sequence[float], weights: Sequence[float], gammas: Sequence[float]) -> list[list[mpf]]:
    """The same for the second derivative to every pair of logits."""
    n = len(z)
    scale = [[mpf(0)] * n for _ in z]
    for k, (w, slope, bend, r) in enumerate(softmax_slopes(z, weights, gammas)):
        for i in range(n):
            for j in range(n):
                scale[i][j] += w * bend * r[i] * r[j]
                if k not in (i, j):  # r_i (1 - r_i) on the diagonal, r_i r_j beside it
                    others = mp.fsum(r[o] for o in range(n) if o not in (i, k)) if i == j else r[j]
                    scale[i][j] += w * slope * r[i] * others
    return scale


def softmax_slopes(
    z: Sequence[float], weights: Sequence[float], gammas: Sequence[float]
) -> Iterator[tuple[mpf, mpf, mpf, list[mpf]]]:
    """For every class: its weight, the scales of slope and curvature at its margin, and |dm/dz_j| for every logit."""
    exponentials = [mp.exp(mpf(x)) for x in z]
    for k, (w, g) in enumerate(zip(weights, gammas, strict=True)):
        rest = mp.fsum(e for i, e in enumerate(exponentials) if i != k)
        m = mpf(z[k]) - mp.log(rest)
        r = [mpf(1) if i == k else e / rest for i, e in enumerate(exponentials)]
        yield mpf(w), slope_scale(m, g), curvature_scale(m, g), r


# -- posteriors: what an unlimited sample would have trained


def trained_score(risk: Callable[[mpf], mpf], low: float, high: float) -> mpf:
    """The score that minimises a convex-shaped expected loss, by golden section at 40 digits."""
    with mp.workdps(60):
        ratio = (mp.sqrt(5) - 1) / 2
        a, b = mpf(low), mpf(high)
        c, d = b - ratio * (b - a), a + ratio * (b - a)
        at_c, at_d = risk(c), risk(d)
        for _ in range(150):
            if at_c < at_d:
                b, d, at_d = d, c, at_c
                c = b - ratio * (b - a)
                at_c = risk(c)
            else:
                a, c, at_c = c, d, at_d
                d = a + ratio * (b - a)
                at_d = risk(d)
        return (a + b) / 2


def relative_error(got: float, exact: mpf, scale: mpf | None = None) -> float:
    """|got - exact| over |exact|, or over the sum of absolute terms where a quantity changes sign."""
    if mpmath.isnan(mpf(float(got))):
        return float("inf")
    size = abs(exact) if scale is None else scale
    return float(abs(mpf(float(got)) - exact) / size) if size else float(abs(mpf(float(got))) > 0)
