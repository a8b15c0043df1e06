"""Laws: each a loss as one function of scores, with its parameters filled in and its own derivatives.

A law has the terms of formula.py, softmax.py or probability.py, and the product of its second derivative with a vector.
No value is read: an invalid label or probability makes its own sample NaN.
"""

from __future__ import annotations

from copy import copy
from typing import Any

from parfocal import config
from parfocal.core import formula, gamma_derivatives, probability, softmax
from parfocal.core.formula import Array, Namespace
from parfocal.core.parameters import Binary

# A probability outside [0, 1] by no more than this is one that was rounded, and is clipped.
ROUNDING = 1e-3


IN_GAMMA = -1


class Law:
    """A loss as a function of scores; further arrays, labels above all, are constants.

    A law has `terms`; one whose gamma can be trained has the three methods `in_gamma`, `gamma_along` and `gamma_back`.
    """

    by_row = False  # whether the scores of the last axis belong together, and the loss has length 1 there
    trained = False  # whether the last constant is a gamma that the loss is differentiated with respect to

    def __repr__(self) -> str:
        """By value: torch.jit.trace writes a law into its graph as text, and compares the graphs of two runs."""
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    def terms(self, xp: Namespace, scores: Array, order: int, *constants: Array) -> tuple[Array, ...]:
        """The loss, its gradient and the diagonal of its second derivative, up to `order`."""
        raise NotImplementedError

    def product(self, xp: Namespace, scores: Array, vector: Array, *constants: Array) -> Array:
        """The second derivative times a vector of the scores' shape."""
        return self.terms(xp, scores, 2, *constants)[2] * vector

    def term(self, xp: Namespace, which: int, scores: Array, *constants: Array) -> Array:
        """The loss (0), its gradient (1), or its derivative with respect to a trained gamma (IN_GAMMA)."""
        if which == IN_GAMMA:
            return self.in_gamma(xp, scores, *constants)[0]
        return self.terms(xp, scores, which, *constants)[which]

    def in_gamma(self, xp: Namespace, scores: Array, *constants: Array) -> tuple[Array, Array]:
        """The first and the second derivative with respect to each gamma of a trained law."""
        raise NotImplementedError

    def gamma_along(self, xp: Namespace, scores: Array, vector: Array, *constants: Array) -> Array:
        """The change of the derivative with respect to gamma, for a change of the scores."""
        raise NotImplementedError

    def gamma_back(self, xp: Namespace, scores: Array, vector: Array, *constants: Array) -> Array:
        """The change of the gradient, for a change of the gammas."""
        raise NotImplementedError

    def along(self, xp: Namespace, gradient: Array, vector: Array) -> Array:
        """The loss's change for a change of the scores."""
        product = gradient * vector
        return xp.sum(product, axis=-1, keepdims=True) if self.by_row else product


