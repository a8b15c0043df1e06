"""Recovering probabilities: from trained focal scores to class posteriors, and from a prior to the best constant score.

Focal loss is classification-calibrated but not proper: the score that minimises it is not a probability (Charoenphakdee
et al. 2021, arXiv:2011.09172).  At a prior of 1 % and gamma 2 the best constant score is 0.154.  But at the minimum the
pulls of the labels balance, each weighted by its posterior, so the posterior is the ratio of the pulls:

    binary      eta / (1 - eta) = G_0 / -G_1              G_y = dL/dx at label y, after smoothing
    softmax     eta_k ~ p_k q_k / |A_k| / alpha_k         at the margin m_k
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from parfocal.core import formula, softmax, validation
from parfocal.core.formula import Array, Namespace
from parfocal.core.parameters import Binary, Categorical

# Stands for an infinite logit: far beyond all others, and still finite after a difference and a product with gamma.
INFINITE = 1e30


def class_weight_list(class_weight: Any, classes: int) -> list[float]:
    """`class_weight` as one number per class: None, a list, or a dict from class index to weight, as Keras takes it."""
    if class_weight is None:
        return [1.0] * classes
    if isinstance(class_weight, Mapping):
        validation.class_weight_keys(class_weight, classes)
        class_weight = [class_weight.get(k, 1.0) for k in range(classes)]
    weights = validation.number_or_list("class_weight", class_weight)
    if not isinstance(weights, tuple) or len(weights) != classes:
        raise ValueError(f"class_weight must hold one number for each of the {classes} classes; got {class_weight!r}")
    validation.class_weight_values(weights, "class_weight")
    return list(weights)


# -- binary


def binary_posterior_logit(xp: Namespace, parameters: Binary, x: Array, class_weight: Any = None) -> Array:
    """log(eta / (1 - eta)) at the logits x.  Infinite where smoothed labels put eta at 0 or 1."""
    return binary_log_odds(xp, parameters, x, checked_class_weights(parameters, class_weight))


def checked_class_weights(parameters: Binary, class_weight: Any) -> list[float]:
    """The weights of the two classes of samples, once nothing forbids a posterior."""
    validation.smoothing_below_one(parameters.label_smoothing)
    validation.class_weight_values(parameters.weights, "(1 - alpha, alpha)")
    return class_weight_list(class_weight, 2)


def binary_log_odds(xp: Namespace, parameters: Binary, x: Array, class_weights: list[float]) -> Array:
    """`binary_posterior_logit` of what was checked: the root finder asks for it again and again."""
    weight_0, weight_1 = class_weights
    w_0, w_1 = parameters.weights
    gamma_0, gamma_1 = parameters.gammas
    if not parameters.label_smoothing:
        pull_1 = formula.log_pull(xp, x, gamma_1) + math.log(w_1 * weight_1)
        pull_0 = formula.log_pull(xp, -x, gamma_0) + math.log(w_0 * weight_0)
        return pull_0 - pull_1
    gradient_0, gradient_1 = (
        formula.binary_linear(xp, x, formula.sides(xp, x, *shares, w_1, w_0), gamma_1, 1)[1]
        if parameters.soft_labels == "linear"
        else formula.binary_expected(xp, x, *shares, gamma_1, gamma_0, w_1, w_0, 1)[1]
        for y in (xp.zeros_like(x), xp.ones_like(x))
        for shares in [formula.shares(xp, y, parameters.label_smoothing)]
    )
    # Past the score that minimises a smoothed label's loss its gradient changes sign: eta is 0 or 1 there.
    pull_0, pull_1 = (xp.clip(g, 0.0, None) for g in (gradient_0, -gradient_1))
    return xp.log(weight_0 * pull_0) - xp.log(weight_1 * pull_1)


def binary_probability(xp: Namespace, parameters: Binary, log_odds: Array) -> Array:
    return formula.link(xp, log_odds).p


def binary_shifted(xp: Namespace, parameters: Binary, log_odds: Array, prior: np.ndarray, now: np.ndarray) -> Array:
    """The log-odds where the share of label 1 is `now` and was `prior`: one number, or one for each label of a row."""
    for shares in (prior, now):
        validation.prior_inside(shares, binary=True)
    if any(shares.ndim and shares.shape != tuple(log_odds.shape)[-1:] for shares in (prior, now)):
        raise ValueError(
            "prior and prior_now are the share of label 1, or one for each label of the last axis; got "
            f"{prior.tolist()} and {now.tolist()} for scores of shape {tuple(log_odds.shape)}"
        )
    change = np.log(now) - np.log1p(-now) - (np.log(prior) - np.log1p(-prior))
    return log_odds + (by_class(xp, change.tolist(), log_odds) if change.ndim else float(change))


def binary_optimal_logit(parameters: Binary, prior: np.ndarray, class_weight: Any = None) -> np.ndarray:
    """The constant logit with the least expected loss where a share `prior` of the labels is 1."""
    validation.prior_inside(prior, binary=True)
    class_weights = checked_class_weights(parameters, class_weight)
    if all(gamma == 0 for gamma in parameters.gammas):
        return cross_entropy_logit(parameters, prior, class_weights)
    return solve_increasing(
        lambda x: binary_log_odds(np, parameters, x, class_weights), np.log(prior) - np.log1p(-prior)
    )


def cross_entropy_logit(parameters: Binary, prior: np.ndarray, class_weights: list[float]) -> np.ndarray:
    """`binary_optimal_logit` at gamma 0: the log-odds of the weighted labels, with nothing to solve."""
    (w_0, w_1), (c_0, c_1), smoothing = parameters.weights, class_weights, parameters.label_smoothing
    if not smoothing:
        return np.asarray(np.log(prior) - np.log1p(-prior) + (math.log(w_1 * c_1) - math.log(w_0 * c_0)))
    up = down = np.zeros_like(prior)
    for y, share in ((1 - smoothing / 2, c_1 * prior), (smoothing / 2, c_0 * (1 - prior))):
        of_1, of_0 = (w_1, w_0) if parameters.soft_labels == "expected" else (y * w_1 + (1 - y) * w_0,) * 2
        up, down = up + share * y * of_1, down + share * (1 - y) * of_0
    return np.asarray(np.log(up) - np.log(down))


# -- softmax


def alphas(parameters: Categorical, classes: int) -> list[float]:
    validation.one_per_class("alpha", parameters.alpha, classes)
    validation.one_per_class("gamma", parameters.gamma, classes)
    values = list(parameters.alpha) if isinstance(parameters.alpha, tuple) else [parameters.alpha] * classes
    validation.class_weight_values(values, "alpha")
    return values


def by_class(xp: Namespace, values: list[float], like: Array) -> Array:
    """Numbers along the last axis, where `like` lies and in its dtype; one for all where they are equal.

    An operation for each class would take two thirds of the time of a posterior of 100 classes.
    """
    if len(set(values)) == 1:
        return values[0]
    if isinstance(like, np.ndarray):
        return np.asarray(values, dtype=like.dtype)
    number = xp.arange(like.shape[-1])
    rows = xp.zeros_like(like)
    for k, value in enumerate(values):
        rows = xp.where(number == k, value, rows)
    return rows


def log_share(
    xp: Namespace, parameters: Categorical, m: Array, weights: list[float], m_low: Array | None = None
) -> Array:
    """log(p q / |A| / weight), which the posterior is proportional to: -> exp(m) as gamma -> 0, increasing in m."""
    gamma = by_class(xp, list(parameters.gamma), m) if isinstance(parameters.gamma, tuple) else parameters.gamma
    at = formula.link(xp, m, m_low)
    u, v = at.u, formula.log_of_others(xp, at)
    return u + v - formula.log_pull(xp, m, gamma, m_low) - by_class(xp, [math.log(w) for w in weights], m)


def categorical_posterior_log(xp: Namespace, parameters: Categorical, z: Array, class_weight: Any = None) -> Array:
    """log eta at the logits z, classes on the loss's axis."""
    validation.smoothing_below_one(parameters.label_smoothing)
    z = xp.moveaxis(z, parameters.axis, -1)
    classes, smoothing = z.shape[-1], parameters.label_smoothing
    weights = class_weight_list(class_weight, classes)
    at = softmax.margins(xp, xp.clip(z, -INFINITE, INFINITE))
    log_eta = log_normalised(xp, log_share(xp, parameters, at.m, alphas(parameters, classes), at.m_low))
    if smoothing:
        # The score balances smoothed labels; what smoothing added is taken off again.
        log_eta = xp.log(xp.clip((xp.exp(log_eta) - smoothing / classes) / (1 - smoothing), 0.0, None))
    # alpha weighs each class of a label after smoothing, class_weight the whole sample: it comes off last.
    log_eta = log_normalised(xp, log_eta - by_class(xp, [math.log(w) for w in weights], log_eta))
    log_eta = xp.where(log_eta < -INFINITE / 2, -math.inf, log_eta)
    return xp.moveaxis(log_eta, -1, parameters.axis)


