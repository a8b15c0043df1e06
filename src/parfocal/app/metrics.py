"""How good probabilities of a rare event are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    log_loss,
    precision_recall_curve,
    roc_auc_score,
)

from parfocal.app.options import Metric

BINS = 15  # of the calibration error, with equally many rows


TITLES = {
    "average_precision": "average precision",
    "roc_auc": "ROC AUC",
    "log_loss": "log loss",
    "brier": "Brier score",
    "calibration_error": "calibration error",
}


def score(metric: str, labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None) -> float:
    """One metric of probabilities of label 1."""
    if metric == "calibration_error":
        return calibration_error(labels, probabilities, weights)
    if metric == "log_loss":
        return float(log_loss(labels, probabilities, sample_weight=weights, labels=[0.0, 1.0]))
    if metric == "brier":
        return float(brier_score_loss(labels, probabilities, sample_weight=weights, pos_label=1))
    function = {"average_precision": average_precision_score, "roc_auc": roc_auc_score}[metric]
    return float(function(labels, probabilities, sample_weight=weights))


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


def best_f1_threshold(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The probability from which on calling a row positive gives the best F1."""
    precision, recall, thresholds = precision_recall_curve(labels, probabilities, sample_weight=weights)
    total = precision[:-1] + recall[:-1]
    f1 = np.divide(2 * precision[:-1] * recall[:-1], total, out=np.zeros_like(total), where=total > 0)
    return float(thresholds[np.argmax(f1)])


def weighted_scorer(metric: Metric, labels: np.ndarray, probabilities: np.ndarray) -> Callable[[np.ndarray], float]:
    """`score` as a function of the weights alone, for the bootstrap, which asks hundreds of times.

    Sorting once makes average precision 7 times faster than scikit-learn's (1.8 ms against 13 for 84,000 rows).
    """
    if metric is not Metric.average_precision:
        if metric is Metric.brier:
            of_rows = (probabilities - labels) ** 2
        else:  # clipped as scikit-learn does
            p = np.clip(probabilities, np.finfo(float).eps, 1 - np.finfo(float).eps)
            of_rows = -np.log(np.where(labels == 1, p, 1 - p))
        return lambda weights: float(np.average(of_rows, weights=weights))

    order = np.argsort(-probabilities, kind="stable")
    positives = labels[order] == 1
    last_of_ties = np.flatnonzero(np.append(np.diff(probabilities[order]) != 0, True))

    def average_precision(weights: np.ndarray) -> float:
        weights = weights[order]
        found = np.cumsum(weights * positives)[last_of_ties]
        called = np.cumsum(weights)[last_of_ties]
        precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
        return float(np.sum(np.diff(found, prepend=0.0) * precision) / found[-1])

    return average_precision
