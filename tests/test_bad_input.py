"""Every mistake gets one clear error: what was given, what is allowed, how to fix it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars
import pytest
import torch

import parfocal
import parfocal.keras

pytestmark = pytest.mark.usefixtures("two_kernels")

Binary, Categorical = parfocal.BinaryFocalCrossentropy, parfocal.CategoricalFocalCrossentropy
Sparse = parfocal.SparseCategoricalFocalCrossentropy
binary, categorical = parfocal.binary_focal_crossentropy, parfocal.categorical_focal_crossentropy
sparse = parfocal.sparse_categorical_focal_crossentropy
P = np.asarray([[0.2, 0.8], [0.6, 0.4]])
Z = np.asarray([[0.2, 0.8, 1.0], [0.6, 0.4, 2.0]])

AT_CONSTRUCTION: list[tuple[type, dict[str, Any], str]] = [
    (Binary, {"gamma": -0.1}, r"gamma must be a number from 0 .*got -0.1"),
    (Binary, {"gamma": math.nan}, "gamma.*got nan"),
    (Binary, {"gamma": math.inf}, "gamma.*got inf"),
    (Binary, {"gamma": [1, 2, 3]}, r"pair \(negatives, positives\)"),
    (Binary, {"gamma": [1, 2], "label_smoothing": 0.1}, "soft_labels='expected'"),
    (Binary, {"alpha": 1.5}, r"alpha must be one number in \[0, 1\].*got 1.5"),
    (Binary, {"alpha": -0.1}, "alpha.*-0.1"),
    (Binary, {"alpha": math.nan}, "alpha.*nan"),
    (Binary, {"alpha": [0.2, 0.8]}, "alpha must be one number"),
    (Binary, {"label_smoothing": 1.1}, r"label_smoothing must be one number in \[0, 1\]; got 1.1"),
    (Binary, {"label_smoothing": -0.1}, "label_smoothing"),
    (Binary, {"soft_labels": "soft"}, "soft_labels must be one of 'linear', 'expected'; got 'soft'"),
    (Binary, {"axis": 1.5}, "axis must be a whole number; got 1.5"),
    (Binary, {"reduction": "avg"}, "reduction must be one of .*'sum_over_batch_size'.*got 'avg'"),
    (Binary, {"dtype": "int32"}, "dtype must be one of float16, bfloat16, float32, float64; got 'int32'"),
    (Categorical, {"gamma": []}, "gamma is an empty list"),
    (Binary, {"reduction": np.asarray(["mean"])}, "reduction must be one of"),
    (Categorical, {"gamma": [1, -2, 3]}, r"gamma.*got \[1, -2, 3\]"),
    (Categorical, {"alpha": -1}, "alpha must be a number >= 0"),
    (Categorical, {"alpha": [0.5, math.inf]}, "alpha"),
    (Categorical, {"label_smoothing": [0.1]}, "label_smoothing"),
    (Categorical, {"reduction": "mean_over_positives"}, "reduction"),
    (Sparse, {"ignore_class": 0.5}, "ignore_class must be a whole number; got 0.5"),
]


@pytest.mark.parametrize(("loss", "arguments", "message"), AT_CONSTRUCTION)
def test_at_construction(loss: type, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loss(**arguments)


@pytest.mark.parametrize("loss", [Binary, Categorical, Sparse])
def test_wrong_types_at_construction(loss: type) -> None:
    with pytest.raises(TypeError, match="gamma must be a number or a list of numbers"):
        loss(gamma="two")
    with pytest.raises(TypeError, match="unknown"):
        loss(unknown=1)


AT_THE_CALL: list[tuple[Callable[[], Any], type[Exception], str]] = [
    # shapes
    (lambda: binary([1, 0, 1], [0.2, 0.3]), ValueError, r"y_true \(3,\) and y_pred \(2,\)"),
    (lambda: binary([[1, 0]], P), ValueError, r"\(1, 2\).*\(2, 2\)"),
    (lambda: binary(P, P, axis=2), ValueError, "axis 2 is out of range"),
    (lambda: categorical([0, 1], P), ValueError, "sparse_categorical_focal_crossentropy"),
    (lambda: categorical([[0], [1]], P), ValueError, "sparse_categorical_focal_crossentropy"),
    (lambda: categorical([[1, 0, 0]] * 2, P), ValueError, r"\(2, 3\).*\(2, 2\)"),
    (lambda: categorical([[1]], [[0.5]]), ValueError, "at least 2 classes.*binary_focal_crossentropy"),
    (lambda: categorical(1.0, 0.5), ValueError, "axis -1 is out of range"),
    (lambda: sparse([[1, 0], [0, 1]], P), ValueError, "For one-hot labels use categorical_focal_crossentropy"),
    (lambda: sparse([0, 1, 0], P), ValueError, r"y_true of shape \(2,\).*got y_true \(3,\)"),
    (lambda: binary([[1, 0], [1]], P), ValueError, "y_true is not a rectangular array"),
    # parameters that only the arrays can judge
    (lambda: categorical(P > 0.5, P, alpha=[0.1, 0.2, 0.7]), ValueError, "alpha has 3 numbers.*2 classes"),
    (lambda: sparse([0, 1], P, gamma=[1, 2, 3]), ValueError, "gamma has 3 numbers.*2 classes"),
    (lambda: binary([0.5], [0.5], gamma=(1, 2)), ValueError, "soft_labels='expected'"),
    (lambda: binary([0.5], [0.5], gamma=(1, 2), from_logits=True), ValueError, "soft_labels='expected'"),
    # labels
    (
        lambda: binary([0, 1, 2], [0.1, 0.2, 0.3]),
        ValueError,
        r"labels.*\[0, 1\].*2 at position 2. For class indices use sparse_categorical_focal_crossentropy",
    ),
    (lambda: Binary()([0, 2], [0.1, 0.2]), ValueError, "For class indices use SparseCategoricalFocalCrossentropy"),
    (lambda: binary([0.5, 2.5], [0.1, 0.2]), ValueError, r"2.5 at position 1$"),
    (lambda: binary([1, -1], [0.1, 0.2]), ValueError, r"Labels -1 and 1\? Use \(y_true \+ 1\) / 2"),
    (lambda: binary([0, -1], [0.1, 0.2]), ValueError, r"-1 at position 1$"),
    (lambda: binary([0, 1], P), ValueError, r"\(2,\) and y_pred \(2, 2\). For class indices use sparse_categ"),
    (
        lambda: categorical([0, 2], [0.1, 0.9]),
        ValueError,
        r"y_true holds 2 at position 1. y_pred of one dimension is one",
    ),
    (lambda: sparse([0, 1], [0.1, 0.9]), ValueError, r"one sample with C classes; for N samples give y_pred \(N, C\)"),
    (lambda: sparse([1, 2], P), ValueError, "y_true holds 2 at position 1. Labels from 1 to 2[?] Subtract 1"),
    (lambda: sparse([1, 3], P), ValueError, "y_true holds 3 at position 1$"),
    (lambda: binary([0, math.nan], [0.1, 0.2]), ValueError, "nan at position 1"),
    (lambda: binary([[0, -0.5], [3, 0]], P), ValueError, r"-0.5 at position \(0, 1\) \(2 such values in all\)"),
    (lambda: categorical([[0, 1], [0, 2]], P), ValueError, r"2 at position \(1, 1\)"),
    (lambda: sparse([0, 2], P), ValueError, "whole numbers from 0 to 1; y_true holds 2 at position 1$"),
    (lambda: sparse([0, -1], P), ValueError, "-1 at position 1"),
    (lambda: sparse([0.5, 1], P), ValueError, "0.5 at position 0"),
    (lambda: sparse([0, math.nan], P), ValueError, "nan at position 1"),
    (lambda: sparse([255, -1], P, ignore_class=255), ValueError, "or ignore_class=255; y_true holds -1 at position 1"),
    # probabilities
    (lambda: binary([0, 1], [0.5, 1.5]), ValueError, r"\[0, 1\].*1.5 at position 1.*from_logits=True"),
    (lambda: binary([0, 1], [-0.1, 0.5]), ValueError, "-0.1 at position 0"),
    (lambda: categorical([[0, 1]], [[-1.0, 2.0]]), ValueError, r"-1.0 at position \(0, 0\)"),
    (lambda: sparse([0, 1], [[0.5, 0.5], [0.0, 0.0]]), ValueError, "sum, which is 0.0 at position 1"),
    (lambda: sparse(np.zeros(30_000), np.eye(30_000, 3)), ValueError, r"at position 3 \(29997 such"),
    (lambda: Categorical().posterior(np.zeros((2, 3))), ValueError, "sum, which is 0.0"),
    # types
    (lambda: binary([1], [1j]), TypeError, "y_pred must hold real numbers.*complex"),
    (lambda: binary(["yes"], [0.5]), TypeError, "y_true must hold real numbers"),
    (lambda: binary([None], [0.5]), TypeError, "y_true.*object"),
    (lambda: binary([1], np.asarray([0.5], dtype=np.longdouble)), TypeError, "longdouble|float128"),
    (lambda: Binary()([1], [0.5], sample_weight=["a"]), TypeError, "sample_weight must hold real numbers"),
    (lambda: binary([1], np.ma.array([0.5], mask=[True])), TypeError, "y_pred is a masked array.*sample_weight"),
    (lambda: Binary(gamma="23"), TypeError, "gamma must be a number or a list.*'23'"),
    (lambda: Categorical(alpha={0: 1.0, 1: 9.0}), TypeError, "alpha must be a number or a list"),
    (lambda: Binary(gamma=10**400), TypeError, "gamma"),
    (lambda: Binary(from_logits="no"), TypeError, "from_logits must be True or False; got 'no'"),
    (lambda: Binary(apply_class_balancing=0.25), TypeError, "apply_class_balancing must be True or False; got 0.25"),
    # weights
    (lambda: Binary()([[1], [0]], [[0.5], [0.5]], [[1.0], [2.0, 3.0]]), ValueError, "sample_weight is not a rect"),
    (lambda: Binary()([[1], [0]], [[0.5], [0.5]], [1, 2, 3]), ValueError, r"sample_weight of shape \(3,\).*\(2,\)"),
    (lambda: Binary()(P > 0.5, P, np.ones((2, 2, 2))), ValueError, r"\(2, 2, 2\).*\(2,\).*\(2, 2\)"),
    (lambda: Sparse()(np.zeros((2, 3)), np.full((2, 3, 4), 0.25), np.ones(3)), ValueError, r"weight\[:, None\]"),
    (lambda: Categorical()(P > 0.5, P, np.ones((2, 2))), ValueError, r"\(2, 2\).*\(2,\)"),
    # posteriors
    (lambda: Binary(True, 0.0).posterior([0.5]), ValueError, r"weight above 0.*\(1.0, 0.0\)"),
    (lambda: Binary(True, 1.0).posterior([0.5]), ValueError, "weight above 0"),
    (lambda: Binary(label_smoothing=1).posterior([0.5]), ValueError, "label_smoothing=1"),
    (lambda: Binary().posterior([0.5], class_weight=[1, 0]), ValueError, "class_weight"),
    (lambda: Binary().posterior([0.5], class_weight=[1, 2, 3]), ValueError, "each of the 2 classes"),
    (lambda: Binary().posterior([0.5], class_weight={1: 2.0, "yes": 3.0}), ValueError, "from 0 to 1 as keys.*yes"),
    (lambda: Binary().posterior([1.5]), ValueError, "from_logits=True"),
    (lambda: Categorical([0, 1, 1], from_logits=True).posterior(Z), ValueError, "alpha"),
    (lambda: Categorical([1, 1], from_logits=True).posterior(Z), ValueError, "alpha has 2 numbers.*3 classes"),
    (lambda: Categorical(label_smoothing=1, from_logits=True).posterior(Z), ValueError, "label_smoothing=1"),
    (
        lambda: Binary().optimal_logit(0.0),
        ValueError,
        r"strictly between 0 and 1; got 0.0. A class without samples\? .* \+ 0.5\) / .*\(docs/howto/bias.md\)",
    ),
    (lambda: Binary().optimal_logit([3, 2]), ValueError, r"got 3.0 at .*counts\[1\] / counts.sum\(\)"),
    (
        lambda: Categorical().optimal_logit(np.bincount([0, 2, 2])),
        ValueError,
        r"Divide counts by their sum: counts / counts.sum\(\) \(docs/howto/bias.md\)",
    ),
    (lambda: Categorical().optimal_logit([0.4, 0.6, 0]), ValueError, r"0.0 at position 2.*\(counts \+ 0.5\).sum\(\)"),
    (lambda: Binary().optimal_logit(math.nan), ValueError, "strictly between 0 and 1"),
    (lambda: Categorical().optimal_logit([0.5, 0.4]), ValueError, "sum to 1"),
    (lambda: Categorical().optimal_logit(0.5), ValueError, "one list of class shares"),
    (lambda: Categorical(from_logits=True).posterior(np.zeros((2, 1))), ValueError, "at least 2 classes"),
    (
        lambda: Categorical(from_logits=True, axis=5).posterior(Z),
        ValueError,
        "axis 5 is out of range .* needs at least 6",
    ),
    (lambda: Categorical(from_logits=True).posterior(0.5), ValueError, "axis -1 is out of range"),
    (lambda: Binary(label_smoothing=1 - 1e-16).posterior([0.5]), ValueError, "label_smoothing"),
    # settings
    (lambda: parfocal.config.set_floatx(None), ValueError, "None"),
    (lambda: parfocal.config.set_epsilon("small"), ValueError, "epsilon"),
    (lambda: parfocal.config.set_floatx("float8"), ValueError, "dtype must be one of"),
    (lambda: parfocal.config.set_epsilon(0.7), ValueError, "epsilon"),
]


@pytest.mark.parametrize(("call", "error", "message"), AT_THE_CALL)
def test_at_the_call(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_arrays_of_other_libraries_are_named() -> None:
    """Mixing libraries is refused by name; NumPy arrays and lists go with any."""
    tensor, array = torch.tensor([1.0]), jnp.asarray([0.5])
    with pytest.raises(TypeError, match="y_true is a torch array and y_pred a numpy one"):
        binary(tensor, np.asarray([0.5]))
    with pytest.raises(TypeError, match="sample_weight is a torch array"):
        Binary()([1.0], [0.5], tensor)
    with pytest.raises(TypeError, match="y_true is a torch array and y_pred a jax one"):
        binary(tensor, array)
    assert binary([1.0], array) == pytest.approx(float(binary(np.asarray([1.0]), tensor * 0.5)))


@pytest.mark.parametrize("loss", [Binary(), parfocal.keras.BinaryFocalCrossentropy()])
def test_a_traced_prior(loss: Any) -> None:
    with pytest.raises(TypeError, match=r"optimal_logit needs the numbers in prior.* call .* outside of jit"):
        jax.jit(loss.optimal_logit)(0.2)
    with pytest.raises(TypeError, match="prior is traced, and is a constant here; call this outside of jit"):
        jax.jit(lambda prior: loss.posterior(0.5, prior=prior, prior_now=0.2))(0.3)
    assert loss.optimal_logit(jnp.asarray(0.5)) == 0


def test_columns_of_tables_are_numpy_s() -> None:
    labels, scores = polars.Series([1, 0]), polars.Series([0.5, 0.5])
    assert binary(labels, scores) == binary([1, 0], [0.5, 0.5])