def categorical_probability(xp: Namespace, parameters: Categorical, log_eta: Array) -> Array:
    return xp.exp(log_eta)


def categorical_shifted(
    xp: Namespace, parameters: Categorical, log_eta: Array, prior: np.ndarray, now: np.ndarray
) -> Array:
    """log eta where the classes have the shares `now` and had `prior`."""
    for shares in (prior, now):
        validation.prior_inside(shares, binary=False)
    log_eta = xp.moveaxis(log_eta, parameters.axis, -1)
    classes = log_eta.shape[-1]
    for name, shares in (("prior", prior), ("prior_now", now)):
        if shares.shape != (classes,) or abs(shares.sum() - 1) > 1e-3:  # the posterior is normalised
            raise ValueError(
                f"{name} must hold the share of each of the {classes} classes, which sum to 1; got {shares.tolist()}"
            )
    log_eta = log_normalised(xp, log_eta + by_class(xp, (np.log(now) - np.log(prior)).tolist(), log_eta))
    return xp.moveaxis(log_eta, -1, parameters.axis)


def categorical_optimal_logit(parameters: Categorical, prior: np.ndarray, class_weight: Any = None) -> np.ndarray:
    """log p of the constant prediction with the least expected loss where the classes have the shares `prior`.

    Each class's margin follows from its share up to one common factor; the factor is the one that makes the p sum to 1.
    At gamma 0 a share is p / alpha, and nothing has to be solved.
    """
    validation.smoothing_below_one(parameters.label_smoothing)
    validation.prior_inside(prior, binary=False)
    if prior.ndim != 1 or abs(prior.sum() - 1) > 1e-6:
        raise ValueError(f"prior must be one list of class shares that sum to 1; got {prior.tolist()}")
    classes, smoothing = len(prior), parameters.label_smoothing
    weights = alphas(parameters, classes)
    weighted = prior * np.asarray(class_weight_list(class_weight, classes))
    target = np.log(weighted / weighted.sum() * (1 - smoothing) + smoothing / classes)
    gammas = parameters.gamma if isinstance(parameters.gamma, tuple) else (parameters.gamma,)
    if all(gamma == 0 for gamma in gammas):
        return log_normalised(np, target + np.log(weights))
    return solve_softmax(parameters, weights, target)


