"""Class weights from labels and from counts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from mpmath import mp, mpf
from sklearn.utils.class_weight import compute_class_weight

import parfocal


@pytest.mark.parametrize(
    "labels",
    [
        [0] * 90 + [1] * 10,
        ["b", "a", "a", "c"] * 3,
        [True, False, False],
        np.asarray([5, 7, 7, 9, 9, 9] * 50),
        [-1, 1, 1],
    ],
    ids=["numbers", "text", "booleans", "codes with gaps", "signs"],
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
        (([0, 1, 1], "effective_number", "0.9"), "beta must be a number"),
        (([0, 1, 1], "effective_number", float("nan")), "beta must be a number"),
        (([0.0, float("inf")],), "must not be infinite; got inf at position 1"),
        (({0: 0.99, 1: 0.01}, "effective_number"), "how many samples"),
        (({"a": 1e308, "b": 1e308},), r"too large: float64 cannot hold their sum.*; got \{'a': 1e\+308"),
        (({"a": 1e308, "b": 1e308}, "effective_number"), "counts are too large"),
        (({"a": 1e300, "b": 1e-300},), r"counts from 1e-300 to 1e\+300 are so far apart"),
        (({"a": 1e300, "b": 1e-300}, "effective_number"), "are so far apart"),
    ],
)
def test_bad_input(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parfocal.class_weights(*arguments)


@pytest.mark.parametrize(
    "labels",
    [
        "abc",
        5,
        [[0, 1], [1, 0]],
        [[0], [1, 2]],
        {1, 2},
        {1: 3, "b": 2},
        {"a": [1, 2]},
        {"a": "x"},
        {"a": "3"},
        {"a": np.asarray([3.0])},
        [None, 1],
        ["a", 1],
        [1, "a"],
        [b"a", "a"],
        [(1, 2), (1, 2), (1, 3)],
        np.asarray(["2024-01-01"], dtype="datetime64[D]"),
        np.asarray([1j, 2j]),
        torch.zeros(3, dtype=torch.bfloat16),
    ],
    ids=str,
)
def test_what_is_no_list_of_labels(labels: object) -> None:
    with pytest.raises(TypeError, match=r"labels must be one list|counts must be a mapping"):
        parfocal.class_weights(labels)


# -- labels of every kind


TEXT = ["yes"] * 10 + ["no"] * 90
CODES = [0] * 900 + [1] * 90 + [2] * 10
TRUTH = [False] * 75 + [True] * 25
SERIES: dict[str, tuple[Any, list[Any]]] = {
    "str": (pd.Series(TEXT), TEXT),
    "object": (pd.Series(TEXT, dtype=object), TEXT),
    "string": (pd.Series(TEXT, dtype="string"), TEXT),
    "string of Arrow": (pd.Series(TEXT, dtype="string[pyarrow]"), TEXT),
    "Categorical": (pd.Series(pd.Categorical(TEXT, categories=["yes", "no", "never"])), TEXT),
    "Categorical of numbers": (pd.Series(pd.Categorical(CODES, categories=[2, 1, 0])), CODES),
    "int64": (pd.Series(CODES), CODES),
    "Int64": (pd.Series(CODES, dtype="Int64"), CODES),
    "int64 of Arrow": (pd.Series(CODES, dtype="int64[pyarrow]"), CODES),
    "numbers as objects": (pd.Series(CODES, dtype=object), CODES),
    "Float64": (pd.Series(CODES, dtype="Float64"), CODES),
    "bool": (pd.Series(TRUTH), TRUTH),
    "boolean": (pd.Series(TRUTH, dtype="boolean"), TRUTH),
    "another index": (pd.Series(CODES, index=[f"row {k}" for k in range(1000)]), CODES),
    "a column called count": (pd.Series(CODES, name="count"), CODES),
    "Index": (pd.Index(TEXT), TEXT),
    "array": (pd.array(TEXT, dtype="category"), TEXT),
    "polars String": (pl.Series(TEXT), TEXT),
    "polars Categorical": (pl.Series(TEXT).cast(pl.Categorical), TEXT),
    "polars Enum": (pl.Series(TEXT).cast(pl.Enum(["yes", "no", "never"])), TEXT),
    "polars Int64": (pl.Series(CODES), CODES),
    "polars UInt8": (pl.Series(CODES, dtype=pl.UInt8), CODES),
    "polars Boolean": (pl.Series(TRUTH), TRUTH),
    "Arrow": (pa.chunked_array([TEXT]), TEXT),
    "Arrow dictionary": (pa.array(TEXT).dictionary_encode(), TEXT),
    "text as objects": (np.asarray(TEXT, dtype=object), TEXT),
    "numbers as NumPy objects": (np.asarray(CODES, dtype=object), CODES),
    "booleans as objects": (np.asarray(TRUTH, dtype=object), TRUTH),
    "strings of NumPy 2": (np.asarray(TEXT, dtype=np.dtypes.StringDType()), TEXT),
    "bytes": (np.asarray(TEXT, dtype=bytes), TEXT),
    "list of NumPy strings": (list(np.asarray(TEXT)), TEXT),
    "tuple": (tuple(CODES), CODES),
    "torch": (torch.tensor(CODES), CODES),
    "torch bool": (torch.tensor(TRUTH), TRUTH),
    "beyond 64 bits": ([10**30 * code for code in CODES], CODES),
}


@pytest.mark.parametrize("kind", SERIES)
@pytest.mark.parametrize("scheme", ["inverse_frequency", "effective_number"])
def test_labels_of_every_kind(kind: str, scheme: str) -> None:
    labels, plain = SERIES[kind]
    expected = parfocal.class_weights(Counter(plain), scheme)
    np.testing.assert_array_equal(parfocal.class_weights(labels, scheme), expected)


MISSING: dict[str, tuple[Any, int]] = {
    "None among text": (["a", None, "b"], 1),
    "NaN among text": (["a", "b", float("nan")], 2),
    "None among numbers": ([None, 1], 0),
    "NaN among numbers": ([0.0, 1.0, float("nan"), float("nan")], 2),
    "pandas str": (pd.Series(["a", None, "b"]), 1),
    "pandas object": (pd.Series(["a", pd.NaT, "b"], dtype=object), 1),
    "pandas string": (pd.Series(["a", "b", pd.NA], dtype="string"), 2),
    "pandas Int64": (pd.Series([0, None, 1], dtype="Int64"), 1),
    "pandas boolean": (pd.Series([True, None], dtype="boolean"), 1),
    "pandas Categorical": (pd.Series(pd.Categorical(["a", None])), 1),
    "pandas float64": (pd.Series([0.0, np.nan, 1.0]), 1),
    "polars String": (pl.Series(["a", None]), 1),
    "polars Int64": (pl.Series([0, 1, None]), 2),
    "polars Boolean": (pl.Series([True, None]), 1),
    "polars Categorical": (pl.Series(["a", None]).cast(pl.Categorical), 1),
    "masked": (np.ma.masked_array([0, 1, 1], mask=[False, True, False]), 1),
    "NumPy objects": (np.asarray([1, 2, None], dtype=object), 2),
}


@pytest.mark.parametrize("kind", MISSING)
def test_a_missing_label_has_a_position(kind: str) -> None:
    labels, position = MISSING[kind]
    with pytest.raises(ValueError, match=f"without missing values.*; position {position} holds"):
        parfocal.class_weights(labels)


def test_how_many_are_missing() -> None:
    with pytest.raises(ValueError, match=r"position 1 holds None \(2 missing labels in all\)"):
        parfocal.class_weights(["a", None, "b", None])


# -- counts of every kind


COUNTS: dict[str, Any] = {
    "value_counts": pd.Series(TEXT).value_counts(),
    "value_counts, unsorted": pd.Series(TEXT).value_counts(sort=False),
    "value_counts, sorted by class": pd.Series(TEXT).value_counts().sort_index(),
    "value_counts of a named column": pd.Series(TEXT, name="label").value_counts(),
    "value_counts of Arrow": pd.Series(TEXT, dtype="string[pyarrow]").value_counts(),
    "value_counts of a table": pd.DataFrame({"label": TEXT}).value_counts(),
    "value_counts as a table": pd.Series(TEXT, name="label").value_counts().reset_index(),
    "size as a table": pd.DataFrame({"label": TEXT}).groupby("label", as_index=False).size(),
    "polars value_counts": pl.Series("label", TEXT).value_counts(),
    "polars value_counts, sorted": pl.Series("label", TEXT).value_counts(sort=True),
    "polars group_by": pl.DataFrame({"label": TEXT}).group_by("label").len(),
    "groupby, as a mapping": pd.Series(TEXT).groupby(TEXT).size().to_dict(),
    "bincount, as a mapping": dict(enumerate(np.bincount([text == "yes" for text in TEXT]))),
    "torch.bincount, as a mapping": dict(
        enumerate(torch.bincount(torch.tensor([text == "yes" for text in TEXT]).int()))
    ),
}


@pytest.mark.parametrize("kind", COUNTS)
@pytest.mark.parametrize("scheme", ["inverse_frequency", "effective_number"])
def test_counts_of_every_kind(kind: str, scheme: str) -> None:
    expected = parfocal.class_weights(TEXT, scheme)
    np.testing.assert_array_equal(parfocal.class_weights(COUNTS[kind], scheme), expected)


def test_counts_of_three_numbers_are_three_classes() -> None:
    for labels in (pd.Series(CODES), pd.Series(CODES, dtype="Int64"), pd.Series(CODES).astype("category")):
        expected = parfocal.class_weights(CODES)
        np.testing.assert_array_equal(parfocal.class_weights(labels.value_counts()), expected)
    unseen = pd.Series(pd.Categorical([2, 2, 1, 1, 1], categories=[0, 1, 2])).value_counts()
    assert parfocal.class_weights(unseen).tolist() == [0, *(5 / (3 * np.asarray([3, 2])))]
    alike = pd.Series([7, 7, 8, 8, 9, 9]).value_counts()
    assert parfocal.class_weights(alike).tolist() == [1, 1, 1]


def test_shares_do_for_the_inverse_frequency() -> None:
    expected = parfocal.class_weights(TEXT)
    for shares in (pd.Series(TEXT).value_counts(normalize=True), pl.Series("y", TEXT).value_counts(normalize=True)):
        np.testing.assert_allclose(parfocal.class_weights(shares), expected, rtol=1e-14)
        with pytest.raises(ValueError, match=r"shares that sum to 1.*inverse_frequency"):
            parfocal.class_weights(shares, "effective_number")


@pytest.mark.parametrize(
    "counts",
    [
        pd.Series(["a", None]).value_counts(dropna=False),
        pl.Series("y", ["a", None]).value_counts(sort=True),
        Counter([None]),
        {float("nan"): 3, 1.0: 2},
    ],
    ids=["pandas", "polars", "Counter", "NaN"],
)
def test_a_missing_class_is_an_error(counts: Any) -> None:
    with pytest.raises(ValueError, match=r"class \d of the counts is missing"):
        parfocal.class_weights(counts)


def test_a_table_is_no_column() -> None:
    for library in (pd, pl):
        with pytest.raises(TypeError, match=r"columns \['y'\]; pass table\[name\]"):
            parfocal.class_weights(library.DataFrame({"y": TEXT}))
        with pytest.raises(TypeError, match=r"dict\(zip\(table\[classes\], table\[counts\]\)\)"):
            parfocal.class_weights(library.DataFrame({"y": TEXT, "count": range(100)}))


# -- numbers that could be either


def long_tail(classes: int, most: int, ratio: float) -> np.ndarray:
    """As CIFAR-LT and ImageNet-LT are made."""
    return (most * ratio ** -(np.arange(classes) / (classes - 1))).astype(int)


RANDOM = np.random.default_rng(0)
BARE_COUNTS: dict[str, Any] = {
    "two": [990, 10],
    "two, the rare one first": [10, 990],
    "three, two alike": [3, 3, 1],
    "three, capped": [500, 500, 20],
    "alike": [50, 50, 50],
    "small": [2, 2, 1],
    "four small": [3, 3, 3, 1],
    "four in pairs": [50, 50, 20, 20],
    "of labels from 1": [0, 990, 10],
    "one": [17],
    "as floats": [990.0, 10.0],
    "shares": [0.99, 0.01],
    "shares, some alike": [0.15] * 5 + [0.05] * 5,
    "CIFAR-10": [5000] * 10,
    "CIFAR-10, in steps": [5000] * 5 + [50] * 5,
    "CIFAR-100, in steps": [500] * 50 + [5] * 50,
    "CIFAR-10-LT": long_tail(10, 5000, 100),
    "CIFAR-100-LT": long_tail(100, 500, 100),
    "ImageNet": np.sort(np.r_[[1300] * 895, RANDOM.integers(732, 1300, 105)]),
    "ImageNet-LT": long_tail(1000, 1280, 256),
    "iNaturalist 2018": np.clip(RANDOM.pareto(1.1, 8142) * 18 + 2, 2, 1000).astype(int),
    "iNaturalist 2021": RANDOM.integers(152, 301, 10_000),
    "birds": [30] * 194 + [29] * 6,
    "folds": [34, 33, 33],
    "torch.bincount": torch.tensor([990, 10]),
    "pandas, by group": pd.Series(TEXT).groupby(TEXT).size(),
    "polars": pl.Series(TEXT).unique_counts(),
}


@pytest.mark.parametrize("kind", BARE_COUNTS)
def test_bare_counts_are_never_labels(kind: str) -> None:
    counts = BARE_COUNTS[kind]
    with pytest.raises(ValueError, match=r"could be counts or labels.*mapping from class to count.*Counter\("):
        parfocal.class_weights(np.asarray(counts) if isinstance(counts, list) else counts)


def test_random_bare_counts_are_never_labels() -> None:
    for classes in range(2, 40):
        for spread in (0.1, 0.5, 2.0):
            counts = np.maximum(1, RANDOM.lognormal(4, spread, classes)).astype(int)
            with pytest.raises(ValueError, match="could be counts or labels"):
                parfocal.class_weights(counts)


def draw(codes: Any, samples: int, tail: float = 0.0) -> np.ndarray:
    """Each code at least once."""
    codes = np.asarray(codes)
    chances = (1.0 + np.arange(len(codes))) ** -tail
    return np.r_[codes, RANDOM.choice(codes, samples - len(codes), p=chances / chances.sum())]


LABELS: dict[str, Any] = {
    "two": draw([0, 1], 10),
    "from 1": draw([1, 2], 10),
    "from 1, rare": draw([1, 2], 1000, 6.0),
    "digits": draw(range(10), 50),
    "signs": [-1, 1],
    "two digits": draw([3, 8], 100),
    "2 and 4": draw([2, 4], 60),
    "a type of glass is missing": draw([1, 2, 3, 5, 6, 7], 214),
    "three rhythms are missing": draw([*range(1, 11), 14, 15, 16], 452, 1.5),
    "marks from 3 to 8": draw(range(3, 9), 1599),
    "ids": draw([101, 205], 2000, 3.0),
    "ids of many": draw([101, 205, 999, 10_412, 77_001], 5000),
    "20 articles": draw(RANDOM.choice(10**8, 20, replace=False), 3000, 1.0),
    "status": draw([200, 404, 500, 503], 1000, 3.0),
    "years": draw(range(2015, 2025), 4000),
    "masks": draw([0, 255], 10_000),
    "half stars": draw(np.arange(1, 11) / 2, 1000),
    "as floats": draw([0.0, 1.0], 40),
    "a sample of 1000 classes": RANDOM.integers(0, 1000, 3000),
    "a long tail of 1000 classes": draw(range(1000), 20_000, 1.0),
    "a subset of 1000 classes": draw(RANDOM.choice(1000, 800, replace=False), 8000),
}


@pytest.mark.parametrize("kind", LABELS)
def test_realistic_labels_are_labels(kind: str) -> None:
    labels = LABELS[kind]
    expected = compute_class_weight("balanced", classes=np.unique(labels), y=np.asarray(labels))
    np.testing.assert_allclose(parfocal.class_weights(labels), expected, rtol=1e-15)


def test_the_error_s_cures_are_cures() -> None:
    for counts in ([990, 10], np.asarray([500, 500, 20])):
        by_class = np.asarray(counts)
        expected = by_class.sum() / len(by_class) / by_class
        np.testing.assert_allclose(parfocal.class_weights(dict(enumerate(counts))), expected)
        assert len(parfocal.class_weights(Counter(list(counts)))) == len(set(by_class.tolist()))
    with pytest.raises(ValueError, match=r"class_weights\(counts.to_dict\(\)\)"):
        parfocal.class_weights(pd.Series(TEXT).groupby(TEXT).size())


def test_a_column_called_count_may_be_either() -> None:
    kept = pd.Series(CODES, name="count")[np.arange(1000) % 3 > 0] + 1  # its index is no longer 0, 1, 2, ...
    with pytest.raises(ValueError, match=r"'count' could be labels or the result of value_counts\(\).*to_numpy\(\)"):
        parfocal.class_weights(kept)
    np.testing.assert_array_equal(parfocal.class_weights(kept.to_numpy()), parfocal.class_weights(kept - 1))


@pytest.mark.parametrize(
    "index",
    [list("abcdef"), [10, 20, 30, 40, 50, 60], [5, 3, 0, 1, 2, 4], pd.date_range("2024-01-01", periods=6)],
    ids=["text", "numbers", "shuffled", "dates"],
)
def test_a_column_called_count_with_an_index_of_its_own(index: Any) -> None:
    """Which was taken for counts of six classes."""
    labels = pd.Series([3, 1, 2, 3, 5, 5], index=index, name="count")
    with pytest.raises(ValueError, match=r"'count' could be labels or the result of value_counts\(\)"):
        parfocal.class_weights(labels)
    assert len(parfocal.class_weights(labels.to_numpy().tolist() * 20)) == 4
    assert len(parfocal.class_weights(labels.to_dict())) == 6
    coded = pd.Series([0, 1, 0, 1, 1, 1], index=index, name="count")
    np.testing.assert_array_equal(parfocal.class_weights(coded), [1.5, 0.75])


def test_counts_in_which_numbers_repeat() -> None:
    tied = pd.Series(["a"] * 3 + ["b"] + ["c"] * 3)
    expected = parfocal.class_weights(tied)
    np.testing.assert_array_equal(parfocal.class_weights(tied.value_counts()), expected)
    shares = tied.value_counts(normalize=True).sort_index()
    np.testing.assert_allclose(parfocal.class_weights(shares), expected, rtol=1e-14)
    by_class = tied.value_counts().sort_index()  # 3, 1, 3: labels may look like this
    with pytest.raises(ValueError, match=r"for counts pass \.to_dict\(\)"):
        parfocal.class_weights(by_class)
    np.testing.assert_array_equal(parfocal.class_weights(by_class.to_dict()), expected)


def test_a_label_of_each_is_no_mistake() -> None:
    assert parfocal.class_weights([0, 1]).tolist() == [1, 1]
    assert parfocal.class_weights([2, 0, 1]).tolist() == [1, 1, 1]


def test_counts_that_floats_cannot_tell_apart() -> None:
    assert parfocal.class_weights({0: 1e20, 1: 1}, "effective_number").tolist() == pytest.approx([0, 2])
    assert np.isfinite(parfocal.class_weights({0: 0.5, 1: 0.25}, "effective_number")).all()
