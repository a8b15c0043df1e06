"""What every threshold would do to a set of rows: its alarms and its hits; and how sure that is.

A row is an alarm where its probability is at or above the threshold.  A hit is an alarm of label 1; without labels, the
probabilities themselves are the expected labels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

# Groups of rows that are drawn together for intervals.  A threshold then moves in steps of 1 / 2048 of the hits.
GROUPS = 2048
RESAMPLES = 1000
AT_A_TIME = 100  # resamples: their cumulative sums stay in cache


class Curve(NamedTuple):
    """Thresholds from the highest, which alarms nothing; and of each, with the rows' weights, alarms and hits."""

    thresholds: np.ndarray
    alarms: np.ndarray
    hits: np.ndarray
    total: Any
    positives: Any


Choice = Callable[[Curve], np.ndarray]  # the index of the chosen threshold; curves may have a leading axis


def curve_of(p: np.ndarray, labels: np.ndarray | None, weight: np.ndarray | None) -> Curve:
    """The curve of rows of probabilities p.  Thresholds at which nothing more is hit than above them are left out."""
    if labels is not None and weight is None:
        return from_labels(p, labels)
    order = None if weight is None else np.argsort(p)[::-1]
    p = np.sort(p)[::-1] if order is None else p[order]
    share = p if labels is None else labels[order]
    curve = started(len(p), p.dtype)
    curve.thresholds[1:] = p
    if weight is None or order is None:
        curve.alarms[1:] = np.arange(1, len(p) + 1)
        np.cumsum(share, dtype=np.float64, out=curve.hits[1:])
    else:
        np.cumsum(weight[order], out=curve.alarms[1:])
        np.cumsum(weight[order] * share, out=curve.hits[1:])
    curve = curve._replace(total=float(curve.alarms[-1]), positives=float(curve.hits[-1]))
    last = np.append(p[1:] != p[:-1], True)
    if not last.all():
        last = np.append(True, last)
        curve = curve._replace(thresholds=curve.thresholds[last], alarms=curve.alarms[last], hits=curve.hits[last])
    last = np.append(True, np.diff(curve.hits) > 0)  # others alarm more and hit as many
    if last.all():
        return curve
    return curve._replace(thresholds=curve.thresholds[last], alarms=curve.alarms[last], hits=curve.hits[last])


def from_labels(p: np.ndarray, labels: np.ndarray) -> Curve:
    """Two sorts of numbers take a fourth of the time of sorting rows by them."""
    true, others = np.sort(p[labels])[::-1], np.sort(p[~labels])
    last = np.append(true[1:] != true[:-1], True) if len(true) else np.zeros(0, bool)
    curve = started(int(last.sum()), p.dtype)
    curve.thresholds[1:] = true[last]
    curve.hits[1:] = np.flatnonzero(last) + 1.0
    curve.alarms[1:] = curve.hits[1:] + (len(others) - np.searchsorted(others, curve.thresholds[1:], "left"))
    return curve._replace(total=float(len(p)), positives=float(len(true)))


def started(count: int, dtype: np.dtype) -> Curve:
    """Room for so many thresholds after the one that alarms nothing."""
    thresholds, alarms, hits = np.empty(count + 1, dtype), np.empty(count + 1), np.empty(count + 1)
    thresholds[0], alarms[0], hits[0] = np.inf, 0.0, 0.0
    return Curve(thresholds, alarms, hits, 0.0, 0.0)


# -- which threshold


def best_f_beta(beta: float) -> Choice:
    def choose(curve: Curve) -> np.ndarray:
        positives = np.asarray(curve.positives)[..., None]
        below = np.maximum(beta * beta * positives + curve.alarms, np.finfo(float).tiny)
        return np.argmax(curve.hits / below, axis=-1)

    return choose


def least_cost(miss: float, alarm: float) -> Choice:
    """Alarms that hit cost nothing."""
    return lambda curve: np.argmin(alarm * curve.alarms - (miss + alarm) * curve.hits, axis=-1)


def for_recall(wanted: float) -> Choice:
    """The highest threshold that reaches it."""

    def choose(curve: Curve) -> np.ndarray:
        enough = curve.hits >= wanted * np.asarray(curve.positives)[..., None] * (1 - 1e-12)
        return np.argmax(enough, axis=-1)

    return choose


