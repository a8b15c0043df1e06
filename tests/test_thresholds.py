"""Thresholds beside a search through all of them, in fractions; and whether intervals hold what they promise."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import parfocal
from libraries import QUICK, Library, each
from parfocal import thresholds

EIGHTHS = st.integers(0, 8).map(lambda eighths: eighths / 8)  # many equal ones, and exact sums
ROWS = st.lists(st.tuples(EIGHTHS, st.booleans(), st.integers(0, 3)), min_size=1, max_size=12)


class Found:
    """What a threshold does, in fractions."""

    def __init__(self, rows: list[tuple[float, Any, Any]], threshold: float) -> None:
        alarms = [row for row in rows if row[0] >= threshold]
        self.alarms, self.total = (sum((Fraction(w) for *_, w in of), Fraction(0)) for of in (alarms, rows))
        self.hits, self.positives = (sum((Fraction(y) * w for _, y, w in of), Fraction(0)) for of in (alarms, rows))

    def f_beta(self, beta: int) -> Fraction:
        below = beta * beta * self.positives + self.alarms
        return (1 + beta * beta) * self.hits / below if below else Fraction(0)

    def cost(self, miss: int, alarm: int) -> Fraction:
        return miss * (self.positives - self.hits) + alarm * (self.alarms - self.hits)


def every(rows: list[tuple[float, Any, Any]]) -> dict[float, Found]:
    return {t: Found(rows, t) for t in sorted({p for p, *_ in rows} | {math.inf})}


def same(decision: thresholds.Decision, exact: Found) -> None:
    """The numbers of a decision are those of its threshold."""
    assert decision.alarms == pytest.approx(float(exact.alarms / exact.total))
    assert decision.recall == pytest.approx(float(exact.hits / exact.positives))
    if exact.alarms:
        assert decision.precision == pytest.approx(float(exact.hits / exact.alarms))
    else:
        assert math.isnan(decision.precision)


Given = tuple[list[tuple[float, Any, Any]], dict[str, Any]]


def with_and_without(rows: list[tuple[float, bool, int]]) -> list[Given]:
    """The same rows: with labels and without, with weights and without."""
    p, y, w = (list(column) for column in zip(*rows, strict=True))
    ones = [1] * len(p)
    return [
        (list(zip(p, y, ones, strict=True)), {"labels": y}),
        (list(zip(p, y, w, strict=True)), {"labels": y, "sample_weight": w}),
        (list(zip(p, p, ones, strict=True)), {}),
        (list(zip(p, p, w, strict=True)), {"sample_weight": w}),
    ]


@given(ROWS)
@settings(max_examples=80, deadline=None)
def test_the_best_of_all_thresholds(drawn: list[tuple[float, bool, int]]) -> None:
    for rows, named in with_and_without(drawn):
        p, known = [row[0] for row in rows], every(rows)
        if not next(iter(known.values())).positives:
            with pytest.raises(ValueError, match=r"no row has label 1|weights of all rows are 0"):
                thresholds.best_f_beta(p, **named)
            continue
        for beta in (1, 2):
            found = thresholds.best_f_beta(p, beta=beta, **named)
            best = max(exact.f_beta(beta) for exact in known.values())
            assert found.f_beta == pytest.approx(float(best))
            assert float(known[found.threshold].f_beta(beta)) == pytest.approx(float(best))
            same(found, known[found.threshold])
        if "labels" in named:
            found = thresholds.by_cost(p, miss=3, alarm=1, **named)
            least = min(exact.cost(3, 1) for exact in known.values())
            assert found.cost * float(known[math.inf].total) == pytest.approx(float(least))
            same(found, known[found.threshold])
        for wanted in (Fraction(1, 2), Fraction(1)):
            enough = [t for t, exact in known.items() if exact.hits >= wanted * exact.positives]
            found = thresholds.for_recall(p, float(wanted), **named)
            assert known[found.threshold].hits >= wanted * known[found.threshold].positives
            assert known[found.threshold].alarms == min(known[t].alarms for t in enough)
            same(found, known[found.threshold])
            right = [e for e in known.values() if e.alarms and e.hits and e.hits >= wanted * e.alarms]
            if right:
                found = thresholds.for_precision(p, float(wanted), **named)
                most = max(exact.hits for exact in right)
                assert known[found.threshold].hits == most
                assert known[found.threshold].alarms == min(exact.alarms for exact in right if exact.hits == most)
                same(found, known[found.threshold])
            else:
                with pytest.raises(ValueError, match="no threshold reaches a precision"):
                    thresholds.for_precision(p, float(wanted), **named)
            found = thresholds.for_alarms(p, float(wanted), **named)
            few = [exact.alarms for exact in known.values() if exact.alarms <= wanted * exact.total]
            assert known[found.threshold].alarms == max(few)
            same(found, known[found.threshold])
        same(thresholds.at(p, 0.45, **named), Found(rows, 0.45))


def test_without_labels_it_is_half_of_the_best_f() -> None:
    """Lipton et al. 2014: the best threshold is F / (1 + beta^2)."""
    p = np.random.default_rng(0).beta(0.3, 4.0, 200_000)
    for beta in (0.5, 1.0, 2.0):
        found = thresholds.best_f_beta(p, beta=beta)
        assert found.threshold == pytest.approx(found.f_beta / (1 + beta * beta), rel=1e-3)
    assert thresholds.by_cost(p, miss=19, alarm=1).threshold == 0.05
    labels = np.random.default_rng(1).random(len(p)) < p  # calibrated: what was expected comes true
    seen = thresholds.at(p, found.threshold, labels, beta=2.0)
    assert seen.f_beta == pytest.approx(found.f_beta, abs=0.005)


@each(QUICK)
def test_arrays_of_any_library(library: Library) -> None:
    p, y = np.float32([0.1, 0.2, 0.4, 0.6, 0.9]), np.float32([0, 0, 1, 0, 1])
    expected = thresholds.best_f_beta(p, y)
    assert thresholds.best_f_beta(library.array(p), library.array(y)) == expected
    assert (p >= expected.threshold).sum() == 3  # float32 and the threshold compare exactly


def test_one_decision_for_each_column() -> None:
    generator = np.random.default_rng(0)
    p = generator.random((500, 3)) ** [1, 2, 4]
    y, weight = generator.random((500, 3)) < p, generator.random(500)
    for labels in (y, None):
        many = thresholds.best_f_beta(p, labels, sample_weight=weight, interval=0.9)
        one = [
            thresholds.best_f_beta(p[:, k], None if labels is None else y[:, k], sample_weight=weight, interval=0.9)
            for k in range(3)
        ]
        assert many == one
    assert thresholds.at(p[:, :1], 0.5, y[:, 0]) == thresholds.at(p[:, 0], 0.5, y[:, 0])


# -- intervals


def interval(decision: thresholds.Decision, name: str) -> tuple[float, float]:
    assert decision.intervals is not None
    return decision.intervals[name]


def draw(seed: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    p = 1 / (1 + np.exp(-generator.normal(-4, 1.6, rows)))
    return p, generator.random(rows) < p


WAYS: dict[str, Callable[..., thresholds.Decision]] = {
    "f": thresholds.best_f_beta,
    "cost": lambda p, y, **more: thresholds.by_cost(p, y, miss=5, alarm=1, **more),
    "recall": lambda p, y, **more: thresholds.for_recall(p, 0.8, y, **more),
    "precision": lambda p, y, **more: thresholds.for_precision(p, 0.2, y, **more),
    "alarms": lambda p, y, **more: thresholds.for_alarms(p, 0.05, y, **more),
}


@pytest.mark.parametrize("way", WAYS)
def test_intervals_hold_what_new_rows_show(way: str) -> None:
    """Of 60 samples of 1,000 rows, some 48 positives: 95 % intervals hold the truth in at least 50."""
    p, y = draw(99, 400_000)
    held: dict[str, int] = {}
    for seed in range(60):
        found = WAYS[way](*draw(1000 + seed, 1000), interval=0.95)
        truth = thresholds.at(p, found.threshold, y, miss=5, alarm=1)._asdict()
        assert found.intervals is not None
        for name, (low, high) in found.intervals.items():
            assert low <= high
            held[name] = held.get(name, 0) + (low <= truth[name] <= high)
    names = ["recall", "precision", "alarms", "f_beta", *(["cost"] if way == "cost" else [])]
    assert min(held[name] for name in names) >= 50, held


def test_intervals_at_the_ends() -> None:
    """A count of 0 is no proof that there are none; where there can be none, it is."""
    p, y = np.linspace(0.01, 1, 100), np.linspace(0.01, 1, 100) > 0.7
    low, high = interval(thresholds.at(p, 0.7, y, interval=0.95), "precision")
    assert 0.85 < low < 0.95 < high <= 1
    never = thresholds.at(p, math.inf, y, miss=2, alarm=1, interval=0.95).intervals
    assert never is not None
    assert never["recall"] == never["alarms"] == (0, 0)
    assert never["cost"][1] <= 2
    assert interval(thresholds.at(p, 0.0, y, interval=0.95), "recall") == (1, 1)


def test_intervals_of_a_recall_near_1() -> None:
    """Of 60 samples: the truth is in the interval, though the rows themselves show a recall of 1."""
    p, y = draw(99, 400_000)
    held = 0
    for seed in range(60):
        rows, labels = draw(2000 + seed, 1000)
        found = thresholds.for_recall(rows, 1.0, labels, interval=0.95)
        low, high = interval(found, "recall")
        held += low <= thresholds.at(p, found.threshold, y).recall <= high
    assert held >= 45, held


def test_the_scale_of_the_weights_does_not_matter() -> None:
    p, y = draw(5, 500)
    weight = np.random.default_rng(0).random(500)
    one = thresholds.best_f_beta(p, y, sample_weight=weight, interval=0.9)
    for scale in (1e-300, 2.0**40, 1e300):
        assert thresholds.best_f_beta(p, y, sample_weight=weight * scale, interval=0.9).f_beta == pytest.approx(
            one.f_beta
        )


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float16])
def test_probabilities_of_other_types(dtype: Any) -> None:
    p, y = np.asarray([0, 1, 0, 1], dtype), [0, 1, 1, 1]
    assert thresholds.best_f_beta(p, y) == thresholds.best_f_beta(p.astype(float), y)
    assert thresholds.by_cost(np.ones(4, dtype), [1, 0, 0, 0], miss=0.5, alarm=1).threshold == math.inf


def test_intervals_are_those_of_rows_drawn_again() -> None:
    """The same by drawing whole rows: groups of neighbours, and rates for counts, change little."""
    p, y = draw(3, 4000)
    found = thresholds.best_f_beta(p, y, interval=0.9)
    generator, again, fixed, optimism = np.random.default_rng(0), [], [], []
    for _ in range(400):
        rows = generator.integers(0, len(p), len(p))
        best = thresholds.best_f_beta(p[rows], y[rows])
        again.append(best.threshold)
        fixed.append(thresholds.at(p[rows], found.threshold, y[rows]).recall)
        optimism.append(best.recall - thresholds.at(p, best.threshold, y).recall)
    assert found.intervals is not None
    np.testing.assert_allclose(found.intervals["threshold"], np.quantile(again, [0.05, 0.95]), rtol=0.1)
    better = np.mean(optimism)
    expected = np.quantile(fixed, [0.05, 0.95]) - [max(better, 0), min(better, 0)]
    np.testing.assert_allclose(found.intervals["recall"], expected, atol=0.02)


def test_weights_of_2_say_less_than_twice_the_rows() -> None:
    p, y = draw(4, 3000)
    one = thresholds.best_f_beta(p, y, interval=0.95)
    assert thresholds.best_f_beta(p, y, interval=0.95) == one  # the seed is fixed
    twos = thresholds.best_f_beta(p, y, sample_weight=np.full(3000, 2.0), interval=0.95)
    assert twos.threshold == one.threshold
    assert one.intervals is not None
    assert twos.intervals is not None
    assert twos.intervals["recall"] == pytest.approx(one.intervals["recall"], abs=0.02)


# -- what is wrong

P, Y = [0.1, 0.9], [0, 1]
WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: thresholds.best_f_beta([0.1, 1.5], Y), ValueError, r"in \[0, 1\]; got 1.5 at position 1"),
    (lambda: thresholds.best_f_beta([0.1, math.nan]), ValueError, "got nan at position 1"),
    (lambda: thresholds.best_f_beta(P, [0, 2]), ValueError, "labels must be 0 or 1; got 2 at position 1"),
    (lambda: thresholds.best_f_beta(P, [0, 0.5]), ValueError, "labels must be 0 or 1; got 0.5"),
    (lambda: thresholds.best_f_beta(P, [0, 0]), ValueError, "no row has label 1"),
    (lambda: thresholds.best_f_beta(P, [0, 1, 1]), ValueError, r"shape \(2,\) and labels \(3,\)"),
    (lambda: thresholds.best_f_beta([], []), ValueError, "at least one"),
    (lambda: thresholds.best_f_beta(["a"], [1]), TypeError, "probabilities must hold real numbers"),
    (lambda: thresholds.best_f_beta(P, Y, beta=0), ValueError, "beta must be a number above 0; got 0"),
    (lambda: thresholds.best_f_beta(P, Y, interval=1), ValueError, r"interval must be in \(0, 1\); got 1"),
    (lambda: thresholds.best_f_beta(P, Y, sample_weight=[1]), ValueError, "one number for each of the 2 rows"),
    (
        lambda: thresholds.best_f_beta(P, Y, sample_weight=[1, -1]),
        ValueError,
        "finite and >= 0; got -1.0 at position 1",
    ),
    (lambda: thresholds.best_f_beta(P, Y, sample_weight=[0, 0]), ValueError, "weights of all rows are 0"),
    (lambda: thresholds.at(P, 0.5, Y, miss=5), ValueError, "miss and alarm go together"),
    (lambda: thresholds.by_cost(P, Y, miss=0, alarm=1), ValueError, "miss must be a number above 0"),
    (lambda: thresholds.for_recall(P, 1.5, Y), ValueError, r"recall must be in \(0, 1\]; got 1.5"),
    (lambda: thresholds.for_precision(P, "high", Y), TypeError, "precision must be a number"),
    (lambda: thresholds.for_precision([0.9, 0.1], 0.8, Y), ValueError, "highest is 0.5, at the threshold 0.1"),
    (lambda: thresholds.for_alarms(P, 0, Y), ValueError, "share must be in"),
    (lambda: thresholds.at(P, math.nan, Y), ValueError, "threshold must be a number; got nan"),
    (lambda: thresholds.at(P, "x", Y), TypeError, "threshold must be a number"),
    (lambda: thresholds.at(P, Y, 0.5), ValueError, "threshold must be a number; got"),
    (lambda: thresholds.best_f_beta(P, Y, seed="x"), ValueError, "seed must be a whole number"),
    (lambda: thresholds.best_f_beta(P, Y, beta=1e200), ValueError, "beta must be between 1e-100 and 1e"),
    (lambda: thresholds.best_f_beta([P, P], [[0, 0], [1, 0]]), ValueError, "column 1: no row has label 1"),
]


@pytest.mark.parametrize(("call", "error", "message"), WRONG)
def test_what_is_wrong(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_nothing_is_changed_and_nothing_more_is_imported() -> None:
    p, y = np.asarray([0.9, 0.1, 0.4]), np.asarray([1, 0, 1])
    before = p.copy(), y.copy()
    thresholds.best_f_beta(p, y, interval=0.95)
    np.testing.assert_array_equal((p, y), before)
    assert parfocal.thresholds is thresholds