class BinaryLaw(Law):
    """Constants: labels in [0, 1], not smoothed; `hard` says: 0 or 1.  A trained gamma follows them.

    `boosting` asks for the curvature that boosters divide by.
    """

    def __init__(self, parameters: Binary, hard: bool, boosting: bool = False, trained: bool = False) -> None:
        self.gamma_0, self.gamma_1 = parameters.gammas
        self.w_0, self.w_1 = parameters.weights
        self.linear = parameters.soft_labels == "linear"
        self.smoothing, self.hard = parameters.label_smoothing, hard and not parameters.label_smoothing
        self.boosting, self.trained = boosting, trained
        self.epsilon = None if parameters.from_logits else config.epsilon()

    def terms(self, xp: Namespace, scores: Array, order: int, *constants: Array) -> tuple[Array, ...]:
        y, *gammas = constants
        gamma, pair = self.gamma_1, self.gamma_0 != self.gamma_1
        if self.trained:
            gamma, pair = gammas[0], False
        if self.linear and pair and not self.hard:  # a pair has a meaning for hard labels alone
            y = nan_unless(xp, (y == 0) | (y == 1), y)
        weights = self.w_1, self.w_0
        if self.epsilon is not None:
            p, q = widened(xp, *clipped(xp, nan_unless(xp, plausible(scores), scores), self.epsilon))
            shares = formula.shares(xp, y, self.smoothing)
            if self.linear and not pair:
                return probability.binary_linear(xp, p, q, *shares, gamma, *weights, order)
            return probability.binary_expected(xp, p, q, *shares, gamma, self.gamma_0, *weights, order)
        if self.hard or (pair and self.linear):
            gamma = one_per_label(xp, y, self.gamma_0, self.gamma_1) if pair else gamma
            return formula.binary_hard(xp, scores, y, gamma, *weights, order, self.boosting)
        if self.linear and not self.boosting:
            return formula.binary_linear(xp, scores, self.sides(xp, scores, y), gamma, order)
        shares = formula.shares(xp, y, self.smoothing)
        terms = formula.binary_expected(xp, scores, *shares, gamma, self.gamma_0, *weights, order, self.boosting)
        if self.linear:  # it has no positive curvature of its own
            linear = formula.binary_linear(xp, scores, self.sides(xp, scores, y), gamma, min(order, 1))
            terms = (*linear, *terms[2:])
        return terms

    def sides(self, xp: Namespace, scores: Array, y: Array) -> formula.Sides:
        return formula.sides(xp, scores, *formula.shares(xp, y, self.smoothing), self.w_1, self.w_0)

    def unweighted(self, trained: bool, one_label: bool = False) -> BinaryLaw:
        """The same law without weights; with `one_label` for labels that are all 0 or all 1, and not smoothed."""
        law = copy(self)
        law.w_0, law.w_1, law.trained = 1.0, 1.0, trained
        if one_label:
            law.hard, law.smoothing = True, 0.0
        return law

    def derivatives_in_gamma(self, xp: Namespace, scores: Array, y: Array, gamma: Array) -> tuple[Array, Array, Array]:
        if self.hard:
            return gamma_derivatives.binary_hard(xp, scores, y, gamma, self.w_1, self.w_0)
        return gamma_derivatives.binary_soft(xp, scores, self.sides(xp, scores, y), gamma)

    def in_gamma(self, xp: Namespace, scores: Array, *constants: Array) -> tuple[Array, Array]:
        first, _, second = self.derivatives_in_gamma(xp, scores, *constants)
        return first, second

    def gamma_along(self, xp: Namespace, scores: Array, vector: Array, *constants: Array) -> Array:
        return self.derivatives_in_gamma(xp, scores, *constants)[1] * vector

    gamma_back = gamma_along


class HardSoftmaxLaw(Law):
    """Constants: a boolean one-hot target; the weight of each row; with a gamma per class the halves of each row's."""

    by_row = True

    def __init__(self, gamma: Any, boosting: bool = False, trained: bool = False) -> None:
        self.gamma, self.boosting, self.trained = gamma, boosting, trained

    def gamma_of(self, gammas: tuple[Array, ...]) -> Any:
        if self.trained:
            return gammas[0]
        return formula.Exponents(*gammas) if gammas else self.gamma

    def terms(self, xp: Namespace, scores: Array, order: int, *constants: Array) -> tuple[Array, ...]:
        target, weight, *gammas = constants
        loss, *slopes = softmax.hard(xp, scores, target, self.gamma_of(tuple(gammas)), order, self.boosting)
        return formula.weighted(xp, weight, loss), *(weight * slope for slope in slopes)

    def product(self, xp: Namespace, scores: Array, vector: Array, *constants: Array) -> Array:
        target, weight, *gammas = constants
        return weight * softmax.hard_product(xp, scores, target, self.gamma_of(tuple(gammas)), vector)

    def in_gamma(self, xp: Namespace, scores: Array, *constants: Array) -> tuple[Array, Array]:
        target, weight, gamma = constants
        first, second = gamma_derivatives.hard(xp, scores, target, gamma)
        return weight * first, weight * second

    def gamma_along(self, xp: Namespace, scores: Array, vector: Array, *constants: Array) -> Array:
        target, weight, gamma = constants
        return weight * gamma_derivatives.hard_along(xp, scores, target, gamma, vector)

    def gamma_back(self, xp: Namespace, scores: Array, vector: Array, *constants: Array) -> Array:
        target, weight, gamma = constants
        return gamma_derivatives.hard_back(xp, scores, target, gamma, weight * vector)


