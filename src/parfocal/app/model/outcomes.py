"""What decisions do to rows whose labels are known, and what they will do to new ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from parfocal.app.model.decisions import NEVER, Decision, Evidence, Judged, OutOfReach, chosen, decision
from parfocal.app.model.rules import Rule

LEVEL = 0.95  # of the intervals
RESAMPLES = 1000
MOST_DRAWN = 2_000_000  # numbers; 100 classes are drawn 200 times
Z = 1.96  # standard errors


@dataclass(frozen=True)
class Outcome:
    """What a decision does to some rows, and with 95 % confidence to others like them in the long run."""

    measures: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    baselines: dict[str, float] = field(default_factory=dict)  # costs per 1,000 rows of deciding without a model


@dataclass(frozen=True, eq=False)
class Decided:
    """A decision, what it will give on new rows, and what it gave on the final test."""

    decision: Decision
    folds: Outcome
    test: Outcome

    @property
    def rule(self) -> Rule:
        return self.decision.rule

    @property
    def threshold(self) -> float | None:
        return self.decision.threshold


def decided(rules: Iterable[Rule], evidence: Evidence, seed: int = 0) -> list[Decided]:
    """Each rule's decision and its outcomes.  Raises OutOfReach."""
    return [outcomes(decision(rule, evidence), evidence, seed) for rule in rules]


def outcomes(found: Decision, evidence: Evidence, seed: int = 0) -> Decided:
    """What a decision will give on new rows, and what it gave on the final test.

    Each fold is decided by what the rule chooses on the other folds, so that no row is decided by a threshold that was
    chosen on it.
    """
    folds = []
    for part, others in evidence.folds.split():
        try:
            there = chosen(found.rule, others, evidence)
        except OutOfReach:
            there = Decision(found.rule, NEVER)
        folds.append(pairs_of(there, part))
    expected = outcome(found, folds, spread_of(evidence.folds), seed)
    tested = outcome(found, [pairs_of(found, evidence.test)], spread_of(evidence.test), seed)
    if found.rule.kind == "day" and evidence.rows_per_day is not None:
        expected, tested = (with_days(one, evidence.rows_per_day) for one in (expected, tested))
    return Decided(found, expected, tested)


def with_days(told: Outcome, rows_per_day: float) -> Outcome:
    low, high = told.intervals["alarms_per_1000"]
    a_day = rows_per_day / 1000
    return Outcome(
        {**told.measures, "alarms_per_day": a_day * told.measures["alarms_per_1000"]},
        {**told.intervals, "alarms_per_day": (a_day * low, a_day * high)},
        told.baselines,
    )


def costs_of(found: Decision) -> np.ndarray | None:
    """(true class, decided class)."""
    if found.rule.prices:
        miss, alarm = found.rule.prices
        return np.array([[0.0, alarm], [miss, 0.0]])
    return found.costs


def pairs_of(found: Decision, rows: Judged) -> np.ndarray:
    """Weights by (true class, decided class)."""
    pairs = np.zeros((rows.classes, rows.classes))
    np.add.at(pairs, (rows.labels, found(rows.probabilities)), 1.0 if rows.weights is None else rows.weights)
    return pairs


def spread_of(rows: Judged) -> float:
    """How many equal rows' worth a weight is: the sum of the squares over the sum; 1 without weights."""
    return 1.0 if rows.weights is None else float(rows.weights @ rows.weights / rows.weights.sum())


def outcome(found: Decision, folds: Sequence[np.ndarray], spread: float, seed: int) -> Outcome:
    """Measures of all folds together, and the intervals of what to expect elsewhere."""
    generator, whole = np.random.default_rng(seed), np.sum(folds, axis=0)
    drawn, *parts = (measures_of(found, redrawn(found, pairs, spread, generator)) for pairs in (whole, *folds))
    measures, intervals = {}, {}
    for name, values in measures_of(found, whole[None]).items():
        public, factor = (f"{name}_per_1000", 1000.0) if name in ("alarms", "cost") else (name, 1.0)
        value = float(values[0])
        low, high = interval(drawn[name], [part[name] for part in parts], LINKS.get(name, LOG_ODDS))
        measures[public] = factor * value
        intervals[public] = factor * min(low, value), factor * max(high, value)
        if math.isnan(value):
            intervals[public] = math.nan, math.nan
    baselines: dict[str, float] = {}
    costs = costs_of(found)
    if costs is not None:
        always = 1000 * (whole.sum(axis=1) / whole.sum()) @ costs
        if len(always) == 2:
            baselines = {"no_alarm": float(always[0]), "every_row": float(always[1])}
        else:
            baselines = {"one_class": float(always.min())}
    return Outcome(measures, intervals, baselines)


