"""Class weights from labels and from counts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from mpmath import mp, mpf
from sklearn.utils.class_weight import compute_class_weight

import parfocal


@pytest.mark.parametrize(
    "labels",
    [[0] * 90 + [1] * 10, ["b", "a", "a", "c"] * 3, [True, False, False], np.asarray([5, 7, 7, 9, 9, 9]), [-1, 1, 1]],
    ids=str,
)
def test_inverse_frequency_is_scikit_learn_s_balanced(labels: list[object]) -> None:
    classes = np.unique(labels)
    expected = compute_class_weight("balanced", classes=classes, y=labels)
    np.testing.assert_array_equal(parfocal.class_weights(labels), expected)
    np.testing.assert_array_equal(parfocal.class_weights(Counter(np.asarray(labels).tolist())), expected)


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999, 1 - 1e-12])
def test_effective_number(beta: float) -> None:
    counts = {"a": 10**9, "b": 1, "c": 3000}
    with mp.workdps(60):
        exact = [(1 - mpf(beta)) / (1 - mpf(beta) ** n) for n in counts.values()]
        exact = [float(3 * w / mp.fsum(exact)) for w in exact]
    weights = parfocal.class_weights(counts, "effective_number", beta=beta)
    np.testing.assert_allclose(weights, exact, rtol=1e-13)
    assert weights.sum() == pytest.approx(3)


def test_effective_number_lies_between_equal_and_inverse() -> None:
    counts = {0: 900, 1: 100}
    equal, inverse = np.ones(2), parfocal.class_weights(counts)
    np.testing.assert_allclose(parfocal.class_weights(counts, "effective_number", beta=0.0), equal)
    np.testing.assert_allclose(
        parfocal.class_weights(counts, "effective_number", beta=1 - 1e-13), 2 * inverse / inverse.sum(), rtol=1e-9
    )
    default = parfocal.class_weights(counts, "effective_number")
    np.testing.assert_allclose(default, parfocal.class_weights(counts, "effective_number", beta=1 - 1 / 1000), 1e-12)


def test_a_class_without_samples_has_no_weight() -> None:
    for scheme in ("inverse_frequency", "effective_number"):
        weights = parfocal.class_weights({0: 0, 1: 10, 2: 30}, scheme)
        assert weights[0] == 0
        assert np.isfinite(weights).all()
    assert parfocal.class_weights({0: 0, 1: 10, 2: 30})[1] == pytest.approx(40 / (3 * 10))


def test_one_class_only() -> None:
    assert parfocal.class_weights([1, 1, 1]).tolist() == [1.0]
    assert parfocal.class_weights(["x"], "effective_number").tolist() == [1.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], "balanced"), "inverse_frequency.*effective_number"),
        (([0, 1, 1], "effective_number", 1.0), r"beta must be a number in \[0, 1\)"),
        (([0, 1, 1], "inverse_frequency", 0.9), "beta"),
        (({0: -1, 1: 3},), "not negative"),
        (({0: float("nan"), 1: 3},), "not negative"),
        (({},), "at least one sample"),
        (([],), "at least one sample"),
        (({0: 0},), "at least one sample"),
        (([990, 10],), r"mapping.*\{0: 990, 1: 10\}"),
        (([0.0, float("nan")],), "NaN"),
    ],
)
def test_bad_input(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parfocal.class_weights(*arguments)


@pytest.mark.parametrize(
    "labels", ["abc", 5, [[0, 1], [1, 0]], {1: 3, "b": 2}, {"a": [1, 2]}, {"a": "x"}, [None, 1]], ids=str
)
def test_what_is_no_list_of_labels(labels: object) -> None:
    with pytest.raises(TypeError, match=r"labels must be one list|counts must be a mapping"):
        parfocal.class_weights(labels)


def test_a_label_of_each_is_no_mistake() -> None:
    assert parfocal.class_weights([0, 1]).tolist() == [1, 1]
    assert parfocal.class_weights([2, 0, 1]).tolist() == [1, 1, 1]


def test_counts_that_floats_cannot_tell_apart() -> None:
    assert parfocal.class_weights({0: 1e20, 1: 1}, "effective_number").tolist() == pytest.approx([0, 2])
    assert np.isfinite(parfocal.class_weights({0: 0.5, 1: 0.25}, "effective_number")).all()
