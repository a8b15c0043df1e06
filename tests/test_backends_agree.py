"""Every library's numbers and gradients are NumPy's, to rounding, at the extremes too."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from mpmath import mp

import oracle
import parfocal
from cases import SOFTMAX_ROWS, TOLERANCE, smallest_normal
from kernel_errors import curvature_scale
from libraries import QUICK, Library, all_terms, each, numpys, one, precision

Binary, Categorical = parfocal.BinaryFocalCrossentropy, parfocal.CategoricalFocalCrossentropy
Sparse = parfocal.SparseCategoricalFocalCrossentropy

GAMMAS = (0.0, 0.3, 1 - 1e-10, 1 + 1e-10, 2.0, 4.4, 10.0)

X = [0, 1e-6, -1e-6, 0.4, -1.7, 5.3, -8.3, 17, -17, 36.9, -36.9, 88.9, -88.9, 350.1, -350.1, 1e4, -1e4]
SOFT = [0.05, 0.3, 0.9, 1e-6, 0.5, 1.0, 0.0, 0.999]
Z = np.asarray([row for row in SOFTMAX_ROWS.values() if len(row) == 3] + [[700.4, 0.3, -0.2], [17, -17, 89]])
T = np.arange(len(Z)) % 3
MIXED = np.asarray([[0.2, 0.5, 0.3], [0.05, 0.9, 0.05], [1 / 3, 1 / 3, 1 / 3]])[T]


class Case(NamedTuple):
    loss: type
    settings: dict[str, Any]
    labels: Any
    scores: np.ndarray
    weight: Any = None


def column(values: list[float]) -> np.ndarray:
    """Each value twice, once for each label."""
    return np.tile(values, 2)[:, None]


BOTH_LABELS = np.repeat([0.0, 1.0], len(X))[:, None]
SOFT_LABELS = np.resize(SOFT, 2 * len(X))[:, None]
P = 1 / (1 + np.exp(-np.clip(column(X), -30, 30)))
ROWS_OF_P = np.exp(Z - Z.max(axis=1, keepdims=True)) + 1e-30

# What the agreement of every gamma is tried on ...
EVERY_GAMMA = {
    "binary": Case(Binary, {"apply_class_balancing": True}, BOTH_LABELS, column(X)),
    "binary, soft": Case(Binary, {"apply_class_balancing": True}, SOFT_LABELS, column(X)),
    "sparse": Case(Sparse, {"alpha": 0.5}, T, Z),
    "dense": Case(Categorical, {"alpha": [0.2, 0.5, 3.0]}, MIXED, Z),
}

# ... and what is tried once.
IMAGES = np.random.default_rng(0).normal(size=(2, 3, 4, 2)) * 8
WHERE = np.random.default_rng(1).integers(0, 3, size=(2, 4, 2))
FEATURES = {
    "integer labels": Case(Binary, {"gamma": 1.5}, BOTH_LABELS.astype(np.int64), column(X)),
    "boolean labels": Case(Binary, {"gamma": 1.5}, BOTH_LABELS.astype(bool), column(X)),
    "labels in a list": Case(Binary, {"gamma": 1.5}, BOTH_LABELS.tolist(), column(X)),
    "a balanced pair": Case(Binary, {"apply_class_balancing": True, "gamma": (0.5, 4.4)}, BOTH_LABELS, column(X)),
    "a pair, integer labels": Case(Binary, {"gamma": (0.0, 2.0)}, BOTH_LABELS.astype(int), column(X)),
    "expected": Case(Binary, {"gamma": 2.0, "soft_labels": "expected"}, SOFT_LABELS, column(X)),
    "a pair, expected": Case(Binary, {"gamma": (4.4, 0.3), "soft_labels": "expected"}, SOFT_LABELS, column(X)),
    "smoothed": Case(Binary, {"gamma": 3.0, "label_smoothing": 0.25}, BOTH_LABELS, column(X)),
    "smoothed, expected, integer labels": Case(
        Binary, {"label_smoothing": 0.25, "soft_labels": "expected"}, BOTH_LABELS.astype(int), column(X)
    ),
    "binary, many labels": Case(Binary, {}, BOTH_LABELS.reshape(17, 2), column(X).reshape(17, 2)),
    "binary, axis 0": Case(Binary, {"axis": 0}, BOTH_LABELS.reshape(17, 2), column(X).reshape(17, 2)),
    "scores (N,), labels (N, 1)": Case(Binary, {}, BOTH_LABELS, column(X)[:, 0]),
    "scores (N, 1), labels (N,)": Case(Binary, {}, BOTH_LABELS[:, 0], column(X)),
    "scores (N,)": Case(Binary, {}, BOTH_LABELS[:, 0], column(X)[:, 0]),
    "probabilities": Case(Binary, {"from_logits": False, "gamma": 4.4}, BOTH_LABELS, P),
    "probabilities, expected": Case(Binary, {"from_logits": False, "soft_labels": "expected"}, SOFT_LABELS, P),
    "probabilities, linear": Case(Binary, {"from_logits": False}, SOFT_LABELS, P),
    "one-hot": Case(Categorical, {"alpha": [0.2, 0.5, 3.0]}, np.eye(3)[T], Z),
    "dense, a gamma per class": Case(Categorical, {"gamma": [0.3, 2.0, 4.4]}, MIXED, Z),
    "dense, smoothed": Case(Categorical, {"label_smoothing": 0.2}, np.eye(3)[T], Z),
    "dense, axis 1": Case(Categorical, {"axis": 1}, np.moveaxis(np.eye(3)[WHERE], -1, 1), IMAGES),
    "sparse, lists": Case(Sparse, {"alpha": [0.2, 0.5, 3.0], "gamma": [0.3, 2.0, 4.4]}, T, Z),
    "sparse, ignored": Case(Sparse, {"ignore_class": 2, "alpha": [0.2, 0.5, 3.0]}, T, Z),
    "sparse, smoothed, ignored": Case(Sparse, {"ignore_class": -1, "label_smoothing": 0.1}, np.where(T == 2, -1, T), Z),
    "sparse, axis 1": Case(Sparse, {"axis": 1, "gamma": [0.3, 2.0, 4.4], "ignore_class": 0}, WHERE, IMAGES),
    "sparse, whole floats, (N, 1)": Case(Sparse, {}, T[:, None].astype(float), Z),
    "sparse probabilities": Case(Sparse, {"from_logits": False, "ignore_class": 1}, T, ROWS_OF_P),
    "dense probabilities": Case(Categorical, {"from_logits": False, "gamma": [0.3, 1, 4.4]}, MIXED, ROWS_OF_P),
    "all ignored": Case(Sparse, {"ignore_class": 7, "reduction": "mean"}, np.full(len(Z), 7), Z),
    "one class only": Case(Sparse, {"reduction": "mean"}, np.zeros(len(Z), dtype=int), Z),
    "no rows": Case(Sparse, {"reduction": "mean"}, np.zeros(0, dtype=int), Z[:0]),
    "no elements": Case(Binary, {"reduction": "mean_over_positives"}, np.zeros((0, 3)), np.zeros((0, 3))),
    "nothing to average": Case(Binary, {"reduction": "mean"}, np.zeros((3, 0)), np.zeros((3, 0))),
}

# Finite losses, whose sum is not all of one sample.
SMALL, SMALL_LABELS = np.asarray([[0.3, -1.7], [2.0, 17.0], [-88.9, 5.3]]), np.asarray([[1, 0], [0, 1], [1, 1]])
ROW_WEIGHT, ELEMENT_WEIGHT = np.asarray([0.25, 0.0, 3.0]), np.asarray([[1.0, 0.0], [2.0, 0.5], [0.25, 4.0]])
REDUCED = {
    f"{reduction}, {name}": Case(Binary, {"reduction": reduction}, SMALL_LABELS, SMALL, weight)
    for reduction in ("sum_over_batch_size", "sum", "none", "mean_with_sample_weight", "mean_over_positives")
    for name, weight in {"unweighted": None, "(N, 1)": ROW_WEIGHT[:, None], "elements": ELEMENT_WEIGHT}.items()
} | {
    f"sparse {reduction}": Case(
        Sparse, {"reduction": reduction, "ignore_class": 2}, T, Z / 100, np.linspace(0, 2, len(T))
    )
    for reduction in ("sum_over_batch_size", "sum", None, "mean_with_sample_weight")
}


CASES = (
    {
        f"{name}, gamma {gamma}": case._replace(settings={**case.settings, "gamma": gamma})
        for name, case in EVERY_GAMMA.items()
        for gamma in GAMMAS
    }
    | FEATURES
    | REDUCED
)

# Compiling takes seconds a case, and Inductor half a minute.  The first tier has the first ones of each.
INDUCTOR = ("sparse, lists", "binary, gamma 4.4")
COMPILED = (*INDUCTOR, "dense, a gamma per class", "probabilities, linear")
JITTED = (
    "a balanced pair",
    "mean_with_sample_weight, elements",
    *COMPILED,
    "sparse, smoothed, ignored",
    "binary, soft, gamma 0.3",
    "sparse, axis 1",
)
FIRST = {Library.TORCH_COMPILED: 1, Library.JAX_JITTED: 2, Library.TF_FUNCTION: 0}
SHAPES = ("axis 1", "no rows", "no elements", "nothing to average", "many labels", "(N,)")  # each compiles anew in JAX
SLOW = (Library.JAX, Library.JAX_JITTED, Library.TENSORFLOW, Library.TF_FUNCTION)  # float32 is enough to begin with


def names_of(library: Library, dtype: type) -> tuple[str, ...]:
    """Everything where that is quick."""
    if library is Library.TORCH_INDUCTOR:
        return INDUCTOR if dtype is np.float32 else ()
    if library is Library.TORCH_COMPILED:
        return COMPILED if dtype is np.float32 else ()
    if library in (Library.JAX_JITTED, Library.TF_FUNCTION) or (library is Library.JAX and dtype is np.float64):
        return JITTED
    return tuple(CASES)


def tried() -> Iterator[Any]:
    for library, dtype in itertools.product(Library, (np.float32, np.float64)):
        names = names_of(library, dtype)
        for k, name in enumerate(names):
            later = k >= FIRST.get(library, len(names)) or (library in SLOW and dtype is np.float64)
            later = later or (library is Library.JAX and any(shape in name for shape in SHAPES))
            yield one(library, dtype, CASES[name], id=f"{library.value}-{dtype.__name__}-{name}", full=later)


def terms_of(library: Library, case: Case, dtype: type, scores: np.ndarray) -> list[np.ndarray]:
    settings = {"from_logits": True, "reduction": None, **case.settings}
    loss = case.loss(**settings, dtype=np.dtype(dtype).name)
    arrays = (library.array(array) for array in (case.labels, scores, case.weight))
    labels, scores, weight = arrays
    return all_terms(library, loss, labels, scores, weight)


def assert_agrees(got: np.ndarray, exact: np.ndarray, scale: np.ndarray, dtype: type) -> None:
    """To the promised digits of the scale, and with no NaN and no zero where there is none."""
    assert got.shape == exact.shape
    assert got.dtype == dtype
    assert not np.isnan(got).any()
    exact, tiny = exact.astype(np.float64), smallest_normal(dtype)
    normal = scale >= tiny
    error = np.abs(got - exact)[normal] / scale[normal]
    assert not error.size or error.max() <= TOLERANCE[dtype], (error.max(), got, exact)
    assert (got[np.abs(exact) >= tiny] != 0).all()
    assert (np.abs(got[~normal]) <= 2 * tiny).all()


@pytest.mark.parametrize(("library", "dtype", "case"), list(tried()))
def test_terms(library: Library, dtype: type, case: Case) -> None:
    """The reference is float64 NumPy at the same scores; for probabilities in `dtype`, which 1 - p is rounded in."""
    labels = case.labels
    if isinstance(labels, np.ndarray) and labels.dtype == np.float64:
        labels = labels.astype(dtype)
    case, scores = case._replace(labels=labels), case.scores.astype(dtype)
    logits = case.settings.get("from_logits", True)
    exact = terms_of(Library.NUMPY, case, *(np.float64, scores.astype(np.float64)) if logits else (dtype, scores))
    with precision(dtype), np.errstate(all="ignore"):
        got = terms_of(library, case, dtype, scores)
    loss, gradient, curvature = exact
    size = np.abs(gradient.astype(np.float64)) / (1.0 if logits else scores)
    assert_agrees(got[0], loss, np.abs(loss).astype(np.float64), dtype)
    assert_agrees(got[2], curvature, np.abs(curvature) + size, dtype)  # it changes sign; below, its own scale
    for slope in (got[1], *got[3:]):
        assert_agrees(slope, gradient, np.abs(gradient).astype(np.float64), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@each(QUICK)
def test_curvature_beside_the_sum_of_its_terms(library: Library, dtype: type) -> None:
    x, z = np.asarray(X, dtype=dtype)[:, None], Z.astype(dtype)
    wide = z.astype(np.float64).tolist()
    binary_scale = curvature_scale(x.astype(np.float64), 2.5)
    with mp.workdps(max(oracle.digits_for(*row) for row in wide)):
        rows = [oracle.softmax_scale(row, np.eye(3)[t], [2.5] * 3) for row, t in zip(wide, T, strict=True)]
    for kind, labels, scores, scale in (
        (Binary, np.ones(x.shape, dtype=dtype), x, binary_scale),
        (Sparse, T, z, np.asarray([[float(pair[1]) for pair in row] for row in rows])),
    ):
        loss = kind(alpha=1.0, gamma=2.5, from_logits=True, dtype=dtype, reduction="sum")
        exact = loss.curvature(labels, scores.astype(np.float64))
        given = library.array(labels)
        with precision(dtype), np.errstate(all="ignore"):
            got = library.run(lambda s, loss=loss, y=given: loss.curvature(y, s), library.array(scores))
        assert_agrees(numpys(got), exact, scale, dtype)
