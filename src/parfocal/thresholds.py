"""From probabilities to decisions: the threshold at and above which a row is an alarm.

    best_f_beta     the best balance of precision and recall
    by_cost         the least cost, where a miss and a false alarm have their prices
    for_recall      the fewest alarms that find this share of the positives
    for_precision   the most positives found while this share of the alarms is right
    for_alarms      as many alarms as somebody can look at
    at              what a given threshold does

With labels, a threshold is the best one for these rows.  Without labels the probabilities must be calibrated
(`Loss.posterior`, `Calibrator`), and the threshold is the best one to expect: label 1 counts with its probability.
Rows that were used to train the model, or to choose it, make every decision look better than it is; take others.

Arrays of any library, lists and columns of tables are taken.  A table of probabilities, (N, K), has K decisions, one
for each label or class, in a list.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from parfocal.core import curve, validation
from parfocal.core.curve import Choice, Counts
from parfocal.held_out import host_array

Interval = tuple[float, float]
Rows = tuple[np.ndarray, np.ndarray | None, np.ndarray | None]


class Decision(NamedTuple):
    """A threshold, and what it does: a row is an alarm where `probability >= threshold`.

    Without labels all numbers but the threshold and the alarms are what is to be expected.
    """

    threshold: float  # infinite where no alarm is best
    recall: float  # the share of label 1 that is found
    precision: float  # the share of the alarms that is right; NaN without alarms
    alarms: float  # the share of the rows that are alarms
    f_beta: float  # at the beta that was asked for, or 1
    cost: float | None  # of a row, where prices are given
    intervals: dict[str, Interval] | None  # of each of these, where asked for


class Measures(NamedTuple):
    """What is told of a threshold beside its counts."""

    beta: float = 1.0
    miss: float | None = None
    alarm: float | None = None

    def of(self, counts: Counts) -> dict[str, Any]:
        alarms, hits, total, positives = map(np.asarray, counts)
        square = self.beta * self.beta
        with np.errstate(divide="ignore", invalid="ignore"):
            found = {
                "recall": hits / positives,
                "precision": hits / alarms,
                "alarms": alarms / total,
                "f_beta": (1 + square) * hits / (square * positives + alarms),
            }
            if self.miss is not None and self.alarm is not None:
                found["cost"] = (self.miss * (positives - hits) + self.alarm * (alarms - hits)) / total
        return found


def best_f_beta(
    probabilities: Any,
    labels: Any = None,
    *,
    beta: float = 1.0,
    sample_weight: Any = None,
    interval: float | None = None,
    seed: int = 0,
) -> Any:
    """The threshold with the best F-beta, (1 + beta^2) P R / (beta^2 P + R) of precision P and recall R.

    Parameters
    ----------
    probabilities : of label 1, in [0, 1], (N,); or (N, K).  Calibrated, where no labels are given.
    labels : 0 or 1, of the same shape.  None: the best F-beta that is to be expected of calibrated probabilities.  Its
        threshold is F / (1 + beta^2) of the best F itself (Lipton et al. 2014, arXiv:1402.1892).
    beta : > 0; recall counts beta times as much as precision.
    sample_weight : >= 0, one number a row.
    interval : 0.95 for intervals of 95 %: of the threshold, and of what it does to rows like these in the long run.
    seed : of the random numbers that find them.

    Returns
    -------
    A `Decision`; of several, (N, K), a list.

    Raises
    ------
    ValueError for probabilities outside [0, 1] and labels other than 0 and 1, with the first bad position; for shapes
    that do not fit; for no rows, or none with label 1; for settings out of range.  TypeError for what is not a number.

    Notes
    -----
    The interval of the threshold has those that are chosen in 1,000 bootstrap resamples (Poisson, in up to 2,048 groups
    of neighbours).  The others have the rates that may have led to the counts at the threshold (Jeffreys's prior), and
    on the worse side what choosing it on these rows has made it look better (Harrell 2015, section 5.3.5: optimism,
    from the resamples).  As many new rows will scatter about the rates by as much again.

    Examples
    --------
    >>> from parfocal import thresholds
    >>> found = thresholds.best_f_beta([0.1, 0.2, 0.4, 0.6, 0.9], [0, 0, 1, 0, 1])
    >>> print(found.threshold, found.recall, round(found.precision, 3), round(found.f_beta, 3))
    0.4 1.0 0.667 0.8
    >>> expected = thresholds.best_f_beta(np.linspace(0, 0.3, 1001))       # without labels: half of the best F
    >>> print(round(expected.threshold, 3), round(expected.f_beta, 3))
    0.175 0.349
    """
    beta = validation.above_zero("beta", beta)
    choose = functools.partial(chosen, choose=curve.best_f_beta(beta), measures=Measures(beta))
    return each(choose, probabilities, labels, sample_weight, interval, seed)


def by_cost(
    probabilities: Any,
    labels: Any = None,
    *,
    miss: float,
    alarm: float,
    sample_weight: Any = None,
    interval: float | None = None,
    seed: int = 0,
) -> Any:
    """The threshold with the least cost, where a miss costs `miss` and a false alarm `alarm`, in any unit.

    Without labels it is alarm / (miss + alarm), whatever the rows: there an alarm costs as much as it saves (Elkan
    2001, "The foundations of cost-sensitive learning").  An alarm that hits costs nothing: if it does, take that
    from `miss`.  Other arguments, results and errors are those of `best_f_beta`.

    >>> from parfocal import thresholds
    >>> found = thresholds.by_cost([0.1, 0.2, 0.4, 0.6, 0.9], [0, 0, 1, 0, 1], miss=5, alarm=1)
    >>> print(found.threshold, found.cost)                  # one false alarm in five rows
    0.4 0.2
    >>> thresholds.by_cost([0.1, 0.2, 0.4, 0.6, 0.9], miss=9, alarm=1).threshold
    0.1
    """
    miss, alarm = validation.above_zero("miss", miss), validation.above_zero("alarm", alarm)
    measures = Measures(1.0, miss, alarm)
    if labels is None:
        choose: Any = functools.partial(described, threshold=alarm / (miss + alarm), measures=measures)
    else:
        choose = functools.partial(chosen, choose=curve.least_cost(miss, alarm), measures=measures)
    return each(choose, probabilities, labels, sample_weight, interval, seed)


def for_recall(
    probabilities: Any,
    recall: float,
    labels: Any = None,
    *,
    sample_weight: Any = None,
    interval: float | None = None,
    seed: int = 0,
) -> Any:
    """The highest threshold that finds at least this share of the positives.

    recall : in (0, 1].  Other arguments, results and errors are those of `best_f_beta`.

    >>> from parfocal import thresholds
    >>> thresholds.for_recall([0.1, 0.2, 0.4, 0.6, 0.9], 0.5, [0, 0, 1, 0, 1]).threshold
    0.9
    """
    choose = functools.partial(chosen, choose=curve.for_recall(validation.share("recall", recall)), measures=Measures())
    return each(choose, probabilities, labels, sample_weight, interval, seed)


def for_precision(
    probabilities: Any,
    precision: float,
    labels: Any = None,
    *,
    sample_weight: Any = None,
    interval: float | None = None,
    seed: int = 0,
) -> Any:
    """The threshold that finds the most positives while at least this share of the alarms is right.

    precision : in (0, 1].  Of thresholds that find as many, it is the highest.  Other arguments, results and errors are
        those of `best_f_beta`; where no threshold reaches it, a ValueError tells the highest that one does.

    >>> from parfocal import thresholds
    >>> thresholds.for_precision([0.1, 0.2, 0.4, 0.6, 0.9], 0.6, [0, 0, 1, 0, 1]).threshold
    0.4
    """
    precision = validation.share("precision", precision)
    choose = functools.partial(chosen, choose=curve.for_precision(precision), measures=Measures(), wanted=precision)
    return each(choose, probabilities, labels, sample_weight, interval, seed)


def for_alarms(
    probabilities: Any,
    share: float,
    labels: Any = None,
    *,
    sample_weight: Any = None,
    interval: float | None = None,
    seed: int = 0,
) -> Any:
    """The lowest threshold with at most this share of the rows as alarms; labels only tell what it finds.

    share : in (0, 1], such as 5 / 1000.  Other arguments, results and errors are those of `best_f_beta`.

    >>> from parfocal import thresholds
    >>> found = thresholds.for_alarms([0.1, 0.2, 0.4, 0.6, 0.9], 2 / 5, [0, 0, 1, 0, 1])
    >>> print(found.threshold, found.recall)
    0.6 0.5
    """
    choose = functools.partial(as_many_alarms, share=validation.share("share", share))
    return each(choose, probabilities, labels, sample_weight, interval, seed)


def at(
    probabilities: Any,
    threshold: float,
    labels: Any = None,
    *,
    beta: float = 1.0,
    miss: float | None = None,
    alarm: float | None = None,
    sample_weight: Any = None,
    interval: float | None = None,
    seed: int = 0,
) -> Any:
    """What a threshold does, one that was chosen before.

    threshold : a number.  beta, miss, alarm : for `f_beta` and `cost`.  Other arguments, results and errors are those
        of `best_f_beta`.

    >>> from parfocal import thresholds
    >>> found = thresholds.at([0.1, 0.2, 0.4, 0.6, 0.9], 0.5, [0, 0, 1, 0, 1])
    >>> print(found.recall, found.precision, found.alarms)
    0.5 0.5 0.4
    """
    if (miss is None) != (alarm is None):
        raise ValueError(f"miss and alarm go together; got miss={miss!r} and alarm={alarm!r}")
    prices = [validation.above_zero(name, p) for name, p in (("miss", miss), ("alarm", alarm)) if p is not None]
    measures = Measures(validation.above_zero("beta", beta), *prices)
    number = validation.number_or_list("threshold", threshold)
    if isinstance(number, tuple) or math.isnan(number):
        raise ValueError(f"threshold must be a number; got {threshold!r}")
    choose = functools.partial(described, threshold=number, measures=measures)
    return each(choose, probabilities, labels, sample_weight, interval, seed)


# -- one column at a time


def each(
    decide: Callable[..., Decision], probabilities: Any, labels: Any, sample_weight: Any, interval: Any, seed: int
) -> Any:
    """The decision of each column, after a look at what was given."""
    level = None if interval is None else validation.share("interval", interval, one=False)
    seed = validation.whole_number("seed", seed)
    p = host_array("probabilities", probabilities, "this")
    p = p if p.dtype in (np.float32, np.float64) else p.astype(np.float64)
    known = None if labels is None else host_array("labels", labels, "this")
    if p.ndim == 2 and p.shape[1] == 1 and (known is None or known.ndim == 1):
        p = p[:, 0]
    if known is not None and known.shape != p.shape:
        raise ValueError(f"probabilities have shape {p.shape} and labels {known.shape}; give both one shape")
    if p.ndim not in (1, 2) or not p.size:
        raise ValueError(f"probabilities must be rows, (N,) or (N, K), and at least one; got shape {p.shape}")
    weight = None if sample_weight is None else weights_of(sample_weight, len(p))
    check(p, known)
    truth = None if known is None else known if known.dtype == bool else known == 1
    if weight is not None and not weight.all():  # such rows say nothing
        p, truth, weight = p[weight > 0], None if truth is None else truth[weight > 0], weight[weight > 0]
    if p.ndim == 1:
        return decide((p, truth, weight), level=level, seed=seed)
    truths = [None] * p.shape[1] if truth is None else truth.T
    found = []
    for k, (values, true) in enumerate(zip(p.T, truths, strict=True)):
        try:
            found.append(decide((values, true, weight), level=level, seed=seed))
        except ValueError as error:
            raise ValueError(f"column {k}: {error}") from None
    return found


def check(p: np.ndarray, labels: np.ndarray | None) -> None:
    bad = ~((p >= 0) & (p <= 1))
    if bad.any():
        raise ValueError(
            f"probabilities must be in [0, 1]; got {validation.first_bad(bad, p)}. Scores of a focal loss become "
            "probabilities by its posterior"
        )
    if labels is not None and labels.dtype != bool:
        bad = (labels != 0) & (labels != 1)
        if bad.any():
            raise ValueError(f"labels must be 0 or 1; got {validation.first_bad(bad, labels)}")


def weights_of(sample_weight: Any, rows: int) -> np.ndarray:
    weight = host_array("sample_weight", sample_weight, "this").astype(np.float64)
    if weight.shape != (rows,):
        raise ValueError(f"sample_weight must have one number for each of the {rows} rows; got shape {weight.shape}")
    bad = ~((weight >= 0) & (weight < math.inf))
    if bad.any():
        raise ValueError(f"sample_weight must be finite and >= 0; got {validation.first_bad(bad, weight)}")
    if not weight.any():
        raise ValueError("the weights of all rows are 0, so there is nothing to decide by")
    return weight / weight.max()  # only their ratios matter


# -- the three ways to a threshold


def chosen(
    rows: Rows, choose: Choice, measures: Measures, level: float | None, seed: int, wanted: float | None = None
) -> Decision:
    """The best threshold of the curve."""
    whole = curve.curve_of(*rows)
    if not whole.positives > 0:
        raise ValueError("no row has label 1, so there is nothing to find")
    at = int(choose(whole))
    if wanted is not None and not at:
        reached = whole.hits[1:] / whole.alarms[1:]
        best = int(np.argmax(reached))
        raise ValueError(
            f"no threshold reaches a precision of {wanted:g}; the highest is {reached[best]:.3g}, at the threshold "
            f"{whole.thresholds[best + 1]:.6g}"
        )
    counts = Counts(whole.alarms[at], whole.hits[at], whole.total, whole.positives)
    again = None if level is None else curve.chosen_again(whole, choose, spread_of(rows), seed)
    return decision(float(whole.thresholds[at]), counts, measures, rows, level, seed, again)


def described(rows: Rows, threshold: float, measures: Measures, level: float | None, seed: int) -> Decision:
    """A threshold that does not depend on the rows."""
    return decision(threshold, curve.at_threshold(*rows, threshold), measures, rows, level, seed)


def as_many_alarms(rows: Rows, share: float, level: float | None, seed: int) -> Decision:
    p, _, weight = rows
    order = np.argsort(p)[::-1] if weight is not None else None
    p = np.sort(p)[::-1] if order is None else p[order]
    alarms = np.arange(1.0, len(p) + 1) if weight is None or order is None else np.cumsum(weight[order])
    allowed = alarms <= share * alarms[-1] * (1 + 1e-12)
    last = np.append(p[1:] != p[:-1], True)  # equal probabilities are alarms together
    places = np.flatnonzero(allowed & last)
    return described(rows, float(p[places[-1]]) if len(places) else math.inf, Measures(), level, seed)


def spread_of(rows: Rows) -> float:
    weight = rows[2]
    return 1.0 if weight is None else float(weight @ weight / weight.sum())


def decision(
    threshold: float,
    counts: Counts,
    measures: Measures,
    rows: Rows,
    level: float | None,
    seed: int,
    again: curve.Chosen | None = None,
) -> Decision:
    """With intervals: of the threshold where it was chosen on the rows, and of what it does."""
    found: dict[str, Any] = {"cost": None, **{name: float(value) for name, value in measures.of(counts).items()}}
    if level is None:
        return Decision(threshold, **found, intervals=None)
    tails = [(1 - level) / 2, (1 + level) / 2]
    drawn = measures.of(curve.redrawn(counts, threshold, spread_of(rows), seed))
    intervals = {"threshold": (threshold, threshold)}
    there = here = {name: np.zeros(1) for name in drawn}
    if again is not None:
        there, here = measures.of(again.there), measures.of(again.here)
        low, high = np.quantile(again.thresholds, tails, method="nearest")
        intervals["threshold"] = float(low), float(high)
    for name, values in drawn.items():
        known, optimism = values[~np.isnan(values)], there[name] - here[name]
        optimism = optimism[~np.isnan(optimism)]
        if not known.size or not optimism.size:
            intervals[name] = math.nan, math.nan
            continue
        low, high = np.quantile(known, tails)
        low, high = low - max(optimism.mean(), 0.0), high - min(optimism.mean(), 0.0)
        top = max(measures.miss or 0.0, measures.alarm or 0.0) if name == "cost" else 1.0
        intervals[name] = min(max(float(low), 0.0), top), min(max(float(high), 0.0), top)
    return Decision(threshold, **found, intervals=intervals)


__all__ = ["Decision", "at", "best_f_beta", "by_cost", "for_alarms", "for_precision", "for_recall"]