def solve_softmax(parameters: Categorical, weights: list[float], target: np.ndarray) -> np.ndarray:
    """log p where `log_share` is target up to one common number, at any gamma."""

    def margins(factor: float) -> np.ndarray:
        return solve_increasing(lambda m: log_share(np, parameters, m, weights), target + factor)

    def excess(factor: np.ndarray) -> np.ndarray:
        return np.asarray(formula.link(np, margins(float(factor))).p.sum() - 1)

    return log_normalised(np, formula.link(np, margins(float(solve_increasing(excess, np.asarray(0.0))))).u)


def log_normalised(xp: Namespace, log_values: Array) -> Array:
    """Subtract the logsumexp over the last axis."""
    shifted = log_values - xp.max(log_values, axis=-1, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))


def solve_increasing(function: Callable[[np.ndarray], np.ndarray], target: np.ndarray) -> np.ndarray:
    """x with function(x) = target, elementwise, for an increasing function, to the last digit.

    False position, with the value at an end that stays halved (the Illinois rule); every third step is a bisection.
    """
    low, high = np.full_like(target, -1.0), np.full_like(target, 1.0)
    with np.errstate(all="ignore"):
        while (above := (f_low := function(low) - target) >= 0).any():
            low = np.where(above, 2 * low, low)
        while (below := (f_high := function(high) - target) < 0).any():
            high = np.where(below, 2 * high, high)
        moved, steps = np.zeros_like(target), 0
        while (high - low > np.finfo(np.float64).eps * np.maximum(1e-12, np.abs(low + high) / 2)).any():
            steps, middle = steps + 1, (low + high) / 2
            x = middle if steps % 3 == 0 else high - f_high * (high - low) / (f_high - f_low)
            x = np.where((low < x) & (x < high), x, middle)
            f = function(x) - target
            below = f < 0
            f_high = np.where(below, np.where(moved < 0, f_high / 2, f_high), f)
            f_low = np.where(below, f, np.where(moved > 0, f_low / 2, f_low))
            low, high = np.where(f <= 0, x, low), np.where(below, high, x)  # both where it is found
            moved = np.where(below, -1.0, 1.0)
        middle = (low + high) / 2
        return np.where(function(np.zeros_like(middle)) == target, 0.0, middle)


# -- by the names of a loss's methods


class Recovery(NamedTuple):
    """What a kind of loss does with namespace, parameters, and logits or a prior."""

    posterior_logit: Callable[..., Array]  # of logits and class weights
    shifted: Callable[..., Array]  # those for another prior
    probability: Callable[..., Array]  # of those
    optimal_logit: Callable[..., np.ndarray]

    def recovered(
        self, xp: Namespace, parameters: Any, logits: Array, class_weight: Any, prior: Any, prior_now: Any
    ) -> Array:
        """The posterior's logits, for a population whose shares have changed where both priors are given."""
        found = self.posterior_logit(xp, parameters, logits, class_weight)
        if prior is None and prior_now is None:
            return found
        if prior is None or prior_now is None:
            given, missing = ("prior_now", "prior") if prior is None else ("prior", "prior_now")
            raise ValueError(
                f"{given} was given without {missing}; prior has the shares of the rows that the model was trained on, "
                "prior_now those of the rows that are scored"
            )
        named = (("prior", prior), ("prior_now", prior_now))
        shares = [np.asarray(validation.number_or_list(name, value)) for name, value in named]
        return self.shifted(xp, parameters, found, *shares)


BINARY = Recovery(binary_posterior_logit, binary_shifted, binary_probability, binary_optimal_logit)
CATEGORICAL = Recovery(
    categorical_posterior_log, categorical_shifted, categorical_probability, categorical_optimal_logit
)
