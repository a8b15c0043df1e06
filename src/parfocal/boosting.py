"""What the booster doors share: gradient and curvature of margins, as a booster asks for them."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from parfocal import checks, formula
from parfocal.backends import numpy
from parfocal.losses import BinaryFocalCrossentropy
from parfocal.parameters import Binary
from parfocal.reduction import broadcast_weight


def gradient_and_curvature(
    loss: BinaryFocalCrossentropy, margins: Any, labels: Any, sample_weight: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """First and second derivative of every sample's loss with respect to its margin, for one round of boosting.

    The gradient is the loss's own.  The curvature is the exact one without its negative term, since a booster divides
    by it: the exact curvature is below 0 for badly wrong samples, and boosters take that in silence.  It is 0 only
    where it underflows.  At gamma 0 both are exactly those of cross-entropy.

    Parameters
    ----------
    loss : built with `from_logits=True`; its gamma, alpha and label smoothing count, its reduction does not.
    margins : (N,) raw scores, the init score (`loss.optimal_logit(prior)`) included.
    labels : (N,) of 0 and 1; with soft labels or label smoothing the curvature is the mean of both labels' own.
    sample_weight : (N,), multiplies both.

    Returns
    -------
    (gradient, curvature), float64 of shape (N,).

    Raises
    ------
    ValueError for a loss that takes probabilities, for shapes that differ, and for labels outside [0, 1].
    TypeError for another loss, and for arrays that hold no real numbers.

    >>> loss = BinaryFocalCrossentropy(gamma=2.0, from_logits=True)
    >>> gradient, curvature = gradient_and_curvature(loss, [-4.0, 0.0, 4.0], [1, 1, 1])
    >>> print(gradient.round(3), curvature.round(3))
    [-1.086 -0.298 -0.   ] [0.09  0.486 0.   ]
    """
    margins, labels = (
        numpy.as_array(name, values).astype(np.float64) for name, values in (("margins", margins), ("labels", labels))
    )
    check(loss, margins, labels)
    gradient, curvature = numpy.blockwise(partial(of_block, loss.parameters), margins, labels)
    if sample_weight is not None:
        weights, _ = broadcast_weight(sample_weight, margins.shape)
        gradient, curvature = gradient * weights, curvature * weights
    return gradient, curvature


def of_block(parameters: Binary, margins: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    (gamma_0, gamma_1), (w_0, w_1) = parameters.gammas, parameters.weights
    positive, smoothing = labels == 1, parameters.label_smoothing
    if not smoothing and (positive | (labels == 0)).all():
        sign, w = np.where(positive, 1.0, -1.0), np.where(positive, w_1, w_0)
        gamma = gamma_1 if gamma_0 == gamma_1 else np.where(positive, gamma_1, gamma_0)
        at = formula.link(np, sign * margins)
        q_to_g = formula.power_of_q(np, at, gamma)
        return w * sign * formula.slope(at, q_to_g, gamma), w * formula.positive_curvature(at, q_to_g, gamma)
    gradient = numpy.binary(parameters, labels, margins, 1)[1]
    smoothed = labels * (1 - smoothing) + smoothing / 2
    curvature = np.zeros_like(margins)
    for w, side, gamma in ((smoothed * w_1, 1, gamma_1), ((1 - smoothed) * w_0, -1, gamma_0)):
        at = formula.link(np, side * margins)
        curvature += w * formula.positive_curvature(at, formula.power_of_q(np, at, gamma), gamma)
    return gradient, curvature


def check(loss: BinaryFocalCrossentropy, margins: np.ndarray, labels: np.ndarray) -> None:
    if not isinstance(loss, BinaryFocalCrossentropy):
        raise TypeError(f"gradient_and_curvature takes a BinaryFocalCrossentropy; got {loss!r}")
    if not loss.parameters.from_logits:
        raise ValueError("a booster's margins are logits; build the loss with from_logits=True")
    if margins.ndim != 1:
        raise ValueError(f"margins must have one axis, one margin per sample; got shape {margins.shape}")
    checks.equal_shapes(labels, margins, "gradient_and_curvature")
    checks.labels_in_unit_interval(labels)
