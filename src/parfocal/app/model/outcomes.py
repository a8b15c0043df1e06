"""What decisions do to rows whose labels are known, and what they will do to new ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from parfocal.app.model.decisions import NEVER, Decision, Evidence, Judged, OutOfReach, chosen, decision
from parfocal.app.model.rules import Rule

LEVEL = 0.95  # of the intervals
RESAMPLES = 1000
T_QUANTILE = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}  # of Student's t, 97.5 %, by the number of folds


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
    costs = costs_of(found)
    rows, spread = evidence.folds, spread_of(evidence.folds)
    folds = []
    for part, others in rows.split():
        try:
            there = chosen(found.rule, others, evidence)
        except OutOfReach:
            there = Decision(found.rule, NEVER)
        folds.append(pairs_of(there, part))
    beta = found.rule.numbers[0] if found.rule.kind == "f" else None
    expected = outcome(folds, spread, found, costs, beta, seed)
    tested = outcome([pairs_of(found, evidence.test)], spread_of(evidence.test), found, costs, beta, seed)
    return Decided(found, expected, tested)


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


def outcome(
    folds: Sequence[np.ndarray],
    spread: float,
    found: Decision,
    costs: np.ndarray | None,
    beta: float | None,
    seed: int,
) -> Outcome:
    """Measures of all folds together, and the intervals of what to expect elsewhere.

    An interval has two parts: how well the rows know the rates (Jeffreys's prior), and how much more the folds differ
    than that explains (DerSimonian and Laird 1986), as new rows and the saved model will differ from them too.
    """
    generator, whole = np.random.default_rng(seed), np.sum(folds, axis=0)
    measures = {name: float(values[0]) for name, values in measures_of(whole[None], costs, beta).items()}
    drawn = measures_of(redrawn(whole, spread, found, generator), costs, beta)
    parts = [measures_of(redrawn(fold, spread, found, generator), costs, beta) for fold in folds]
    intervals = {name: interval(name, drawn[name], [part[name] for part in parts]) for name in measures}
    baselines: dict[str, float] = {}
    if costs is not None:
        always = 1000 * (whole.sum(axis=1) / whole.sum()) @ costs
        if len(always) == 2:
            baselines = {"doing nothing": float(always[0]), "alarming always": float(always[1])}
        else:
            baselines = {"always the cheapest class": float(always.min())}
    return Outcome(measures, intervals, baselines)


def measures_of(pairs: np.ndarray, costs: np.ndarray | None, beta: float | None) -> dict[str, np.ndarray]:
    """Of numbers of (true class, decided class), with a leading axis."""
    total = pairs.sum(axis=(1, 2))
    right = np.diagonal(pairs, axis1=1, axis2=2)
    with np.errstate(invalid="ignore"):
        if pairs.shape[1] == 2:
            hits, positives, alarms = pairs[:, 1, 1], pairs[:, 1].sum(axis=1), pairs[:, :, 1].sum(axis=1)
            measures = {
                "recall": hits / positives,
                "precision": hits / alarms,
                "alarms_per_1000": 1000 * alarms / total,
            }
            if beta is not None:
                measures["f_beta"] = (1 + beta * beta) * hits / (beta * beta * positives + alarms)
        else:
            measures = {
                "accuracy": right.sum(axis=1) / total,
                "mean_recall": (right / pairs.sum(axis=2)).mean(axis=1),
            }
    if costs is not None:
        measures["cost_per_1000"] = 1000 * (pairs * costs).sum(axis=(1, 2)) / total
    return measures


def redrawn(pairs: np.ndarray, spread: float, found: Decision, generator: np.random.Generator) -> np.ndarray:
    """Shares of which these numbers may be one draw: half a row before it for each pair of two classes; of more, one
    for each true class.  No prior expects what a threshold makes impossible.
    """
    prior = np.full(pairs.shape, 0.5 if len(pairs) == 2 else 1 / len(pairs))
    if found.threshold is not None:
        prior[:, 1] *= found.threshold <= 1
        prior[:, 0] *= found.threshold > 0
    return spread * generator.gamma(pairs / spread + prior, size=(RESAMPLES, *pairs.shape))


def interval(name: str, drawn: np.ndarray, parts: Sequence[np.ndarray]) -> tuple[float, float]:
    """The middle 95 %, wider by what separates the folds; on the scale of log-odds, or of logarithms for costs."""
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return math.nan, math.nan
    scale = 1.0 if name in ("recall", "precision", "f_beta", "accuracy", "mean_recall") else 1000.0
    low, middle, high = np.quantile(drawn, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2]) / scale
    ends = []
    extra = T_QUANTILE[len(parts)] ** 2 * (1 + 1 / len(parts)) * between(name, parts, scale) if len(parts) > 1 else 0.0
    for end in (low, high):
        here = link(name, np.array([middle, end]))
        reach = here[1] - here[0]
        ends.append(scale * float(unlink(name, here[0] + math.copysign(math.hypot(reach, math.sqrt(extra)), reach))))
    return (ends[0], ends[1]) if np.isfinite(ends).all() else (scale * float(low), scale * float(high))


def between(name: str, parts: Sequence[np.ndarray], scale: float) -> float:
    """The variance between folds beyond what their rows explain."""
    each = [link(name, part[~np.isnan(part)] / scale) for part in parts]
    each = [values[np.isfinite(values)] for values in each]
    each = [values for values in each if len(values) > 1]
    if len(each) < 2:
        return 0.0
    within = float(np.mean([values.var() for values in each]))
    return max(float(np.var([values.mean() for values in each], ddof=1)) - within, 0.0)


def link(name: str, values: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(values) if name == "cost_per_1000" else np.log(values) - np.log1p(-values)


def unlink(name: str, value: float) -> float:
    return math.exp(value) if name == "cost_per_1000" else 1 / (1 + math.exp(-value))
