"""A gamma or an alpha that is trained: losses with derivatives with respect to them.

The loss is linear in alpha, so the library differentiates that product.  The derivatives with respect to gamma are the
law's own (core/gamma_derivatives.py).
"""

from __future__ import annotations

from typing import Any

from parfocal.core import formula
from parfocal.core.batch import Batch
from parfocal.core.formula import Array
from parfocal.core.laws import BinaryLaw, DenseSoftmaxLaw, HardSoftmaxLaw, nan_unless


def losses(backend: Any, batch: Batch) -> Array:
    """The loss of every element of a binary batch, or of every row of a softmax one, with an axis of 1."""
    return binary(backend, batch) if batch.binary else softmax(backend, batch)


def gamma_of(backend: Any, batch: Batch, scores: Array) -> Array:
    """gamma in the dtype of the scores; NaN where it is below 0, as its value is never read."""
    gamma = backend.cast(batch.gamma, scores.dtype)
    return nan_unless(backend.xp, gamma >= 0, gamma)


def binary(backend: Any, batch: Batch) -> Array:
    xp, parameters = backend.xp, batch.parameters
    law, scores, (y,) = backend.law(batch)
    w_0, w_1 = parameters.weights if batch.alpha is None else (1 - batch.alpha, batch.alpha)
    y_1, y_0 = formula.shares(y, parameters.label_smoothing)
    gamma: Any = None if batch.gamma is None else gamma_of(backend, batch, scores)
    gamma_0 = gamma_1 = gamma
    pair = batch.gamma is not None and len(batch.gamma.shape) == 1
    if pair:
        gamma_0, gamma_1 = gamma[0], gamma[1]
        if parameters.soft_labels == "linear":  # a pair has a meaning for hard labels alone
            y_1 = nan_unless(xp, (y == 0) | (y == 1), y)
            y_0 = 1 - y_1
    elif batch.gamma is None and parameters.gammas[0] != parameters.gammas[1]:
        pair = True
    if not pair and (law.hard or law.linear):
        loss = term(backend, parameters, law.hard, scores, y, gamma_1)
        return formula.weighted(xp, y_1 * w_1 + y_0 * w_0, loss)
    loss_1 = term(backend, parameters, True, scores, xp.ones_like(y), gamma_1)
    loss_0 = term(backend, parameters, True, scores, xp.zeros_like(y), gamma_0)
    return formula.weighted(xp, y_1 * w_1, loss_1) + formula.weighted(xp, y_0 * w_0, loss_0)


def term(backend: Any, parameters: Any, hard: bool, scores: Array, y: Array, gamma: Array | None) -> Array:
    """The unweighted loss; with `gamma` None that of the parameters."""
    law = BinaryLaw(parameters, hard, trained=gamma is not None)
    law.w_0 = law.w_1 = 1.0
    constants = (y,) if gamma is None else (y, gamma + backend.xp.zeros_like(scores))
    return backend.differentiable_term(law, 0, scores, constants)


def softmax(backend: Any, batch: Batch) -> Array:
    xp = backend.xp
    law, scores, constants = backend.law(batch)
    hard = type(law) is HardSoftmaxLaw
    target = constants[0]
    if batch.gamma is not None:
        gamma = gamma_of(backend, batch, scores) + xp.zeros_like(scores)
        if hard:
            law, constants = HardSoftmaxLaw(None, trained=True), (*constants[:2], of_target(xp, target, gamma))
        else:
            law, constants = DenseSoftmaxLaw(None, trained=True), (constants[0], gamma)
    loss = backend.differentiable_term(law, 0, scores, constants)
    if batch.alpha is None:
        return loss
    alpha = backend.cast(batch.alpha, scores.dtype)
    if len(alpha.shape) == 0:
        return formula.weighted(xp, alpha, loss)
    if not hard:
        raise ValueError(
            "an alpha with one number per class can be trained with class indices alone, without label smoothing; "
            "detach it, or give class indices"
        )
    # a row that is ignored, or has an invalid label, has no target: its loss is 0 or NaN already
    known = xp.any(target, axis=-1, keepdims=True)
    weight = of_target(xp, target, alpha + xp.zeros_like(scores))
    return formula.weighted(xp, xp.where(known, weight, xp.ones_like(weight)), loss)


def of_target(xp: Any, target: Array, values: Array) -> Array:
    """The value of the true class of each row."""
    return xp.sum(xp.where(target, values, xp.zeros_like(values)), axis=-1, keepdims=True)