def measures_of(found: Decision, pairs: np.ndarray) -> dict[str, np.ndarray]:
    """Of numbers of (true class, decided class), with a leading axis; alarms and costs of a row."""
    costs = costs_of(found)
    total, right = pairs.sum(axis=(1, 2)), np.diagonal(pairs, axis1=1, axis2=2)
    with np.errstate(invalid="ignore"):
        if pairs.shape[1] == 2:
            hits, positives, alarms = pairs[:, 1, 1], pairs[:, 1].sum(axis=1), pairs[:, :, 1].sum(axis=1)
            measures = {"recall": hits / positives, "precision": hits / alarms, "alarms": alarms / total}
            if found.rule.kind == "f":
                beta = found.rule.numbers[0]
                measures["f_beta"] = (1 + beta * beta) * hits / (beta * beta * positives + alarms)
        else:
            recalls = right / pairs.sum(axis=2)
            measures = {"accuracy": right.sum(axis=1) / total, "mean_recall": recalls.mean(axis=1)}
    if costs is not None:
        measures["cost"] = (pairs * costs).sum(axis=(1, 2)) / total
    return measures


# -- how sure that is


class Link(NamedTuple):
    """The scale on which errors add up."""

    to: Callable[[np.ndarray], np.ndarray]
    back: Callable[[np.ndarray], np.ndarray]


LOG_ODDS = Link(lambda shares: np.log(shares) - np.log1p(-shares), lambda scores: 1 / (1 + np.exp(-scores)))
LINKS = {"cost": Link(np.log, np.exp)}


def redrawn(found: Decision, pairs: np.ndarray, spread: float, generator: np.random.Generator) -> np.ndarray:
    """Shares of which these numbers may be one draw.

    Before any row there is half a one for each pair of two classes (Jeffreys's prior), and of more classes one for each
    true class; none where a threshold makes a pair impossible.
    """
    prior = np.full(pairs.shape, 0.5 if len(pairs) == 2 else 1 / len(pairs))
    if found.threshold is not None:
        prior[:, 1] *= found.threshold <= 1
        prior[:, 0] *= found.threshold > 0
    draws = min(RESAMPLES, MOST_DRAWN // pairs.size)
    return spread * generator.gamma(pairs / spread + prior, size=(draws, *pairs.shape))


def interval(drawn: np.ndarray, parts: Sequence[np.ndarray], link: Link) -> tuple[float, float]:
    """The middle 95 %, wider by what separates the folds; the ends that were drawn where the scale has none."""
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return math.nan, math.nan
    quantiles = np.quantile(drawn, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2])
    with np.errstate(divide="ignore", invalid="ignore"):
        low, middle, high = link.to(quantiles)
        more = between([link.to(part) for part in parts])
    if not np.isfinite([low, middle, high]).all():
        return float(quantiles[0]), float(quantiles[2])
    reach = np.sqrt(np.square([middle - low, high - middle]) + more)
    return float(link.back(middle - reach[0])), float(link.back(middle + reach[1]))


def between(parts: Sequence[np.ndarray]) -> float:
    """What new rows and the saved model may differ by from the folds: the square of a half width.

    The folds' own variance is what their means differ by beyond what their draws explain (DerSimonian and Laird 1986).
    """
    known = [part[np.isfinite(part)] for part in parts]
    known = [part for part in known if len(part)]
    if len(known) < 2:
        return 0.0
    variance = float(np.var([part.mean() for part in known], ddof=1) - np.mean([part.var() for part in known]))
    return Z * Z * (1 + 1 / len(known)) * max(variance, 0.0)
