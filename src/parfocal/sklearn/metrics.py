"""The focal loss of probabilities, as a scikit-learn metric and as a scorer."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from sklearn.metrics import make_scorer
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight

from parfocal.boosters import focal_loss
from parfocal.core import validation


def focal_loss_score(
    y_true: Any,
    y_proba: Any,
    *,
    gamma: Any = 2.0,
    alpha: Any = None,
    normalize: bool = True,
    sample_weight: Any = None,
    labels: Any = None,
) -> float:
    """The mean focal loss of probabilities, called as `sklearn.metrics.log_loss`.

    At gamma 0 without alpha it is the log loss.  For gamma > 0 it is not a proper score: it is least for focal scores
    (`FocalLogisticRegression.raw_focal_scores`), and not for true probabilities.  To compare probabilities, use the log
    loss or the Brier score.

    Parameters
    ----------
    y_true : (N,) labels, numbers or strings, or (N, K) with one 1 in each row.
    y_proba : (N, K) probabilities, as `predict_proba` returns them, columns in the sorted order of the labels; for two
        classes also (N,) or (N, 1), that of the second.  They are clipped to [epsilon, 1 - epsilon], with
        `parfocal.config.epsilon()`, which is 1e-7 by default; log_loss clips at 2.2e-16.
    gamma : >= 0, by default 2.  Two classes: one number, or a pair (first class, second class).  More: one number, or
        one per class.
    alpha : None (default), no weights.  Two classes: the weight of the second, in [0, 1]; the first has 1 - alpha.
        More: a number, a constant factor, or one per class.
    normalize : the mean (default), the sum of the weighted losses divided by the sum of the weights; False is the sum.
    sample_weight : (N,) weights, or None.
    labels : all labels there are, where y_true does not have them all.

    Returns
    -------
    A float.

    Raises
    ------
    ValueError for values outside [0, 1], for invalid labels, for another number of classes than columns, and for
    weights that are all 0, as in log_loss.
    UserWarning for rows whose sum is not 1, and for `labels` in another than sorted order.

    Examples
    --------
    >>> y_true, y_proba = ["spam", "ham", "ham", "spam"], [[0.1, 0.9], [0.9, 0.1], [0.8, 0.2], [0.35, 0.65]]
    >>> print(round(focal_loss_score(y_true, y_proba), 5))
    0.01595
    >>> print(round(focal_loss_score(y_true, y_proba, gamma=0), 5))  # the log loss
    0.21616
    """
    validation.flag("normalize", normalize)
    given = check_array(y_proba, ensure_2d=False, dtype=[np.float64, np.float32], input_name="y_proba")
    check_consistent_length(given, y_true, sample_weight)
    bad = (given < 0) | (given > 1)
    if bad.any():
        raise ValueError(
            f"y_proba must hold probabilities in [0, 1]; it holds {validation.first_bad(bad, given)}. Pass what "
            "predict_proba returns, not decision_function."
        )
    classes, indices = class_indices(y_true, labels)
    probabilities = of_classes(given, classes)
    weights = None if sample_weight is None else _check_sample_weight(sample_weight, given, dtype=np.float64)
    if len(classes) == 2:
        probabilities, indices = probabilities[:, 1:], indices[:, None]
    reduction = "mean_with_sample_weight" if normalize else "sum"
    loss = focal_loss(len(classes), gamma, alpha, reduction=reduction)
    return float(loss(indices, probabilities, weights))


def focal_loss_scorer(gamma: Any = 2.0, alpha: Any = None, *, labels: Any = None) -> Any:
    """A scorer for `scoring=`: minus the `focal_loss_score` of `predict_proba`, so that larger is better.

    gamma, alpha, labels : as in `focal_loss_score`; give `labels` where a fold may lack a class.

    To choose between gammas by the probabilities that they lead to, use scoring="neg_log_loss" instead.

    >>> from sklearn.datasets import make_classification
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import cross_val_score
    >>> X, y = make_classification(200, random_state=0)
    >>> print(cross_val_score(LogisticRegression(), X, y, scoring=focal_loss_scorer(gamma=2), cv=2).round(3))
    [-0.165 -0.137]
    """
    return make_scorer(
        focal_loss_score,
        greater_is_better=False,
        response_method="predict_proba",
        gamma=gamma,
        alpha=alpha,
        labels=labels,
    )


def class_indices(y_true: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """The classes, sorted, and the index of each sample's."""
    indicator = np.asarray(y_true)
    if indicator.ndim == 2 and indicator.shape[1] > 1:
        if not (((indicator == 0) | (indicator == 1)).all() and (indicator.sum(axis=1) == 1).all()):
            raise ValueError(
                f"y_true of shape {indicator.shape} must have one 1 in each row, and zeros; or give one label per "
                "sample, of shape (N,)"
            )
        y_true = indicator.argmax(axis=1)
        labels = np.arange(indicator.shape[1]) if labels is None else labels
    y_true = column_or_1d(y_true)
    check_classification_targets(y_true)
    classes = np.unique(y_true if labels is None else column_or_1d(labels))
    if len(classes) < 2:
        where = "y_true" if labels is None else "labels"
        raise ValueError(
            f"{where} has one class only, {classes.tolist()}; pass all classes, one for each column of y_proba, as "
            "labels=[...]"
        )
    if labels is not None and classes.tolist() != np.asarray(labels).tolist():
        warnings.warn(
            f"labels={np.asarray(labels).tolist()} are not in sorted order, and the columns of y_proba are taken to be "
            f"in it: {classes.tolist()}",
            UserWarning,
            stacklevel=3,
        )
    unknown = ~np.isin(y_true, classes)
    if unknown.any():
        raise ValueError(
            f"y_true must hold labels among {classes.tolist()}; it holds {validation.first_bad(unknown, y_true)}"
        )
    return classes, np.searchsorted(classes, y_true)


def of_classes(given: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Probabilities (N, K) in float64 whose rows sum to 1."""
    tolerance = math.sqrt(np.finfo(given.dtype).eps)
    probabilities = np.asarray(given, dtype=np.float64)
    if probabilities.ndim == 1 or probabilities.shape[1] == 1:
        second = probabilities.reshape(-1)
        probabilities = np.stack([1 - second, second], axis=1)
    if probabilities.ndim != 2 or probabilities.shape[1] != len(classes):
        raise ValueError(
            f"y_proba of shape {given.shape} needs one column for each of the {len(classes)} classes "
            f"{classes.tolist()}; if y_true does not have all classes, pass them as labels=[...]"
        )
    sums = probabilities.sum(axis=1)
    off = ~(np.abs(sums - 1) <= tolerance)
    if off.any():
        if (sums == 0).any():
            raise ValueError(
                f"each row of y_proba must sum to 1; a row sums to {validation.first_bad(sums == 0, sums)}"
            )
        warnings.warn(
            f"the rows of y_proba must sum to 1, and one sums to {validation.first_bad(off, sums)}; they are divided "
            "by their sum. Pass what predict_proba returns.",
            UserWarning,
            stacklevel=3,
        )
        probabilities = probabilities / sums[:, None]
    return probabilities
