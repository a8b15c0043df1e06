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


def alpha_of(backend: Any, batch: Batch, scores: Array) -> Array:
    """The same for alpha, which is a share in a binary loss."""
    alpha = backend.cast(batch.alpha, scores.dtype)
    allowed = alpha >= 0
    return nan_unless(backend.xp, allowed & (alpha <= 1) if batch.binary else allowed, alpha)


def binary(backend: Any, batch: Batch) -> Array:
    xp, parameters = backend.xp, batch.parameters
    law, scores, (y,) = backend.law(batch)
    w_0, w_1 = parameters.weights
    if batch.alpha is not None:
        w_1 = alpha_of(backend, batch, scores)
        w_0 = 1 - w_1
    y_1, y_0 = formula.shares(xp, y, parameters.label_smoothing)
    gamma: Any = None if batch.gamma is None else gamma_of(backend, batch, scores)
    gamma_0 = gamma_1 = gamma
    pair = gamma is None and law.gamma_0 != law.gamma_1
    if gamma is not None and len(gamma.shape) == 1:
        pair, gamma_0, gamma_1 = True, gamma[0], gamma[1]
    if not pair and (law.hard or law.linear):
        loss = term(backend, law.unweighted(gamma is not None), scores, y, gamma)
        return formula.weighted(xp, y_1 * w_1 + y_0 * w_0, loss)
    if law.linear:  # a pair has a meaning for hard labels alone
        y_1 = nan_unless(xp, (y_1 == 0) | (y_1 == 1), y_1)
        y_0 = 1 - y_1
    law = law.unweighted(gamma is not None, one_label=True)
    loss_1 = term(backend, law, scores, xp.ones_like(y), gamma_1)
    loss_0 = term(backend, law, scores, xp.zeros_like(y), gamma_0)
    return formula.weighted(xp, y_1 * w_1, loss_1) + formula.weighted(xp, y_0 * w_0, loss_0)


def term(backend: Any, law: BinaryLaw, scores: Array, y: Array, gamma: Array | None) -> Array:
    """The loss of an unweighted law; with `gamma` None that of its own gamma."""
    constants = (y,) if gamma is None else (y, gamma + backend.xp.zeros_like(scores))
    loss: Array = backend.differentiable_term(law, 0, scores, constants)
    return loss


def softmax(backend: Any, batch: Batch) -> Array:
    xp = backend.xp
    law, scores, constants = backend.law(batch)
    hard = type(law) is HardSoftmaxLaw
    target = constants[0]
    if batch.gamma is not None:
        gamma = gamma_of(backend, batch, scores) + xp.zeros_like(scores)
        if hard:
            law, constants = HardSoftmaxLaw(None, trained=True), (*constants[:2], backend.of_target(target, gamma))
        else:
            law, constants = DenseSoftmaxLaw(None, trained=True), (constants[0], gamma)
    loss = backend.differentiable_term(law, 0, scores, constants)
    if batch.alpha is None:
        return loss
    alpha = alpha_of(backend, batch, scores)
    if len(alpha.shape) == 0:
        return formula.weighted(xp, alpha, loss)
    if not hard:
        raise ValueError(
            "an alpha with one number per class can be trained only with class indices, and without label smoothing"
        )
    # a row that is ignored, or has an invalid label, has no target: its loss is 0 or NaN already
    known = xp.any(backend.mask(target, scores.shape[-1]), axis=-1, keepdims=True)
    weight = backend.of_target(target, alpha + xp.zeros_like(scores))
    return formula.weighted(xp, xp.where(known, weight, 1.0), loss)
