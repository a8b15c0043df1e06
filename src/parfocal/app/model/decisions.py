"""Decisions: how a rule becomes a threshold, and how rows are decided.

A rule chooses on the out-of-fold rows, by their calibrated probabilities.  What that does is told in outcomes.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from parfocal import thresholds
from parfocal.app.errors import BadInput, brief, shown
from parfocal.app.model.rules import BALANCED, COSTS, Rule, default_rule, read_rule, refused

NEVER = math.nextafter(1.0, 2.0)  # a threshold that no probability reaches; JSON has no infinity


@dataclass(frozen=True, eq=False)
class Decision:
    """How a row's class is found."""

    rule: Rule
    threshold: float | None  # two classes: the positive one from this probability on
    divisors: np.ndarray | None = None  # more classes: probabilities are divided by these, and the largest wins
    costs: np.ndarray | None = None  # more classes: the least expected cost wins; (true, decided)

    @property
    def words(self) -> str:
        """What it is after."""
        if self.rule.kind == BALANCED and self.threshold is not None:
            return "its share in training"
        return self.rule.words

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """Codes of classes."""
        if self.threshold is not None:
            return (probabilities >= self.threshold).astype(np.int64)
        if self.costs is not None:
            return np.argmin(probabilities @ self.costs, axis=1)
        return np.argmax(probabilities if self.divisors is None else probabilities / self.divisors, axis=1)


@dataclass(frozen=True, eq=False)
class Judged:
    """Rows that a model did not learn from: their labels, and their calibrated probabilities."""

    labels: np.ndarray
    probabilities: np.ndarray  # (N,) of the positive class, or (N, classes)
    weights: np.ndarray | None
    folds: np.ndarray | None = None  # the number of each row's fold

    @property
    def classes(self) -> int:
        return 2 if self.probabilities.ndim == 1 else self.probabilities.shape[1]

    def part(self, rows: np.ndarray) -> Judged:
        return Judged(self.labels[rows], self.probabilities[rows], None if self.weights is None else self.weights[rows])

    def split(self) -> Iterator[tuple[Judged, Judged]]:
        """Each fold, and the others."""
        assert self.folds is not None
        for number in np.unique(self.folds):
            yield self.part(self.folds == number), self.part(self.folds != number)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What decisions are made on, and what they are tested on."""

    folds: Judged
    test: Judged
    prior: Any  # the classes' shares in training: of the positive one of two, otherwise of each
    rows_per_day: float | None  # None: the table has no dates

    @property
    def classes(self) -> int:
        return self.folds.classes


class OutOfReach(BadInput):
    """No threshold does what a rule asks for."""


# -- from rules to decisions


def first_in_reach(rules: Sequence[Rule], evidence: Evidence) -> tuple[Decision, list[str]]:
    """The decision of the first rule that has one, the usual one after all, and why others have none."""
    refused: list[str] = []
    for rule in (*rules, default_rule(evidence.classes)):
        try:
            return decision(rule, evidence), refused
        except OutOfReach as error:
            refused.append(str(error))
    raise AssertionError("the usual rule is always in reach")


def decision(rule: Rule, evidence: Evidence) -> Decision:
    """The decision of a rule, chosen on all out-of-fold rows.  Raises OutOfReach."""
    return chosen(rule, evidence.folds, evidence)


def chosen(rule: Rule, rows: Judged, evidence: Evidence) -> Decision:
    """The decision that a rule chooses on some rows.  Raises OutOfReach."""
    if not needs_rows(rule):
        return without_rows(rule, evidence.prior)
    p, labels, numbers = rows.probabilities, rows.labels, rule.numbers
    if rule.kind == "f":
        found = thresholds.best_f_beta(p, labels, beta=numbers[0], sample_weight=rows.weights)
    elif rule.kind == "recall":
        found = thresholds.for_recall(p, numbers[0], labels, sample_weight=rows.weights)
    elif rule.kind == "precision":
        try:
            found = thresholds.for_precision(p, numbers[0], labels, sample_weight=rows.weights)
        except ValueError as error:
            raise OutOfReach(f"--decide {shown(rule.text)}: on the out-of-fold rows {error}") from error
    else:
        found = thresholds.for_alarms(p, share_of_alarms(rule, evidence.rows_per_day), sample_weight=rows.weights)
    return Decision(rule, between_rows(found.threshold, p))


def between_rows(threshold: float, p: np.ndarray) -> float:
    """Midway to the next lower probability: the same decisions here, and the same for a row that is a little off."""
    if threshold > 1:
        return NEVER
    below = float(p[p < threshold].max(initial=-1.0))
    midway = (threshold + below) / 2
    if below < 0:
        return 0.0
    return midway if midway > below else threshold  # of neighbouring floats the middle is one of them


def needs_rows(rule: Rule) -> bool:
    """Whether its threshold is chosen on rows whose labels are known."""
    return rule.kind in ("f", "recall", "precision", "alarms", "day")


def without_rows(rule: Rule, prior: Any) -> Decision:
    """The decision of a rule that needs none."""
    if rule.prices:
        miss, alarm = rule.prices
        return Decision(rule, alarm / (miss + alarm))  # there an alarm costs as much as it saves (Elkan 2001)
    if rule.kind == COSTS:
        return Decision(rule, None, costs=np.asarray(rule.costs, dtype=np.float64))
    if rule.kind == BALANCED:
        shares = np.asarray(prior, dtype=np.float64)
        return Decision(rule, None, divisors=shares) if shares.ndim else Decision(rule, float(shares))
    return Decision(rule, None)


def share_of_alarms(rule: Rule, rows_per_day: float | None) -> float:
    if rule.kind == "alarms":
        return rule.numbers[0] / rule.numbers[1]
    check_days(rule, rows_per_day)
    assert rows_per_day is not None
    return rule.numbers[0] / rows_per_day


def check_days(rule: Rule, rows_per_day: float | None) -> None:
    """Raise BadInput where alarms a day can't be had."""
    if rule.kind != "day":
        return
    if rows_per_day is None:
        raise refused(rule.text, "alarms a day need days, so a --time column of dates when the model is fitted")
    if rule.numbers[0] > rows_per_day:
        raise refused(
            rule.text, f"the table has not as many rows a day, but {rows_per_day:.4g} on average; ask for fewer"
        )


# -- in model.json


def saved_decision(rule: str, threshold: float | None, costs: Any, prior: Any) -> Decision:
    """What a model decides by.  Raises ValueError for what no fit writes."""
    try:
        found = read_rule(rule)
        found.check_classes(("", "") if threshold is not None else ("", "", ""))
    except BadInput as error:
        raise ValueError(str(error)) from error
    if found.kind == COSTS:
        table = np.asarray(costs, dtype=np.float64)
        if table.shape != (len(prior), len(prior)) or not np.isfinite(table).all():
            raise ValueError(f"costs {brief(costs)} are not a number for each pair of classes")
        return Decision(replace(found, costs=tuple(map(tuple, table.tolist()))), None, costs=table)
    return without_rows(found, prior) if threshold is None else Decision(found, threshold)
