"""How good probabilities are.

Those of two classes are (N,), of the positive class; those of more are (N, classes).  With more classes average
precision, ROC AUC and the calibration error are unweighted means over the classes, each against the rest; the Brier
score is the sum over the classes, which for two would be twice the usual one; observed over expected is that of the
rarest class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    log_loss,
    precision_recall_fscore_support,
    roc_auc_score,
)

from parfocal.app.model.decisions import Decision
from parfocal.app.options import Metric

BINS = 15  # of the calibration error, with equally many rows


TITLES = {
    "average_precision": "average precision",
    "roc_auc": "ROC AUC",
    "log_loss": "log loss",
    "brier": "Brier score",
    "calibration_error": "calibration error",
    "observed_over_expected": "observed / expected",
}


def score(metric: str, labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None) -> float:
    """One metric of probabilities."""
    if probabilities.ndim == 2:
        return score_of_classes(metric, labels, probabilities, weights)
    if metric == "calibration_error":
        return calibration_error(labels, probabilities, weights)
    if metric == "observed_over_expected":
        return observed_over_expected(labels, probabilities, weights)
    if metric == "log_loss":
        return float(log_loss(labels, probabilities, sample_weight=weights, labels=[0, 1]))
    if metric == "brier":
        return float(brier_score_loss(labels, probabilities, sample_weight=weights, pos_label=1))
    function = {"average_precision": average_precision_score, "roc_auc": roc_auc_score}[metric]
    return float(function(labels, probabilities, sample_weight=weights))


def score_of_classes(
    metric: str, labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """One metric of (N, classes)."""
    if metric in ("log_loss", "brier"):
        return float(np.average(of_rows(metric, labels, probabilities), weights=weights))
    if metric == "observed_over_expected":
        rarest = int(np.argmin(np.bincount(labels.astype(np.int64), weights, probabilities.shape[1])))
        return observed_over_expected(labels == rarest, probabilities[:, rarest], weights)
    each = [
        score(metric, labels == number, probabilities[:, number], weights) for number in range(probabilities.shape[1])
    ]
    return float(np.mean(each))


def of_rows(metric: str, labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Of each row: the log loss, clipped as in scikit-learn, or the Brier score."""
    if probabilities.ndim == 1:
        if metric == "brier":
            return np.asarray((probabilities - labels) ** 2)
        said = np.where(labels == 1, probabilities, 1 - probabilities)
    else:
        if metric == "brier":
            return np.asarray(((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(axis=1))
        said = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    tiny = np.finfo(float).eps
    return np.asarray(-np.log(np.clip(said, tiny, 1 - tiny)))


def scores(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None) -> dict[str, float]:
    """All metrics, in the order of TITLES."""
    return {metric: score(metric, labels, probabilities, weights) for metric in TITLES}


def equal_count_bins(probabilities: np.ndarray, bins: int = BINS) -> np.ndarray:
    """A bin for each row, with equally many rows in each; rows with equal probabilities share a bin."""
    rank = np.searchsorted(np.sort(probabilities), probabilities)
    return rank * bins // len(probabilities)


def calibration_error(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Expected calibration error: the mean over bins of | mean probability - share of positives |, by weight."""
    weights = np.ones(len(labels)) if weights is None else weights
    gaps = np.bincount(equal_count_bins(probabilities), weights * (probabilities - labels))
    return float(np.abs(gaps).sum() / weights.sum())


def observed_over_expected(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Positives over the sum of their probabilities: above 1 where these are too low."""
    expected = float(np.average(probabilities, weights=weights))
    return float(np.average(labels, weights=weights)) / max(expected, np.finfo(float).tiny)


def weighted_scorer(metric: Metric, labels: np.ndarray, probabilities: np.ndarray) -> Callable[[np.ndarray], float]:
    """`score` as a function of the weights alone, for the bootstrap, which asks hundreds of times.

    Classes without any weight left do not count.  Sorting once makes average precision 7 times faster than
    scikit-learn's (1.8 ms against 13 for 84,000 rows).
    """
    if metric is not Metric.average_precision:
        losses = of_rows(metric, labels, probabilities)
        return lambda weights: float(np.average(losses, weights=weights))
    if probabilities.ndim == 1:
        return average_precision_scorer(labels == 1, probabilities)
    each = [
        average_precision_scorer(labels == number, probabilities[:, number]) for number in range(probabilities.shape[1])
    ]
    return lambda weights: float(np.nanmean([of_class(weights) for of_class in each]))


def average_precision_scorer(labels: np.ndarray, probabilities: np.ndarray) -> Callable[[np.ndarray], float]:
    """Average precision by weights; NaN where no positive has any."""
    order = np.argsort(-probabilities, kind="stable")
    positives = labels[order]
    last_of_ties = np.flatnonzero(np.append(np.diff(probabilities[order]) != 0, True))

    def average_precision(weights: np.ndarray) -> float:
        weights = weights[order]
        found = np.cumsum(weights * positives)[last_of_ties]
        called = np.cumsum(weights)[last_of_ties]
        if not found[-1] > 0:
            return float("nan")
        precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
        return float(np.sum(np.diff(found, prepend=0.0) * precision) / found[-1])

    return average_precision


@dataclass(frozen=True)
class ClassResult:
    """How one class does: by its probability against the rest, and by the decisions."""

    rows: int
    share: float  # by weight
    mean_probability: float
    average_precision: float
    precision: float
    recall: float
    f1: float


def by_class(
    labels: np.ndarray, probabilities: np.ndarray, decision: Decision, weights: np.ndarray | None
) -> list[ClassResult]:
    """A result for each class, in their order."""
    each = np.stack([1 - probabilities, probabilities], axis=1) if probabilities.ndim == 1 else probabilities
    classes = range(each.shape[1])
    decided = precision_recall_fscore_support(
        labels, decision(probabilities), labels=classes, sample_weight=weights, zero_division=0.0
    )
    return [
        ClassResult(
            rows=int((labels == number).sum()),
            share=float(np.average(labels == number, weights=weights)),
            mean_probability=float(np.average(each[:, number], weights=weights)),
            average_precision=score("average_precision", labels == number, each[:, number], weights),
            precision=float(decided[0][number]),
            recall=float(decided[1][number]),
            f1=float(decided[2][number]),
        )
        for number in classes
    ]
