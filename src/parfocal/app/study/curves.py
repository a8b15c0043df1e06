"""Curves of the final test as plain points: alarms and hits of every threshold, and how reliable probabilities are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parfocal.app.study.metrics import equal_count_bins
from parfocal.core.curve import curve_of

UNIT = 1000.0  # rows that alarms and hits are told of
POINTS = 240  # of a curve: more cannot be seen, and a slider needs no finer steps
FEWEST_POSITIVES = 5  # of a group of rows, or its share says nothing: of 20 rows without any it is 0 to 16 %
NORMAL = 1.959963984540054  # 95 % of a normal distribution lie within so many standard deviations


@dataclass(frozen=True)
class Ranking:
    """Of thresholds from the highest: alarms and hits in 1,000 rows, of which so many are positive."""

    thresholds: list[float]
    alarms: list[float]
    hits: list[float]
    positives: float


@dataclass(frozen=True)
class Group:
    """Rows of similar probability: what was said, and what happened, with the 95 % interval of that."""

    said: float
    happened: float
    interval: tuple[float, float]
    rows: int
    positives: int


def ranking(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None, keep: Sequence[float] = ()
) -> Ranking:
    """Thinned to about POINTS thresholds, half of them evenly in recall and half in the logarithm of the alarms.

    `keep` are thresholds to have among them.
    """
    curve = curve_of(probabilities, labels == 1, weights)
    unit = UNIT / curve.total
    alarms, hits, thresholds = curve.alarms[1:] * unit, curve.hits[1:] * unit, curve.thresholds[1:]
    places = [*np.searchsorted(hits, np.linspace(hits[0], hits[-1], POINTS // 2))]
    places += [*np.searchsorted(alarms, np.geomspace(alarms[0], alarms[-1], POINTS // 2))]
    kept = np.unique(np.clip(places, 0, len(alarms) - 1))
    points = {float(thresholds[k]): (float(alarms[k]), float(hits[k])) for k in kept}
    weight = np.ones(len(labels)) if weights is None else weights
    for threshold in keep:
        at = weight * (probabilities >= threshold) * (UNIT / weight.sum())
        points[float(threshold)] = float(at.sum()), float(at[labels == 1].sum())
    order = sorted(points, reverse=True)
    return Ranking(
        thresholds=order,
        alarms=[points[threshold][0] for threshold in order],
        hits=[points[threshold][1] for threshold in order],
        positives=float(curve.positives * unit),
    )


def reliability(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None, fewest: int = FEWEST_POSITIVES
) -> list[Group]:
    """The groups of the calibration error, neighbours joined until they have `fewest` positives.

    Of more than two classes every class of every row is an event.
    """
    weight = np.ones(len(labels)) if weights is None else weights
    if probabilities.ndim == 2:
        classes = probabilities.shape[1]
        labels, weight = np.eye(classes)[labels].ravel(), np.repeat(weight, classes)
        probabilities = probabilities.ravel()
    bins = equal_count_bins(probabilities)
    bins = joined(np.bincount(bins, labels == 1), fewest)[bins]
    total, squares = np.bincount(bins, weight), np.bincount(bins, weight**2)
    said, happened = (np.bincount(bins, weight * values) for values in (probabilities, labels))
    rows, positives = np.bincount(bins), np.bincount(bins, labels == 1)
    return [
        Group(
            said=float(said[k] / total[k]),
            happened=float(happened[k] / total[k]),
            interval=wilson(float(happened[k] / total[k]), float(total[k] ** 2 / squares[k])),
            rows=int(rows[k]),
            positives=int(positives[k]),
        )
        for k in np.flatnonzero(total > 0)
    ]


def joined(positives: np.ndarray, fewest: int) -> np.ndarray:
    """The number of the group of each bin, from the lowest; what is left over joins the last group."""
    group, found, groups = 0, 0.0, []
    for count in positives.tolist():
        groups.append(group)
        found += count
        if found >= fewest:
            group, found = group + 1, 0.0
    last = max(group - 1, 0)
    return np.minimum(groups, last) if found < fewest else np.array(groups)


def wilson(share: float, rows: float) -> tuple[float, float]:
    """The interval of a share (Wilson 1927), which holds for few positives too."""
    square = NORMAL**2
    centre = (share + square / (2 * rows)) / (1 + square / rows)
    half = NORMAL * np.sqrt(share * (1 - share) / rows + square / (4 * rows**2)) / (1 + square / rows)
    return max(0.0, min(float(centre - half), share)), min(1.0, max(float(centre + half), share))


def confusion(labels: np.ndarray, decided: np.ndarray, classes: int) -> list[list[int]]:
    """Rows of each class, by what was decided for them."""
    return np.bincount(labels * classes + decided, minlength=classes * classes).reshape(classes, classes).tolist()
