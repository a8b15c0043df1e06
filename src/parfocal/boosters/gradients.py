"""Gradient and curvature of margins, as a booster asks for them.

A booster divides by the curvature.  The exact one of a focal loss is below 0 for badly wrong samples, and boosters
accept that without a warning.  docs/boosting.md has the experiment that chose the first of `CURVATURES`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from parfocal.backends.numpy import NUMPY
from parfocal.core import validation
from parfocal.core.batch import weight_per_loss
from parfocal.core.hosts import Host
from parfocal.losses import BinaryFocalCrossentropy, SparseCategoricalFocalCrossentropy

BoostingLoss = BinaryFocalCrossentropy | SparseCategoricalFocalCrossentropy
Pair = tuple[np.ndarray, np.ndarray]

BOOSTERS = Host(
    scores="margins",
    labels="labels",
    indices="class indices",
    binary="BinaryFocalCrossentropy",
    sparse="SparseCategoricalFocalCrossentropy",
    by_element=True,
)

CURVATURES = ("positive", "exact", "absolute", "cross_entropy")
"""What `curvature` may be, in `gradient_and_curvature` and in the objectives; the first is the default."""


def gradient_and_curvature(
    loss: BoostingLoss,
    margins: Any,
    labels: Any,
    sample_weight: Any = None,
    *,
    curvature: str = "positive",
    dtype: Any = np.float64,
) -> Pair:
    """First and second derivative of every sample's loss with respect to its margins, for one round of boosting.

    The gradient is the loss's own.  At gamma 0 both are exactly those of cross-entropy.

    Parameters
    ----------
    loss : built with `from_logits=True`; its gamma, alpha and label smoothing count, its reduction does not.
    margins : (N,) raw scores for the binary loss, (N, classes) for the sparse categorical one, the init score
        (`loss.optimal_logit(prior)`) included.  Columns that lie together (LightGBM's order) are read as they are.
    labels : (N,) of 0 and 1, or class indices.  With soft labels or label smoothing the positive curvature of the
        binary loss is the mean of both labels' own; the categorical loss takes no smoothing here.
    sample_weight : (N,), multiplies both.
    curvature : "positive", the exact one without its negative term, 0 only where it underflows; "exact", below 0 for
        badly wrong samples; "absolute", the exact one's size; "cross_entropy", that of gamma 0.
    dtype : of the results.

    Returns
    -------
    (gradient, curvature), in the shape and memory order of `margins`.

    Raises
    ------
    ValueError for a loss that takes probabilities, for shapes that differ, and for invalid labels.
    TypeError for another loss, and for arrays that do not hold real numbers.

    >>> loss = BinaryFocalCrossentropy(gamma=2.0, from_logits=True)
    >>> gradient, curvature = gradient_and_curvature(loss, [-4.0, 0.0, 4.0], [1, 1, 1])
    >>> print(gradient.round(3), curvature.round(3))
    [-1.086 -0.298 -0.   ] [0.09  0.486 0.   ]
    """
    return derivatives(
        loss, margins, labels, sample_weight, validation.one_of("curvature", curvature, CURVATURES), dtype
    )


def derivatives(
    loss: BoostingLoss,
    margins: Any,
    labels: Any,
    sample_weight: Any,
    curvature: str,
    dtype: Any,
    divisor: float = 1.0,
) -> Pair:
    """`gradient_and_curvature`, divided by `divisor`."""
    margins = np.asarray(validation.as_array("margins", margins), dtype=np.float64)
    labels = validation.as_array("labels", labels)
    check(loss, margins, labels)
    gradient, second = backend_terms(loss, margins, labels, sample_weight, curvature == "positive", dtype, divisor)
    if curvature == "cross_entropy":
        second = backend_terms(without_gamma(loss), margins, labels, sample_weight, True, dtype, divisor)[1]
    return gradient, (np.abs(second) if curvature == "absolute" else second)


def backend_terms(
    loss: BoostingLoss,
    margins: np.ndarray,
    labels: Any,
    sample_weight: Any,
    boosting: bool,
    dtype: Any,
    divisor: float,
) -> Pair:
    """Gradient and curvature by the NumPy backend, in the memory order of the margins."""
    weights, samples = None, margins.shape[:1]
    if sample_weight is not None:
        weights, _ = weight_per_loss(NUMPY, NUMPY.weights(sample_weight, margins), samples, samples)
    batch = NUMPY.batch(loss.parameters, labels, margins, weights, host=BOOSTERS)
    _, gradient, second = NUMPY.terms(batch, 2, divisor, True, np.dtype(dtype), boosting)
    if margins.flags.f_contiguous and not margins.flags.c_contiguous:
        return np.asfortranarray(gradient), np.asfortranarray(second)
    return gradient, second


def without_gamma(loss: BoostingLoss) -> BoostingLoss:
    """Cross-entropy with the same weights and smoothing."""
    return type(loss).from_config({**loss.get_config(), "gamma": 0.0})


def check(loss: Any, margins: np.ndarray, labels: np.ndarray) -> None:
    if not isinstance(loss, BinaryFocalCrossentropy | SparseCategoricalFocalCrossentropy) or loss._has_own_call:
        raise TypeError(
            "gradient_and_curvature takes a BinaryFocalCrossentropy or a SparseCategoricalFocalCrossentropy that does "
            f"not override call; got {loss!r}"
        )
    if not loss.parameters.from_logits:
        raise ValueError("a booster's margins are logits; build the loss with from_logits=True")
    if isinstance(loss, BinaryFocalCrossentropy):
        if margins.ndim != 1:
            raise ValueError(f"margins must have one axis, one margin per sample; got shape {margins.shape}")
        validation.one_shape(labels.shape, margins.shape, "gradient_and_curvature")
    elif margins.ndim != 2:
        raise ValueError(f"margins must have the shape (samples, classes); got {margins.shape}")
    elif loss.parameters.axis not in (-1, 1):
        raise ValueError(f"margins have their classes on axis 1; the loss has axis={loss.parameters.axis}")
    elif loss.parameters.label_smoothing:
        raise ValueError("label_smoothing has no positive curvature for a softmax; build the loss without it")
