"""The three focal losses as functions: parameters are checked, and a backend computes the batch."""

from __future__ import annotations

from typing import Any

from parfocal import backends
from parfocal.core.parameters import Binary, Categorical, SparseCategorical, checked

__all__ = [
    "binary_focal_crossentropy",
    "categorical_focal_crossentropy",
    "sparse_categorical_focal_crossentropy",
]


def binary_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: Any = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
    *,
    soft_labels: str = "linear",
) -> Any:
    """Cross-entropy of two classes that looks less at easy examples (Lin et al. 2017, arXiv:1708.02002).

    With p the probability of label 1, p_t that of the true label, and w its weight:

        loss = -w (1 - p_t)^gamma log(p_t)

    Parameters
    ----------
    y_true : labels in [0, 1], of y_pred's shape; a trailing axis of 1 may be missing on either side.
    y_pred : probabilities of label 1, or with `from_logits` their logits, of any shape (N, d1, ...).
    apply_class_balancing : whether the labels are weighted at all; without it `alpha` has no effect.
    alpha : weight of label 1, in [0, 1]; label 0 has 1 - alpha.
    gamma : >= 0.  0 is cross-entropy, 2 the paper's choice.  A pair (negatives, positives) gives the asymmetric loss.
    from_logits : y_pred holds logits.  Better: nothing is clipped, and no digit is lost at any logit.
    label_smoothing : s in [0, 1] replaces each label y by y (1 - s) + s / 2.
    axis : the axis that is averaged over.
    soft_labels : what a label between 0 and 1 means.  "linear" puts p_t = y p + (1 - y)(1 - p) into the formula, as
        Keras, torchvision and optax do.  "expected" is the expectation of the hard-label loss, y l(1) + (1 - y) l(0):
        right for mix-up and label noise.  A gamma pair with soft labels needs "expected".

    Returns
    -------
    The mean loss over `axis`: y_pred's shape without that axis, and its dtype (float64 for lists and integers).

    Raises
    ------
    ValueError for parameters out of range, shapes that differ, labels or probabilities outside [0, 1].
    TypeError for arrays that hold no real numbers, or labels of another array library than y_pred.

    Examples
    --------
    >>> loss = binary_focal_crossentropy([[0, 1], [0, 0]], [[0.6, 0.4], [0.4, 0.6]], gamma=2)
    >>> print(loss.round(3))
    [0.33  0.206]

    At a logit of -40 the loss of a positive is 40, not the 16.118 of a clipped probability:

    >>> print(binary_focal_crossentropy([1.0], [-40.0], from_logits=True))
    40.0
    """
    parameters = checked(Binary, apply_class_balancing, alpha, gamma, from_logits, label_smoothing, axis, soft_labels)
    return per_sample(parameters, y_true, y_pred)


def categorical_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    alpha: Any = 0.25,
    gamma: Any = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    """Softmax cross-entropy that looks less at easy examples, for one-hot or soft labels.

    With p the class probabilities along `axis`:

        loss = -sum over k of alpha_k y_k (1 - p_k)^gamma_k log(p_k)

    Parameters
    ----------
    y_true : one-hot or soft labels in [0, 1], of y_pred's shape.
    y_pred : class probabilities, or with `from_logits` logits; shape (N, d1, ...) with the classes on `axis`.
        Probabilities are divided by their sum and clipped to [epsilon, 1 - epsilon], as Keras does.
    alpha : weight of the classes: one number, a constant factor, or a list with one number per class.  See
        `class_weights`.
    gamma : >= 0, one number or a list with one per class.
    from_logits : y_pred holds logits.  Better: nothing is clipped, and no digit is lost at any logit.
    label_smoothing : s in [0, 1] replaces each label y by y (1 - s) + s / classes.
    axis : the class axis.  Lists for alpha and gamma lie along it.

    Returns
    -------
    The loss of every sample: y_pred's shape without the class axis, and its dtype (float64 for lists).

    Raises
    ------
    ValueError and TypeError as `binary_focal_crossentropy`; also for class indices as labels, and for fewer than two
    classes.

    Examples
    --------
    >>> categorical_focal_crossentropy([[0, 1, 0], [0, 0, 1]], [[0.05, 0.95, 0], [0.1, 0.8, 0.1]])
    array([3.20583090e-05, 4.66273481e-01])
    """
    parameters = checked(Categorical, alpha, gamma, from_logits, label_smoothing, axis)
    return per_sample(parameters, y_true, y_pred)


def sparse_categorical_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    alpha: Any = 0.25,
    gamma: Any = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    ignore_class: int | None = None,
    axis: int = -1,
) -> Any:
    """`categorical_focal_crossentropy` for class indices.

    Parameters
    ----------
    y_true : class indices 0 ... classes - 1, as integers or whole floats, of y_pred's shape without the class axis,
        or with a 1 in its place.
    ignore_class : an index that marks samples to leave out, such as -1 or 255: their loss and gradient are 0.
    alpha, gamma, from_logits, label_smoothing, axis : as there.

    Returns
    -------
    The loss of every sample: y_pred's shape without the class axis, and its dtype (float64 for lists).

    Raises
    ------
    As there; and ValueError for an index outside the classes, with the first bad position, or for one-hot labels.

    Examples
    --------
    >>> sparse_categorical_focal_crossentropy([1, 2], [[0.05, 0.95, 0], [0.1, 0.8, 0.1]])
    array([3.20583090e-05, 4.66273481e-01])
    """
    parameters = checked(SparseCategorical, alpha, gamma, from_logits, label_smoothing, axis, ignore_class=ignore_class)
    return per_sample(parameters, y_true, y_pred)


def per_sample(parameters: Binary | Categorical, y_true: Any, y_pred: Any) -> Any:
    """The loss of every sample, in y_pred's dtype."""
    backend = backends.find(y_pred, y_true)
    batch = backend.batch(parameters, y_true, y_pred)
    return backend.cast(backend.terms(batch, 0)[0], batch.dtype)
