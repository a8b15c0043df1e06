"""The same losses as functions of probabilities, for models that end in a sigmoid or a softmax.

With f(p) = -(1 - p)^g log p the loss of the true class, and g = gamma:

    f'  = q^g (g log(p) / q - 1 / p)                                                  q = 1 - p
    f'' = q^g (g (1 - g) log(p) / q^2 + 2 g / (p q) + 1 / p^2)

1 - p comes from the caller, rounded in the dtype that p came in, and both are clipped above 0: what the model's own
sigmoid has lost cannot be had back here.  Logits are better; `formula.py` is for them, and has the conventions.
"""

from __future__ import annotations

from parfocal import formula
from parfocal.formula import Array, Gamma, Namespace


def focal(xp: Namespace, p: Array, q: Array, gamma: Gamma, order: int) -> tuple[Array, ...]:
    """-q^g log p for q = 1 - p, and its first two derivatives in p.  Both p and q are above 0."""
    q_to_g, log_p, g = q**gamma, xp.log(p), gamma
    loss = -q_to_g * log_p
    if order == 0:
        return (loss,)
    first = q_to_g * (g * log_p / q - 1 / p)
    if order == 1:
        return loss, first
    second = q_to_g * (g * (1 - g) * log_p / (q * q) + 2 * g / (p * q) + 1 / (p * p))
    return loss, first, second


def binary_expected(
    xp: Namespace, p: Array, q: Array, y: Array, gamma_1: Gamma, gamma_0: Gamma, w_1: float, w_0: float, order: int
) -> tuple[Array, ...]:
    """The rule "expected" as a function of p.  Hard labels are its special case."""
    terms_1 = focal(xp, p, q, gamma_1, order)
    terms_0 = focal(xp, q, p, gamma_0, order)
    return tuple(
        y * w_1 * a + (1 - y) * w_0 * (-b if i == 1 else b)
        for i, (a, b) in enumerate(zip(terms_1, terms_0, strict=True))
    )


def binary_linear(
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


def softmax(
    xp: Namespace, p: Array, p_clipped: Array, q: Array, scale: Array, w: Array, gamma: Gamma, order: int
) -> tuple[Array, ...]:
    """The softmax loss as a function of class scores s that were normalised to p = s / scale, then clipped.

    The clip does not stop the gradient: the hardest examples must keep learning.  f is the loss of one class:

        dL/ds_j   = (w_j f'_j (1 - p_j) - sum_{k != j} w_k f'_k p_k) / scale
        d2L/ds_j2 = (w_j [f''_j (1 - p_j)^2 - 2 f'_j (1 - p_j)] + sum_{k != j} w_k [f''_k p_k^2 + 2 f'_k p_k]) / scale^2
    """
    terms = focal(xp, p_clipped, q, gamma, order)
    loss = xp.sum(formula.weighted(xp, w, terms[0]), axis=-1, keepdims=True)
    if order == 0:
        return (loss,)
    first, rest = w * terms[1], formula.sum_of_others(xp, p)  # rest is 1 - p
    gradient = (first * rest - formula.sum_of_others(xp, first * p)) / scale
    if order == 1:
        return loss, gradient
    second = w * terms[2]
    others = formula.sum_of_others(xp, second * p * p) + 2 * formula.sum_of_others(xp, first * p)
    return loss, gradient, (second * rest * rest - 2 * first * rest + others) / (scale * scale)
