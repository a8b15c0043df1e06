"""The same losses as functions of probabilities, for models that end in a sigmoid or a softmax.

f(p) = -(1 - p)^g log p is the loss of the true class, with g = gamma:

    f'  = q^g (g log(p) / q - 1 / p)                                                  q = 1 - p
    f'' = q^g (g (1 - g) log(p) / q^2 + 2 g / (p q) + 1 / p^2)

The caller computes 1 - p, rounded in the dtype of p, and clips both above 0.  Digits that the model's own sigmoid has
lost cannot be recovered.  So logits are better: `formula.py` takes them, and explains the conventions.
"""

from __future__ import annotations

from parfocal.core.formula import (
    SMALL,
    Array,
    Gamma,
    Namespace,
    Schedule,
    rounded,
    small_power,
    weighted,
)
from parfocal.core.formula import power as power_of_log
from parfocal.core.pairs import log_pair
from parfocal.core.softmax import largest_of, sum_of_others


def power(xp: Namespace, base: Array, gamma: Gamma) -> Array:
    """base^gamma for a base above 0."""
    if isinstance(gamma, float) and gamma in SMALL:
        return small_power(base, gamma)
    return power_of_log(xp, gamma, *log_pair(xp, base))


def focal(xp: Namespace, p: Array, q: Array, gamma: Gamma, order: int) -> tuple[Array, ...]:
    """-q^g log p for q = 1 - p, and its first two derivatives in p.  Both p and q are above 0."""
    gamma = gamma.at_probability(xp, p) if isinstance(gamma, Schedule) else gamma
    q_to_g, log_p, g = power(xp, q, gamma), xp.log(p), rounded(gamma)
    loss = -q_to_g * log_p
    if order == 0:
        return (loss,)
    first = q_to_g * (g * log_p / q - 1 / p)
    if order == 1:
        return loss, first
    second = q_to_g * (g * (1 - g) * log_p / (q * q) + 2 * g / (p * q) + 1 / (p * p))
    return loss, first, second


def binary_expected(
    xp: Namespace,
    p: Array,
    q: Array,
    y_1: Array,
    y_0: Array,
    gamma_1: Gamma,
    gamma_0: Gamma,
    w_1: float,
    w_0: float,
    order: int,
) -> tuple[Array, ...]:
    """The rule "expected" as a function of p.  Hard labels are a special case of it."""
    terms_1 = focal(xp, p, q, gamma_1, order)
    terms_0 = focal(xp, q, p, gamma_0, order)
    return tuple(
        y_1 * w_1 * a + y_0 * w_0 * (-b if i == 1 else b) for i, (a, b) in enumerate(zip(terms_1, terms_0, strict=True))
    )


def binary_linear(
    xp: Namespace, p: Array, q: Array, y_1: Array, y_0: Array, gamma: Gamma, w_1: float, w_0: float, order: int
) -> tuple[Array, ...]:
    """The rule "linear" as a function of p: w n^g CE with n = y_1 q + y_0 p."""
    n = y_1 * q + y_0 * p
    gamma = gamma.at_probability(xp, y_1 * p + y_0 * q) if isinstance(gamma, Schedule) else gamma
    cross_entropy = -(y_1 * xp.log(p) + y_0 * xp.log(q))
    weight, g = (y_1 * w_1 + y_0 * w_0) * power(xp, n, gamma), rounded(gamma)
    if order == 0:
        return (weight * cross_entropy,)
    k = (y_0 - y_1) / n
    d = y_0 / q - y_1 / p
    gradient = weight * (g * k * cross_entropy + d)
    if order == 1:
        return weight * cross_entropy, gradient
    d_prime = y_0 / (q * q) + y_1 / (p * p)
    second = weight * (g * (g - 1) * k * k * cross_entropy + 2 * g * k * d + d_prime)
    return weight * cross_entropy, gradient, second


def softmax(
    xp: Namespace, p: Array, p_clipped: Array, q: Array, scale: Array, w: Array, gamma: Gamma, order: int
) -> tuple[Array, ...]:
    """The softmax loss as a function of class scores s that were normalised to p = s / scale, then clipped.

    The clip does not stop the gradient, so that the hardest examples keep learning.  f is the loss of one class:

        dL/ds_j   = (w_j f'_j (1 - p_j) - sum_{k != j} w_k f'_k p_k) / scale
        d2L/ds_j2 = (w_j [f''_j (1 - p_j)^2 - 2 f'_j (1 - p_j)] + sum_{k != j} w_k [f''_k p_k^2 + 2 f'_k p_k]) / scale^2
    """
    terms = focal(xp, p_clipped, q, gamma, order)
    loss = xp.sum(weighted(xp, w, terms[0]), axis=-1, keepdims=True)
    if order == 0:
        return (loss,)
    first, rest = w * terms[1], sum_of_others(xp, p)  # rest is 1 - p
    gradient = (first * rest - sum_of_others(xp, first * p)) / scale
    if order == 1:
        return loss, gradient
    second = w * terms[2]
    others = sum_of_others(xp, second * p * p) + 2 * sum_of_others(xp, first * p)
    return loss, gradient, (second * rest * rest - 2 * first * rest + others) / (scale * scale)


def softmax_product(
    xp: Namespace, p: Array, p_clipped: Array, q: Array, scale: Array, w: Array, gamma: Gamma, vector: Array
) -> Array:
    """The second derivative of `softmax` times a vector, row by row; linear in the vector.

    With dp_k = (v_k (1 - p_k) - p_k times the sum of the other v) / scale:

        [(w_j f''_j dp_j)(1 - p_j) - sum_{k != j} (w_k f''_k dp_k) p_k - sum_k w_k f'_k dp_k] / scale
          - dL/ds_j (sum over i of v_i) / scale
    """
    _, first, second = focal(xp, p_clipped, q, gamma, 2)
    a, v = w * first, vector
    largest = largest_of(xp, p)
    rest = sum_of_others(xp, p, largest)
    dp = (v * rest - p * sum_of_others(xp, v, largest)) / scale
    da = w * second * dp
    gradient = (a * rest - sum_of_others(xp, a * p, largest)) / scale
    change = da * rest - sum_of_others(xp, da * p, largest) - xp.sum(a * dp, axis=-1, keepdims=True)
    return (change - gradient * xp.sum(v, axis=-1, keepdims=True)) / scale