class DenseSoftmaxLaw(HardSoftmaxLaw):
    """Constants: the weight of each class of each row; with one gamma per class their halves, in the same shape."""

    def terms(self, xp: Namespace, scores: Array, order: int, *constants: Array) -> tuple[Array, ...]:
        weight, *gammas = constants
        return softmax.dense(xp, scores, weight, self.gamma_of(tuple(gammas)), order)

    def product(self, xp: Namespace, scores: Array, vector: Array, *constants: Array) -> Array:
        weight, *gammas = constants
        return softmax.dense_product(xp, scores, weight, self.gamma_of(tuple(gammas)), vector)

    def in_gamma(self, xp: Namespace, scores: Array, *constants: Array) -> tuple[Array, Array]:
        return gamma_derivatives.dense(xp, scores, *constants)

    def gamma_along(self, xp: Namespace, scores: Array, vector: Array, *constants: Array) -> Array:
        weight, gamma = constants
        return gamma_derivatives.dense_along(xp, scores, weight, gamma, vector)

    def gamma_back(self, xp: Namespace, scores: Array, vector: Array, *constants: Array) -> Array:
        weight, gamma = constants
        return gamma_derivatives.dense_back(xp, scores, weight, gamma, vector)


class ProbabilitySoftmaxLaw(DenseSoftmaxLaw):
    """The same constants, for scores that are divided by their sum."""

    def __init__(self, gamma: Any, epsilon: float) -> None:
        super().__init__(gamma)
        self.epsilon = epsilon

    def normalised(self, xp: Namespace, scores: Array) -> tuple[Array, ...]:
        """The probabilities, the same clipped, 1 minus these, and what the scores were divided by."""
        scale = xp.sum(scores, axis=-1, keepdims=True)
        p = nan_unless(xp, plausible(scores), scores) / scale
        return widened(xp, p, *clipped(xp, p, self.epsilon), scale)

    def terms(self, xp: Namespace, scores: Array, order: int, *constants: Array) -> tuple[Array, ...]:
        weight, *gammas = constants
        p, p_clipped, q, scale = self.normalised(xp, scores)
        return probability.softmax(xp, p, p_clipped, q, scale, weight, self.gamma_of(tuple(gammas)), order)

    def product(self, xp: Namespace, scores: Array, vector: Array, *constants: Array) -> Array:
        weight, *gammas = constants
        p, p_clipped, q, scale = self.normalised(xp, scores)
        gamma = self.gamma_of(tuple(gammas))
        return probability.softmax_product(xp, p, p_clipped, q, scale, weight, gamma, vector)


def plausible(scores: Array) -> Array:
    """Whether scores can be probabilities."""
    return (scores >= -ROUNDING) & (scores <= 1 + ROUNDING)


def nan_unless(xp: Namespace, condition: Array, values: Array) -> Array:
    return xp.where(condition, values, float("nan"))


def clipped(xp: Namespace, p: Array, epsilon: float) -> tuple[Array, Array]:
    """p clipped to [epsilon, 1 - epsilon], and 1 - p as it is rounded, as Keras computes them."""
    epsilon = max(epsilon, 2.0 ** -formula.bits_of(xp, p.dtype))  # or 1 - epsilon would be 1
    p = xp.clip(p, epsilon, 1 - epsilon)
    return p, 1 - p


def widened(xp: Namespace, *values: Array) -> tuple[Array, ...]:
    """Values that were rounded as their library rounds them; a namespace may compute with more digits from here on."""
    return tuple(map(xp.widened, values)) if hasattr(xp, "widened") else values


def one_per_label(xp: Namespace, y: Array, gamma_0: float, gamma_1: float) -> formula.Exponents:
    bits = formula.bits_of(xp, y.dtype)
    pairs = zip(formula.halves(gamma_0, bits), formula.halves(gamma_1, bits), strict=True)
    return formula.Exponents(*(xp.where(y == 1, b, a + xp.zeros_like(y)) for a, b in pairs))
