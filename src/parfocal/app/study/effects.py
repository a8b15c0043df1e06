"""How a probability moves with one column: accumulated local effects (Apley and Zhu 2020, doi:10.1111/rssb.12377).

Rows are moved only as far as the next value, so no row is asked about that the table could not have.  The small changes
add up to a curve, which is put where the mean over the rows is the mean probability.

(a) A number with many values moves between quantiles; one with few, and a boolean, from one value to the next.
(b) Categories have no order.  They get the one in which neighbours are alike in the other columns, as in the paper's
    own package: the first axis of a multidimensional scaling of the distances between their distributions.
(c) Of a date, the part with the largest effect is told: month, weekday, hour or days.
(d) Rows without a value are left out of the curve, and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from parfocal.app.data.columns import Column
from parfocal.boosters import Rows

Said = Callable[[np.ndarray], np.ndarray]  # the probability of one class

STEPS = 20  # between quantiles
ENDS = 0.01  # the curve leaves out one row in a hundred at either end, where a far value would squeeze the rest
MOST_LEVELS = 24  # values that are taken one by one, as the hours of a day
MOST_CATEGORIES = 8  # the most frequent of the rows
LIKE_BINS = 16  # in which distributions are compared
LIKE_FEATURES = 60


@dataclass(frozen=True)
class Effect:
    """The mean probability at each value of a column, as far as that column moves it."""

    column: str
    part: str  # of a date; else ""
    kind: str  # number, boolean, category, date or datetime
    values: list[float]  # in rising order; codes of categories in the order of their probabilities
    names: list[str] | None  # of categories
    probabilities: list[float]
    rows: list[float]  # the share of the rows at each value, or up to it from the one before
    missing: float  # share of rows without a value

    @property
    def spread(self) -> float:
        return max(self.probabilities) - min(self.probabilities)


def effect_of(
    column: Column, features: Sequence[int], said: Said, rows: Rows, other_features: Sequence[int]
) -> Effect | None:
    """None where the rows have one value alone."""
    parts = [
        effect
        for place, part in zip(features, column.parts, strict=True)
        if (effect := effect_of_part(column, part, place, said, rows, other_features)) is not None
    ]
    return max(parts, key=lambda effect: effect.spread, default=None)


def effect_of_part(
    column: Column, part: str, place: int, said: Said, rows: Rows, other_features: Sequence[int]
) -> Effect | None:
    values = rows.features[:, place]
    weights = np.ones(len(values)) if rows.weights is None else rows.weights
    given = ~np.isnan(values)
    missing = 1 - float(weights[given].sum() / weights.sum())
    levels = np.unique(values[given])
    names: list[str] | None = None
    if column.kind == "category":
        counts = np.bincount(np.searchsorted(levels, values[given]), weights[given])
        levels = levels[np.argsort(-counts, kind="stable")[:MOST_CATEGORIES]]
        if len(levels) > 1:
            levels = levels[order_of_likeness(rows.features, values, levels, other_features, rows.categorical)]
    if len(levels) < 2:
        return None
    if column.kind == "category" or len(levels) <= MOST_LEVELS:
        curve, shares = by_levels(said, rows.features, weights, place, levels)
    else:
        levels, curve, shares = by_quantiles(said, rows.features[given], weights[given], place)
    mean = float(np.average(said(rows.features), weights=weights))
    if column.kind == "category":
        order = np.argsort(curve, kind="stable")
        levels, curve, shares = levels[order], curve[order], shares[order]
        names = [column.categories[int(level)] for level in levels]
    return Effect(
        column.name, part, column.kind, levels.tolist(), names, (curve + mean).tolist(), shares.tolist(), missing
    )


def change(said: Said, features: np.ndarray, place: int, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """What the probability of each row changes by from one value to the other; asked at once, which is faster."""
    both = np.tile(features, (2, 1))
    both[:, place] = np.concatenate([low, high])
    at_low, at_high = np.split(said(both), 2)
    return np.asarray(at_high - at_low)


def by_levels(
    said: Said, features: np.ndarray, weights: np.ndarray, place: int, levels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """From each level to the next, by the rows of both; centred, and the share of rows of each."""
    members = [np.flatnonzero(features[:, place] == level) for level in levels]
    pairs = [np.concatenate(both) for both in pairwise(members)]
    rows, sizes = np.concatenate(pairs), [len(pair) for pair in pairs]
    changes = change(said, features[rows], place, np.repeat(levels[:-1], sizes), np.repeat(levels[1:], sizes))
    step = np.repeat(np.arange(len(pairs)), sizes)
    steps = np.bincount(step, weights[rows] * changes) / np.bincount(step, weights[rows])
    curve = np.concatenate([[0.0], np.cumsum(steps)])
    shares = np.array([weights[rows].sum() for rows in members])
    return curve - np.average(curve, weights=shares), shares / weights.sum()


def by_quantiles(
    said: Said, features: np.ndarray, weights: np.ndarray, place: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges, the centred curve at them, and the share of rows up to each from the one before."""
    values = features[:, place]
    edges = np.unique(np.quantile(values, np.linspace(ENDS, 1 - ENDS, STEPS + 1), method="nearest"))
    if len(edges) < 2:  # nearly all rows have one value
        edges = np.array([values.min(), values.max()])
    bins = np.clip(np.searchsorted(edges, values, "left") - 1, 0, len(edges) - 2)
    changes = change(said, features, place, edges[bins], edges[bins + 1])
    shares = np.bincount(bins, weights, len(edges) - 1)
    steps = np.bincount(bins, weights * changes, len(edges) - 1) / np.maximum(shares, np.finfo(float).tiny)
    curve = np.concatenate([[0.0], np.cumsum(steps)])
    curve -= np.average((curve[1:] + curve[:-1]) / 2, weights=shares)
    return edges, curve, np.concatenate([[0.0], shares / weights.sum()])


def order_of_likeness(
    features: np.ndarray, values: np.ndarray, levels: np.ndarray, others: Sequence[int], categorical: Sequence[int]
) -> np.ndarray:
    """The order of the levels in which neighbours are alike in the other features."""
    distances = np.zeros((len(levels), len(levels)))
    members = [values == level for level in levels]
    for other in list(others)[:LIKE_FEATURES]:
        column = features[:, other]
        if other in categorical:
            bins = np.where(np.isnan(column), 0, 1 + np.minimum(np.nan_to_num(column), LIKE_BINS)).astype(np.int64)
        else:
            known = column[~np.isnan(column)]
            if not len(known):
                continue
            bins = np.searchsorted(np.unique(np.quantile(known, np.linspace(0, 1, LIKE_BINS))), column)
        shares = np.stack([np.bincount(bins[rows], minlength=LIKE_BINS + 2) / rows.sum() for rows in members])
        if other in categorical:
            distances += np.abs(shares[:, None] - shares).sum(axis=2) / 2
        else:  # Kolmogorov and Smirnov's
            distances += np.abs(np.cumsum(shares, axis=1)[:, None] - np.cumsum(shares, axis=1)).max(axis=2)
    centre = np.eye(len(levels)) - 1 / len(levels)
    _, axes = np.linalg.eigh(-centre @ distances**2 @ centre / 2)
    return np.argsort(axes[:, -1], kind="stable")