def for_precision(wanted: float) -> Choice:
    """The threshold with the most hits that reaches it; the one without alarms if none does."""
    return lambda curve: last_true(curve.hits >= wanted * curve.alarms * (1 - 1e-12))


def last_true(values: np.ndarray) -> np.ndarray:
    return values.shape[-1] - 1 - np.argmax(values[..., ::-1], axis=-1)


# -- how sure that is


class Counts(NamedTuple):
    """Sums of weights: of one threshold, or of one in each resample."""

    alarms: Any
    hits: Any
    total: Any
    positives: Any


def at_threshold(p: np.ndarray, labels: np.ndarray | None, weight: np.ndarray | None, threshold: float) -> Counts:
    """What one threshold does; no sorting."""
    alarms, share = p >= threshold, p if labels is None else labels
    if weight is None:
        sums = alarms.sum(), share.sum(dtype=np.float64, where=alarms), len(p), share.sum(dtype=np.float64)
    else:
        sums = weight @ alarms, (weight * share) @ alarms, weight.sum(), weight @ share
    return Counts(*map(float, sums))


def redrawn(found: Counts, threshold: float, spread: float, seed: int) -> Counts:
    """What a threshold may do in the long run: rates of which these counts are one draw, by the prior of Jeffreys.

    Resampled rows would never show what happened not to be among them.

    spread : what a weight stands for, the sum of the squares over the sum; 1 without weights.
    """
    alarms, hits, total, positives = found
    cells = np.asarray([hits, alarms - hits, positives - hits, total - positives - (alarms - hits)])
    possible = np.asarray([threshold <= 1, threshold <= 1, threshold > 0, threshold > 0])
    rates = np.random.default_rng(seed).gamma(np.maximum(cells, 0.0) / spread + 0.5, size=(RESAMPLES, 4))
    drawn = spread * rates * possible
    return Counts(drawn[:, 0] + drawn[:, 1], drawn[:, 0], drawn.sum(axis=1), drawn[:, 0] + drawn[:, 2])


class Chosen(NamedTuple):
    """A threshold that is chosen again in each resample: which, what it does there, and what it does to the rows."""

    thresholds: np.ndarray
    there: Counts
    here: Counts


def chosen_again(curve: Curve, choose: Choice, spread: float, seed: int) -> Chosen:
    """Rows are drawn in groups of neighbours, whose hits and other alarms are Poisson numbers each."""
    generator, count = np.random.default_rng(seed), len(curve.hits)
    # Groups end where the hits reach equal shares.
    ends = np.searchsorted(curve.hits, curve.hits[-1] * np.arange(1, GROUPS + 1) / GROUPS, "left")
    ends = np.unique(np.minimum(ends, count - 1))
    ends = np.concatenate([[0], ends[ends > 0]])
    rows = Curve(curve.thresholds[ends], curve.alarms[ends], curve.hits[ends], curve.total, curve.positives)
    means = np.maximum(np.diff(np.stack([rows.hits, rows.alarms - rows.hits])), 0.0) / spread
    never = max(curve.total - curve.alarms[-1], 0.0) / spread  # rows below every threshold, which hit nothing
    found = []
    for _ in range(RESAMPLES // AT_A_TIME):
        drawn = spread * generator.poisson(means, (AT_A_TIME, *means.shape))
        sums = np.concatenate([np.zeros((AT_A_TIME, 2, 1)), np.cumsum(drawn, axis=-1)], axis=-1)
        hits, alarms = sums[:, 0], sums.sum(axis=1)
        total = alarms[:, -1] + spread * generator.poisson(never, AT_A_TIME)
        which = choose(Curve(rows.thresholds, alarms, hits, total, hits[:, -1]))
        each = np.arange(AT_A_TIME), which
        there = alarms[each], hits[each], total, hits[:, -1]
        found.append((rows.thresholds[which], *there, rows.alarms[which], rows.hits[which]))
    thresholds, alarms, hits, total, positives, *here = map(np.concatenate, zip(*found, strict=True))
    in_rows = Counts(here[0], here[1], curve.total, curve.positives)
    return Chosen(thresholds, Counts(alarms, hits, total, positives), in_rows)
