"""parfocal beside Keras: the numbers its pages print, agreement where Keras computes well, and where we differ.

How far Keras may be off.  It computes p, then 1 - p, which is off by one eps wherever p lies, so that a loss

    l = n^g CE      with n = 1 - p_t, and CE = -(y log p + (1 - y) log(1 - p)), or -log p in the softmax

is off, in units of eps, by about

    l (1 + g / n) + n^g (1 + (1 - y) / (1 - p))        the last fraction in the binary loss only

Logits are drawn within +-8 (8 apart at most in a row) and probabilities within [0.001, 0.999], so that n is at least
sigmoid(-8).  What ours may be off is nothing beside that; test_exact.py looks at it.

On torch, `keras.ops.mean` and every division by a count return float32 even from float64.  So a loss of Keras that
went through one of them has the digits of float32; sums, and gradients, keep those of float64.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ["KERAS_BACKEND"] = "torch"  # read when keras is imported

import keras
import torch

import oracle
import parfocal
from parfocal import (
    BinaryFocalCrossentropy,
    CategoricalFocalCrossentropy,
    SparseCategoricalFocalCrossentropy,
    binary_focal_crossentropy,
    categorical_focal_crossentropy,
    sparse_categorical_focal_crossentropy,
)

assert keras.config.backend() == "torch", "keras was imported before this file, with another backend"

DOCS = Path(__file__).resolve().parent.parent / "docs"
EPS32, EPS64 = float(np.finfo(np.float32).eps), float(np.finfo(np.float64).eps)
SMALLEST_Q = 1 / (1 + np.exp(8.0))
GAMMAS = (0.0, 0.5, 1.0, 2.0, 3.7)
REDUCTIONS = ("sum_over_batch_size", "mean", "sum", None, "none", "mean_with_sample_weight")

# Each line of Keras rounds once; x - max rounds to half an eps of up to 8, and exp makes that 4 eps of p.  The worst
# seen over 8,000 configurations: 1.9 for losses, 3.2 for gradients.
STEPS = 8


def array_of(tensor: Any) -> np.ndarray:
    return tensor.detach().numpy() if isinstance(tensor, torch.Tensor) else np.asarray(tensor)


def keras_value_and_grad(loss: Any, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[Any, np.ndarray]:
    """Keras's loss, and the gradient of its sum by autograd, in y_pred's dtype."""
    scores = torch.tensor(y_pred, requires_grad=True)
    value = loss(torch.tensor(y_true, dtype=scores.dtype), scores, sample_weight=sample_weight)
    value.sum().backward()
    return array_of(value), array_of(scores.grad)


@contextmanager
def keras_floatx(dtype: str) -> Iterator[None]:
    """Keras rounds gamma and alpha to floatx, whatever the dtype of the loss."""
    before = keras.config.floatx()
    keras.config.set_floatx(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx(before)


# -- every number that Keras documents --------------------------------------------------------------------------------

ONE_HOT, PROBABILITIES = [[0, 1, 0], [0, 0, 1]], [[0.05, 0.95, 0], [0.1, 0.8, 0.1]]
FOUR, FOUR_LOGITS = [0, 1, 0, 0], [-18.6, 0.51, 2.94, -12.8]
TWO, TWO_LOGITS = [[0, 1], [0, 0]], [[-18.6, 0.51], [2.94, -12.8]]


def binary(y_true: Any, logits: Any, sample_weight: Any = None, **arguments: Any) -> Any:
    return BinaryFocalCrossentropy(from_logits=True, **arguments)(y_true, logits, sample_weight=sample_weight)


def balanced(y_true: Any, logits: Any, sample_weight: Any = None, **arguments: Any) -> Any:
    return binary(y_true, logits, sample_weight, apply_class_balancing=True, **arguments)


def categorical(sample_weight: Any = None, **arguments: Any) -> Any:
    return CategoricalFocalCrossentropy(**arguments)(ONE_HOT, PROBABILITIES, sample_weight=sample_weight)


# What the pages of Keras for Python and for R print, rounded as they round it.
ROUNDED = [
    (lambda: categorical_focal_crossentropy(ONE_HOT, PROBABILITIES), "3.20583090e-05 4.66273481e-01"),
    (
        lambda: categorical_focal_crossentropy(ONE_HOT, [[0.05, 0.9, 0.05], [0.1, 0.85, 0.05]]),
        "2.63401289e-04 6.75912094e-01",
    ),
    (lambda: categorical([0.3, 0.7]), "0.1632"),
    (lambda: categorical(reduction="sum"), "0.46631"),
    (lambda: binary_focal_crossentropy(TWO, [[0.6, 0.4], [0.4, 0.6]], gamma=2), "0.330 0.206"),
    (lambda: binary_focal_crossentropy(TWO, [[0.6, 0.4], [0.4, 0.6]], gamma=2), "0.32986466 0.20579838"),
    (lambda: binary_focal_crossentropy(TWO, [[0.6, 0.4], [0.4, 0.6]], gamma=0), "0.916 0.714"),
    (lambda: binary(FOUR, FOUR_LOGITS, gamma=2), "0.691"),
    (lambda: balanced(FOUR, FOUR_LOGITS, gamma=2), "0.51"),
    (lambda: binary(TWO, TWO_LOGITS, gamma=3), "0.647"),
    (lambda: balanced(TWO, TWO_LOGITS, gamma=3), "0.482"),
    (lambda: binary(TWO, TWO_LOGITS, [0.8, 0.2], gamma=3), "0.133"),
    (lambda: balanced(TWO, TWO_LOGITS, [0.8, 0.2], gamma=3), "0.097"),
    (lambda: binary(TWO, TWO_LOGITS, gamma=4, reduction="sum"), "1.222"),
    (lambda: balanced(TWO, TWO_LOGITS, gamma=4, reduction="sum"), "0.914"),
    (lambda: binary(TWO, TWO_LOGITS, gamma=5, reduction=None), "0.0017 1.1561"),
]


@pytest.mark.parametrize(("compute", "printed"), ROUNDED, ids=[printed for _, printed in ROUNDED])
def test_documented_number_in_all_printed_digits(compute: Any, printed: str) -> None:
    texts = printed.split()
    values = np.ravel(compute())
    assert len(values) == len(texts)
    for value, text in zip(values, texts, strict=True):
        mantissa, exponent, _ = text.partition("e")
        style = f".{len(mantissa.partition('.')[2])}{'e' if exponent else 'f'}"
        assert format(float(value), style) == text


def test_documented_number_that_keras_cut_off() -> None:
    """The Python page says 0.8670; the R page has the digits behind it, 0.86707699, which round to 0.8671."""
    easy, hard = balanced(TWO, TWO_LOGITS, gamma=5, reduction=None)
    assert f"{easy:.4f}" == "0.0004"
    assert f"{hard:.7f}"[:6] == "0.8670"


# (computed, float32 digits as printed, units of float32 rounding that they may be apart).  The binary losses start
# from logits, where Keras's own 1 - p costs it up to four units, and float32 costs us one.
FLOAT32 = [
    (lambda: categorical(), "0.23315276", 1),
    (lambda: categorical([0.3, 0.7]), "0.16320053", 1),
    (lambda: categorical(reduction="sum"), "0.46630552", 1),
    (lambda: categorical(reduction=None), "3.2058331e-05 4.6627346e-01", 1),
    (lambda: binary(FOUR, FOUR_LOGITS, gamma=2), "0.6912122", 5),
    (lambda: balanced(FOUR, FOUR_LOGITS, gamma=2), "0.5101333", 5),
    (lambda: binary(TWO, TWO_LOGITS, gamma=3), "0.6469951", 5),
    (lambda: balanced(TWO, TWO_LOGITS, gamma=3), "0.48214132", 5),
    (lambda: binary(TWO, TWO_LOGITS, [0.8, 0.2], gamma=3), "0.13312504", 5),
    (lambda: balanced(TWO, TWO_LOGITS, [0.8, 0.2], gamma=3), "0.09735977", 5),
    (lambda: binary(TWO, TWO_LOGITS, gamma=4, reduction="sum"), "1.2218808", 5),
    (lambda: balanced(TWO, TWO_LOGITS, gamma=4, reduction="sum"), "0.9140807", 5),
    (lambda: binary(TWO, TWO_LOGITS, gamma=5, reduction=None)[1], "1.1561027", 5),
    (lambda: balanced(TWO, TWO_LOGITS, gamma=5, reduction=None), "4.3709317e-04 8.6707699e-01", 5),
]


@pytest.mark.parametrize(("compute", "printed", "units"), FLOAT32, ids=[case[1] for case in FLOAT32])
def test_documented_float32_within_its_rounding(compute: Any, printed: str, units: int) -> None:
    values = np.ravel(compute())
    expected = np.array(printed.split(), dtype=np.float32)
    assert values.dtype == np.float32
    assert values.shape == expected.shape
    # Differences of neighbouring float32 are exact in float64.
    assert (np.abs(values.astype(float) - expected) <= units * np.spacing(expected)).all()


# -- agreement: random configurations ---------------------------------------------------------------------------------


@dataclass
class Case:
    """One call.  y_true and y_pred are float64, and exact in float32."""

    arguments: dict[str, Any]
    reduction: str | None
    y_true: np.ndarray
    y_pred: np.ndarray
    sample_weight: Any

    @property
    def is_binary(self) -> bool:
        return "apply_class_balancing" in self.arguments

    def loss(self, library: Any, dtype: str) -> Any:
        """The loss object of either library."""
        build = getattr(library, f"{'Binary' if self.is_binary else 'Categorical'}FocalCrossentropy")
        return build(**self.arguments, reduction=self.reduction, dtype=dtype)


def pick(rng: np.random.Generator, *options: Any) -> Any:
    """One of them; rng.choice would turn a list into an array."""
    return options[rng.integers(len(options))]


def draw_weight(rng: np.random.Generator, losses: tuple[int, ...], reduction: str | None) -> Any:
    """A sample_weight that Keras and we read alike, in eighths, so that float32 holds it."""

    def eighths(*shape: int) -> np.ndarray:
        return rng.integers(1, 17, shape) / 8

    if not losses:  # Keras never divides a loss without axes
        return None if reduction == "mean_with_sample_weight" else pick(rng, None, 0.75)
    options = [None, eighths(*losses)]
    if len(losses) == 1:
        options += [eighths(*losses, 1), eighths(*losses).tolist()]
    if reduction != "mean_with_sample_weight":  # Keras divides by the sum of the weights as they were given
        options.append(0.75)
        options += [eighths(losses[0], 1)] * (len(losses) == 2)
    return pick(rng, *options)


def binary_case(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    from_logits, soft = bool(rng.integers(2)), rng.random() < 0.3
    shape = pick(rng, (4,), (4, 1), (4, 2), (8, 4), (2, 4, 2))  # powers of 2: Keras divides in float32
    scores = rng.uniform(-8, 8, shape) if from_logits else rng.uniform(0.001, 0.999, shape)
    labels = rng.random(shape) if soft else rng.integers(0, 2, shape)
    axis = int(rng.integers(-len(shape), len(shape)))
    if shape == (4, 1) and rng.integers(2):  # labels (N,) with scores (N, 1)
        labels, axis = labels[:, 0], -1
    reduction = pick(rng, *REDUCTIONS)
    arguments = {
        "apply_class_balancing": bool(rng.integers(2)),
        "alpha": pick(rng, 0.0, 0.25, 0.6, 1.0),
        "gamma": pick(rng, *GAMMAS),
        "from_logits": from_logits,
        "label_smoothing": pick(rng, 0.0, 0.0, 0.1, 1.0),
        "axis": axis,
    }
    losses = tuple(np.delete(shape, axis).tolist())
    return Case(arguments, reduction, as_float32(labels), as_float32(scores), draw_weight(rng, losses, reduction))


def categorical_case(seed: int, soft: bool | None = None) -> Case:
    rng = np.random.default_rng(seed)
    from_logits = bool(rng.integers(2))
    soft = rng.random() < 0.3 if soft is None else soft
    shape = pick(rng, (4, 2), (4, 3), (2, 7), (2, 4, 3), (2, 3, 3), (2, 3, 4), (2, 2, 2, 5))
    axis = int(rng.integers(-len(shape) + 1, len(shape)))
    classes = shape[axis]
    others = tuple(np.delete(shape, axis).tolist())
    if from_logits:  # the logits of a row lie within +-8, and within 8 of each other
        scores = rng.uniform(-4, 4, (*others, 1)) + rng.uniform(-4, 4, (*others, classes))
    else:
        scores = rng.uniform(0.001, 0.999, (*others, classes))
    labels = rng.dirichlet(np.ones(classes), others) if soft else np.eye(classes)[rng.integers(0, classes, others)]
    reduction = pick(rng, *REDUCTIONS)
    # Keras reads an alpha list, and the number of classes for label smoothing, off the last axis.
    list_allowed, smoothing_allowed = axis % len(shape) == len(shape) - 1, classes == shape[-1]
    alphas = as_float32(rng.dirichlet(np.ones(classes))).tolist()  # Keras takes a list in float32
    arguments = {
        "alpha": pick(rng, 0.25, 1.0, alphas, alphas) if list_allowed else pick(rng, 0.25, 1.0),
        "gamma": pick(rng, *GAMMAS),
        "from_logits": from_logits,
        "label_smoothing": pick(rng, 0.0, 0.0, 0.1, 1.0) if smoothing_allowed else 0.0,
        "axis": axis,
    }
    y_true, y_pred = (as_float32(np.moveaxis(a, -1, axis)) for a in (labels, scores))
    return Case(arguments, reduction, y_true, y_pred, draw_weight(rng, others, reduction))


def as_float32(values: np.ndarray) -> np.ndarray:
    """Rounded to float32, so that both dtypes get the same numbers; still float64."""
    return np.asarray(values).astype(np.float32).astype(np.float64)


def losses_and_error_of_keras(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Our losses per sample, and the bound at the head of this file in units of eps, for weights of at most 1."""
    gamma, axis, from_logits = (case.arguments[name] for name in ("gamma", "axis", "from_logits"))
    smoothing = case.arguments["label_smoothing"]
    y, s = case.y_true.reshape(case.y_pred.shape), case.y_pred
    if case.is_binary:
        elements = binary_focal_crossentropy(y[..., None], s[..., None], **{**case.arguments, "axis": -1})
        y = y * (1 - smoothing) + smoothing / 2
        p = 1 / (1 + np.exp(-s)) if from_logits else s
        n = y * (1 - p) + (1 - y) * p
        error = elements * (1 + gamma / n) + n**gamma * (1 + (1 - y) / (1 - p))
        return elements.mean(axis), error.mean(axis)
    y, s = np.moveaxis(y, axis, -1), np.moveaxis(s, axis, -1)
    y = y * (1 - smoothing) + smoothing / s.shape[-1]
    p = np.exp(s) if from_logits else s
    q = 1 - p / p.sum(-1, keepdims=True)
    one_by_one = [  # what each class gives to the loss
        categorical_focal_crossentropy(y * is_class, s, case.arguments["alpha"], gamma, from_logits)
        for is_class in np.eye(s.shape[-1])
    ]
    elements = np.stack(one_by_one, axis=-1)
    return elements.sum(-1), (elements * (1 + gamma / q) + y * q**gamma).sum(-1)


def reduced(case: Case, losses: np.ndarray) -> np.ndarray:
    """The reduction, written independently."""
    weights = np.ones(losses.shape)
    if case.sample_weight is not None:
        given = np.asarray(case.sample_weight)
        weights = weights * (given.reshape(losses.shape) if given.size == losses.size else given)
    if case.reduction in (None, "none"):
        return weights * losses
    divisor = {"sum": 1.0, "mean_with_sample_weight": weights.sum()}.get(case.reduction, losses.size)
    return (weights * losses).sum() / divisor


def assert_keras_agrees(ours: Any, keras_value: Any, allowed: Any) -> None:
    ours, theirs = np.asarray(ours, dtype=np.float64), array_of(keras_value).astype(np.float64)
    theirs = theirs.reshape(ours.shape)  # reduction=None with weights (N, 1): Keras returns (N, 1), we (N,)
    assert np.isfinite(ours).all()
    assert (np.abs(ours - theirs) <= allowed).all(), (ours, theirs, np.abs(ours - theirs) / allowed)


def allowed_after_reduction(case: Case, losses: np.ndarray, error: np.ndarray, eps: float) -> np.ndarray:
    sums_only = case.reduction in ("sum", None, "none") and not case.is_binary
    return STEPS * (eps * reduced(case, error) + (eps if sums_only else EPS32) * reduced(case, losses))


def check_values(case: Case, our_function: Any, keras_function: Any) -> None:
    """The function and the class of both libraries, in both dtypes."""
    losses, error = losses_and_error_of_keras(case)
    labels = case.y_true.reshape(case.y_pred.shape)  # the function of Keras knows no (N,) beside (N, 1)
    ours, allowed = {}, {}
    for dtype, eps in (("float32", EPS32), ("float64", EPS64)):
        y_true, y_pred = labels.astype(dtype), case.y_pred.astype(dtype)
        with keras_floatx(dtype):
            theirs = keras_function(torch.tensor(y_true), torch.tensor(y_pred), **case.arguments)
            theirs_reduced = case.loss(keras.losses, dtype)(case.y_true, y_pred, sample_weight=case.sample_weight)
        ours[dtype] = our_function(y_true, y_pred, **case.arguments)
        ours_reduced = case.loss(parfocal, dtype)(case.y_true, y_pred, sample_weight=case.sample_weight)
        assert ours[dtype].dtype == ours_reduced.dtype == dtype
        allowed[dtype] = STEPS * (eps * error + (EPS32 if case.is_binary else eps) * losses)
        assert_keras_agrees(ours[dtype], theirs, allowed[dtype])
        assert_keras_agrees(ours_reduced, theirs_reduced, allowed_after_reduction(case, losses, error, eps))
    if case.arguments["from_logits"]:  # our float32 is within 1e-6 of the true value, so Keras's float64 bounds it too
        assert_keras_agrees(ours["float32"], theirs, allowed["float64"] + 1e-6 * losses)


def check_gradient(case: Case) -> None:
    """value_and_grad against autograd through Keras in float64."""
    loss = case.loss(parfocal, "float64")
    value, ours = loss.value_and_grad(case.y_true, case.y_pred, case.sample_weight)
    assert (value == loss(case.y_true, case.y_pred, case.sample_weight)).all()
    assert_gradient_agrees(case, ours)


def assert_gradient_agrees(case: Case, ours: np.ndarray) -> None:
    """Relative to the largest gradient: Keras's has the relative error (1 + gamma) eps / q, as autograd works with
    q^(gamma - 1); and where it divides by a count or by the sum of the weights, that is float32.
    """
    with keras_floatx("float64"):
        loss = case.loss(keras.losses, "float64")
        _, theirs = keras_value_and_grad(loss, case.y_true, case.y_pred, case.sample_weight)
    assert ours.dtype == np.float64
    assert ours.shape == case.y_pred.shape
    divides = case.reduction not in ("sum", None, "none")
    allowed = STEPS * EPS64 * (1 + case.arguments["gamma"]) / SMALLEST_Q + (2 * EPS32 if divides else 0)
    assert_keras_agrees(ours, theirs, allowed * np.abs(ours).max())


@pytest.mark.parametrize("seed", range(250))
def test_random_binary_loss_agrees(seed: int) -> None:
    case = binary_case(seed)
    check_values(case, binary_focal_crossentropy, keras.losses.binary_focal_crossentropy)
    check_gradient(case)


@pytest.mark.parametrize("seed", range(250))
def test_random_categorical_loss_agrees(seed: int) -> None:
    case = categorical_case(seed)
    check_values(case, categorical_focal_crossentropy, keras.losses.categorical_focal_crossentropy)
    check_gradient(case)


@pytest.mark.parametrize("seed", range(100))
def test_random_sparse_loss_is_keras_categorical_on_one_hot_labels(seed: int) -> None:
    case = categorical_case(seed, soft=False)
    axis = case.arguments["axis"]
    indices = case.y_true.argmax(axis)
    allowed = allowed_after_reduction(case, *losses_and_error_of_keras(case), EPS64)
    for labels in (indices, np.expand_dims(indices, axis), indices[..., None].astype(float)):
        sparse = SparseCategoricalFocalCrossentropy(**case.arguments, reduction=case.reduction, dtype="float64")
        value, gradient = sparse.value_and_grad(labels, case.y_pred, case.sample_weight)
        with keras_floatx("float64"):
            theirs = case.loss(keras.losses, "float64")(case.y_true, case.y_pred, sample_weight=case.sample_weight)
        assert_keras_agrees(value, theirs, allowed)
        assert_gradient_agrees(case, gradient)
        losses = sparse_categorical_focal_crossentropy(labels, case.y_pred, **case.arguments)
        assert (losses == categorical_focal_crossentropy(case.y_true, case.y_pred, **case.arguments)).all()


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("seed", range(20))
def test_ignore_class_has_the_denominators_of_keras(seed: int, reduction: str | None) -> None:
    """Its SparseCategoricalCrossentropy is ours at gamma 0 and alpha 1."""
    rng = np.random.default_rng(seed)
    shape = pick(rng, (4, 3), (8, 2), (2, 4, 3))
    y_pred, ignore = rng.uniform(-4, 4, shape), pick(rng, -1, 255, 1)
    y_true = np.where(rng.random(shape[:-1]) < pick(rng, 0.0, 0.4, 1.0), ignore, rng.integers(0, shape[-1], shape[:-1]))
    weight = pick(rng, None, rng.integers(1, 17, shape[:-1]) / 8)
    theirs = keras.losses.SparseCategoricalCrossentropy(True, ignore, reduction, dtype="float64")
    value, gradient = keras_value_and_grad(theirs, y_true, y_pred, weight)
    ours = SparseCategoricalFocalCrossentropy(1.0, 0.0, True, 0.0, ignore, reduction=reduction, dtype="float64")
    our_value, our_gradient = ours.value_and_grad(y_true, y_pred, weight)
    # log_softmax has no 1 - p, and loses one eps of the largest logit.
    assert_keras_agrees(our_value, value, STEPS * (EPS32 * np.abs(our_value) + EPS64 * 2))
    assert_keras_agrees(our_gradient, gradient, STEPS * EPS32 * np.abs(our_gradient).max())
    assert (our_gradient[y_true == ignore] == 0).all()


@pytest.mark.parametrize("kind", ["Binary", "Categorical"])
@pytest.mark.parametrize("weighted", [False, True])
def test_metrics_are_the_running_mean_of_keras(kind: str, weighted: bool) -> None:
    """Keras has no class for it; its MeanMetricWrapper around its function is what people use."""
    rng = np.random.default_rng(1)
    function = getattr(keras.losses, f"{kind.lower()}_focal_crossentropy")
    theirs = keras.metrics.MeanMetricWrapper(function, gamma=2.0, from_logits=True)
    ours, second = (getattr(parfocal.metrics, f"{kind}FocalCrossentropy")(gamma=2, from_logits=True) for _ in range(2))
    assert ours.result() == array_of(theirs.result()) == 0
    for metric, rows in ((ours, 3), (second, 5), (ours, 8)):
        y_pred = rng.uniform(-2, 2, (rows, 3)).astype(np.float32)
        y_true = np.eye(3, dtype=np.float32)[rng.integers(0, 3, rows)]
        weight = rng.random(rows) if weighted else None
        theirs.update_state(torch.tensor(y_true), torch.tensor(y_pred), sample_weight=weight)
        metric.update_state(y_true, y_pred, sample_weight=weight)
    ours.merge_state([second])
    # (1 + gamma) / q is at most 3 (1 + e^4); Keras adds up in float32.
    allowed = STEPS * EPS32 * 3 * (1 + np.exp(4.0))
    assert float(ours.result()) == pytest.approx(float(theirs.result()), rel=allowed)
    ours.reset_state()
    assert ours.result() == 0


# -- the same names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["losses", "metrics"])
@pytest.mark.parametrize("name", ["binary_focal_crossentropy", "categorical_focal_crossentropy"])
def test_functions_have_the_arguments_of_keras(module: str, name: str) -> None:
    theirs = inspect.signature(getattr(getattr(keras, module), name)).parameters
    ours = inspect.signature(getattr(parfocal if module == "losses" else parfocal.metrics, name)).parameters
    assert names_and_defaults(ours)[: len(theirs)] == names_and_defaults(theirs)


@pytest.mark.parametrize("name", ["BinaryFocalCrossentropy", "CategoricalFocalCrossentropy"])
def test_classes_have_the_arguments_of_keras(name: str) -> None:
    theirs = inspect.signature(getattr(keras.losses, name)).parameters
    ours = inspect.signature(getattr(parfocal, name)).parameters
    assert names_and_defaults(ours)[: len(theirs)] == names_and_defaults(theirs)
    with pytest.raises(TypeError, match="gama"):
        getattr(parfocal, name)(gama=2.0)


def names_and_defaults(parameters: Any) -> list[tuple[str, Any]]:
    return [(parameter.name, parameter.default) for parameter in parameters.values()]


def test_settings_have_the_values_of_keras() -> None:
    assert parfocal.config.floatx() == keras.config.floatx()
    assert parfocal.config.epsilon() == keras.config.epsilon()


def test_a_string_means_the_loss_of_keras() -> None:
    loss = keras.losses.get("BinaryFocalCrossentropy")
    assert isinstance(loss, keras.losses.BinaryFocalCrossentropy)
    assert not isinstance(loss, BinaryFocalCrossentropy)


# -- where Keras fails ------------------------------------------------------------------------------------------------
# The claims of docs/differences.md about Keras: each test shows that the installed one still does it, and that ours is
# right by the oracle.


def keras_logit(loss: Any, x: float, *others: float) -> tuple[float, np.ndarray]:
    """Loss and gradient of float32 logits, the first of which is true."""
    value, gradient = keras_value_and_grad(loss, [[1.0] + [0.0] * len(others)], np.array([[x, *others]], np.float32))
    return float(value), gradient[0]


def our_logit(loss: Any, x: float, *others: float) -> tuple[float, np.ndarray]:
    value, gradient = loss.value_and_grad([[1.0] + [0.0] * len(others)], np.array([[x, *others]], np.float32))
    return float(value), gradient[0]


def assert_exact(got: tuple[float, np.ndarray], x: float, gamma: float, others: tuple[float, ...] = ()) -> None:
    x = float(np.float32(x))
    if others:
        gammas, weights = [gamma] * (1 + len(others)), [1] + [0] * len(others)
        loss, gradient, _ = oracle.categorical([x, *others], weights, gammas)
    else:
        loss, slope, _ = oracle.binary(x, 1, (gamma, gamma))
        gradient = [slope]
    assert oracle.relative_error(got[0], loss) <= 1e-6
    for mine, exact in zip(got[1], gradient, strict=True):
        assert oracle.relative_error(mine, exact) <= 1e-6


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("x", [-16.2, -17.0, -40.0, -89.0])
def test_hard_positives_stop_learning_in_keras_binary(x: float, gamma: float) -> None:
    loss, gradient = keras_logit(keras.losses.BinaryFocalCrossentropy(gamma=gamma, from_logits=True), x)
    assert loss == pytest.approx(-np.log(1e-7), rel=1e-6)
    assert abs(gradient[0]) < 1e-5
    assert_exact(our_logit(BinaryFocalCrossentropy(gamma=gamma, from_logits=True), x), x, gamma)


def test_the_hard_positive_of_the_page_in_keras_binary() -> None:
    loss, gradient = keras_logit(keras.losses.BinaryFocalCrossentropy(gamma=2.0, from_logits=True), -16.2)
    assert f"{loss:.3f}" == "16.118"
    assert f"{gradient[0]:.0e}" == "-3e-06"
    loss, gradient = our_logit(BinaryFocalCrossentropy(gamma=2.0, from_logits=True), -16.2)
    assert (f"{loss:.3f}", f"{gradient[0]:.3f}") == ("16.200", "-1.000")


@pytest.mark.parametrize("gamma", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("x", [16.7, 17.0, 40.0])
def test_easy_positives_give_nan_in_keras_binary(x: float, gamma: float) -> None:
    _, gradient = keras_logit(keras.losses.BinaryFocalCrossentropy(gamma=gamma, from_logits=True), x)
    assert np.isnan(gradient[0])
    assert_exact(our_logit(BinaryFocalCrossentropy(gamma=gamma, from_logits=True), x), x, gamma)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("x", [-16.2, -17.0, -40.0, -89.0])
def test_hard_samples_stop_learning_in_keras_categorical(x: float, gamma: float) -> None:
    _, gradient = keras_logit(keras.losses.CategoricalFocalCrossentropy(1.0, gamma, from_logits=True), x, 0.0, 0.3)
    assert (gradient == 0).all()
    ours = our_logit(CategoricalFocalCrossentropy(1.0, gamma, from_logits=True), x, 0.0, 0.3)
    assert_exact(ours, x, gamma, (0.0, float(np.float32(0.3))))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_easy_samples_have_a_floor_in_keras_categorical(gamma: float) -> None:
    """Both factors are clipped, so the loss never falls below (1e-7)^(1 + gamma), as float32 has it."""
    loss = keras.losses.CategoricalFocalCrossentropy(1.0, gamma, from_logits=True)
    smallest, gradient = keras_logit(loss, 20.0, 0.0, 0.0)
    assert smallest == keras_logit(loss, 80.0, 0.0, 0.0)[0] > 1e-7 ** (1 + gamma)
    assert (gradient == 0).all()
    for x in (20.0, 24.0):
        ours = our_logit(CategoricalFocalCrossentropy(1.0, gamma, from_logits=True), x, 0.0, 0.0)
        assert_exact(ours, x, gamma, (0.0, 0.0))


def test_alpha_is_off_without_class_balancing_in_both() -> None:
    """Not a difference: the flag is part of the arguments that we took over."""
    y_true, y_pred = np.array([[1.0], [0.0]]), np.array([[0.3], [0.2]])
    for library in (keras.losses, parfocal):
        off = [float(library.BinaryFocalCrossentropy(alpha=alpha)(y_true, y_pred)) for alpha in (0.1, 0.9)]
        on = [float(library.BinaryFocalCrossentropy(True, alpha=alpha)(y_true, y_pred)) for alpha in (0.1, 0.9)]
        assert off[0] == off[1]
        assert on[0] != on[1]


THREE_BY_THREE = np.random.default_rng(0).uniform(-2, 2, (2, 3, 3))
CHANNELS_SECOND = np.moveaxis(np.eye(3)[[[0, 1, 1], [2, 1, 0]]], -1, 1)  # classes on axis 1


def test_an_alpha_list_lies_on_the_last_axis_in_keras_categorical() -> None:
    alpha = [0.1, 0.2, 0.7]
    call = {"from_logits": True, "axis": 1}
    theirs = array_of(keras.losses.categorical_focal_crossentropy(CHANNELS_SECOND, THREE_BY_THREE, alpha, **call))
    plain = categorical_focal_crossentropy(CHANNELS_SECOND, THREE_BY_THREE, 1.0, **call)
    np.testing.assert_allclose(theirs, plain * alpha, rtol=1e-6)  # by position, not by class
    ours = categorical_focal_crossentropy(CHANNELS_SECOND, THREE_BY_THREE, alpha, **call)
    for i, j in np.ndindex(2, 3):
        weights = CHANNELS_SECOND[i, :, j] * alpha
        exact = oracle.categorical(THREE_BY_THREE[i, :, j].tolist(), weights.tolist(), [2.0] * 3)[0]
        assert oracle.relative_error(ours[i, j], exact) <= 1e-14
    with pytest.raises(RuntimeError, match="must match"):  # and where the last axis has another length
        keras.losses.categorical_focal_crossentropy(CHANNELS_SECOND[..., :2], THREE_BY_THREE[..., :2], alpha, **call)


def test_keras_has_no_sparse_focal_loss_and_takes_class_indices_for_labels() -> None:
    assert not [name for name in dir(keras.losses) if "parse" in name and "ocal" in name]
    indices, y_pred = np.array([[1], [2], [0]]), np.random.default_rng(0).uniform(-2, 2, (3, 3))
    theirs = array_of(keras.losses.CategoricalFocalCrossentropy(from_logits=True, reduction=None)(indices, y_pred))
    quarters = np.eye(3)[indices[:, 0]] / 4
    exact = [oracle.categorical(z, w, [2.0] * 3)[0] for z, w in zip(y_pred.tolist(), quarters, strict=True)]
    assert theirs[2] == 0  # class 0 is a label of 0 everywhere
    assert oracle.relative_error(theirs[1], exact[1]) > 1
    ours = sparse_categorical_focal_crossentropy(indices, y_pred, from_logits=True)
    assert max(oracle.relative_error(a, b) for a, b in zip(ours, exact, strict=True)) <= 1e-14
    with pytest.raises(ValueError, match="SparseCategoricalFocalCrossentropy"):
        CategoricalFocalCrossentropy(from_logits=True)(indices, y_pred)


def test_keras_has_no_weights_for_single_labels() -> None:
    """Where the shapes are square it even takes them, multiplies each loss with all of them, and says nothing."""
    rng = np.random.default_rng(0)
    theirs = keras.losses.BinaryFocalCrossentropy(from_logits=True, reduction=None)
    ours = BinaryFocalCrossentropy(from_logits=True, reduction=None, dtype="float64")
    for shape in ((2, 3), (2, 2)):
        y_true, y_pred, weight = rng.integers(0, 2, shape), rng.uniform(-3, 3, shape), rng.random(shape)
        if shape == (2, 3):
            with pytest.raises(RuntimeError, match="must match"):
                theirs(y_true, y_pred, sample_weight=weight)
        else:
            assert theirs(y_true, y_pred, sample_weight=weight).shape == (2, 2)
        for row, got in enumerate(ours(y_true, y_pred, sample_weight=weight)):
            terms = zip(y_pred[row].tolist(), y_true[row].tolist(), weight[row].tolist(), strict=True)
            exact = sum(w * oracle.binary(x, y, (2, 2))[0] for x, y, w in terms) / shape[1]
            assert oracle.relative_error(got, exact) <= 1e-14


# -- where we differ on purpose ---------------------------------------------------------------------------------------
# One test for each line of the list in docs/differences.md.


def test_at_a_clipped_probability_the_gradient_is_that_of_the_clip() -> None:
    """Keras differentiates the clip: the log of a hard positive has no slope left, only the focal factor has."""
    y_pred = np.array([[1e-8]], np.float32)
    _, theirs = keras_value_and_grad(keras.losses.BinaryFocalCrossentropy(), [[1.0]], y_pred)
    _, ours = BinaryFocalCrossentropy().value_and_grad([[1.0]], y_pred)
    at_the_clip = float(np.float32(1e-7))
    exact = oracle.derivatives(lambda p: oracle.focal_of_probability(p, 2.0), at_the_clip, 60)[1]
    assert oracle.relative_error(ours[0, 0], exact) <= 1e-6
    assert f"{ours[0, 0]:.3g}" == "-1e+07"
    assert f"{theirs[0, 0]:.3g}" == "-32.2"

    y_true, y_pred = [[1.0, 0.0]], np.array([[1e-8, 1.0]], np.float32)
    _, theirs = keras_value_and_grad(keras.losses.CategoricalFocalCrossentropy(), y_true, y_pred)
    _, ours = CategoricalFocalCrossentropy().value_and_grad(y_true, y_pred)
    assert (theirs == 0).all()
    assert f"{ours[0, 0]:.3g}" == "-2.5e+06"


def test_the_binary_focal_factor_is_clipped_like_the_log() -> None:
    """An easy negative at p = 1e-9: (1e-7)^2 1e-7 against Keras's (1e-9)^2 1e-7."""
    y_true, y_pred = np.array([[0.0]]), np.array([[1e-9]])
    assert binary_focal_crossentropy(y_true, y_pred)[0] == pytest.approx(1e-21, rel=1e-6)
    assert array_of(keras.losses.binary_focal_crossentropy(y_true, y_pred))[0] == pytest.approx(1e-25, rel=1e-6)


def test_a_row_of_probabilities_that_sums_to_zero_is_an_error() -> None:
    y_true, y_pred = np.array([[1.0, 0.0]]), np.array([[0.0, 0.0]])
    assert np.isnan(array_of(keras.losses.categorical_focal_crossentropy(y_true, y_pred)))
    with pytest.raises(ValueError, match="sum"):
        categorical_focal_crossentropy(y_true, y_pred)


def test_label_smoothing_counts_the_classes() -> None:
    """Keras counts the last axis: with 3 classes on axis 1 and 2 positions after it, its labels sum to 1.15."""
    y_true, y_pred = CHANNELS_SECOND[..., :2], THREE_BY_THREE[..., :2]
    call = {"from_logits": True, "axis": 1}
    smoothed = y_true * 0.7 + 0.3 / 3
    ours = categorical_focal_crossentropy(y_true, y_pred, label_smoothing=0.3, **call)
    np.testing.assert_allclose(ours, categorical_focal_crossentropy(smoothed, y_pred, **call), rtol=1e-14)
    theirs = keras.losses.categorical_focal_crossentropy(y_true, y_pred, label_smoothing=0.3, **call)
    by_two = y_true * 0.7 + 0.3 / 2
    assert by_two.sum(1) == pytest.approx(np.full((2, 2), 1.15))
    np.testing.assert_allclose(array_of(theirs), categorical_focal_crossentropy(by_two, y_pred, **call), rtol=1e-12)


def test_two_gammas_are_negatives_and_positives() -> None:
    """Keras broadcasts them along the last axis, whatever the labels are."""
    y_true, y_pred = np.array([[1.0, 1.0]]), np.array([[0.5, 0.5]])
    theirs = keras.losses.BinaryFocalCrossentropy(gamma=[0.0, 2.0], from_logits=True)(y_true, y_pred)
    cross_entropy, focal = (float(oracle.binary(0.5, 1, (gamma, gamma))[0]) for gamma in (0.0, 2.0))
    assert float(theirs) == pytest.approx((cross_entropy + focal) / 2, rel=1e-6)
    assert BinaryFocalCrossentropy(gamma=[0, 2], from_logits=True)(y_true, y_pred) == pytest.approx(focal, rel=1e-6)


VOLUME = np.random.default_rng(1).uniform(-3, 3, (2, 3, 2))  # binary losses of shape (2, 3)


def test_mean_with_sample_weight_divides_by_the_weight_of_every_loss() -> None:
    """Weights (2, 1) for losses (2, 3): Keras divides by the sum of the 2, so the result is 3 means, not one."""
    y_true, weight = (VOLUME > 0) * 1.0, np.array([[1.0], [2.0]])
    arguments = {"from_logits": True, "reduction": "mean_with_sample_weight", "dtype": "float64"}
    ours = BinaryFocalCrossentropy(**arguments)(y_true, VOLUME, sample_weight=weight)
    losses = binary_focal_crossentropy(y_true, VOLUME, from_logits=True)
    assert ours == pytest.approx(np.average(losses, weights=np.broadcast_to(weight, (2, 3))), rel=1e-14)
    theirs = keras.losses.BinaryFocalCrossentropy(**arguments)(y_true, VOLUME, sample_weight=weight)
    assert float(theirs) == pytest.approx(3 * ours, rel=1e-6)


def test_weights_never_slip_to_another_axis() -> None:
    """Weights (2,) for losses (2, 2): Keras weights the columns, or fails where the array is not square."""
    y_true, y_pred, weight = (VOLUME[:, :2] > 0) * 1.0, VOLUME[:, :2], np.array([1.0, 3.0])
    theirs = keras.losses.BinaryFocalCrossentropy(from_logits=True, reduction=None)
    losses = binary_focal_crossentropy(y_true, y_pred, from_logits=True)
    np.testing.assert_allclose(array_of(theirs(y_true, y_pred, sample_weight=weight)), losses * weight, rtol=1e-6)
    ours = BinaryFocalCrossentropy(from_logits=True, reduction=None, dtype="float64")
    with pytest.raises(ValueError, match="weight\\[:, None\\]"):
        ours(y_true, y_pred, sample_weight=weight)
    by_row = ours(y_true, y_pred, sample_weight=weight[:, None])
    np.testing.assert_allclose(by_row, losses * weight[:, None], rtol=1e-14)


def test_one_axis_of_predictions_takes_a_weight_for_each() -> None:
    """The mean over the only axis leaves one loss; Keras multiplies it with every weight in turn."""
    y_true, y_pred, weight = np.array([1.0, 0.0, 1.0]), np.array([0.3, -1.0, 2.0]), np.array([4.0, 1.0, 1.0])
    elements = binary_focal_crossentropy(y_true[:, None], y_pred[:, None], from_logits=True)
    arguments = {"from_logits": True, "dtype": "float64"}
    ours = BinaryFocalCrossentropy(**arguments)(y_true, y_pred, sample_weight=weight)
    assert ours == pytest.approx((elements * weight).mean(), rel=1e-14)
    theirs = keras.losses.BinaryFocalCrossentropy(**arguments)(y_true, y_pred, sample_weight=weight)
    assert float(theirs) == pytest.approx(elements.mean() * weight.mean(), rel=1e-6)


def test_the_losses_have_the_shape_of_the_predictions() -> None:
    """Weights (3, 1) do not change it; labels (3, 1) make three losses of y_pred (3,) in both libraries."""
    y_true, y_pred, weight = np.array([[1.0], [0.0], [1.0]]), np.array([[0.3], [-1.0], [2.0]]), np.ones((3, 1))
    for library, weighted in ((keras.losses, (3, 1)), (parfocal, (3,))):
        loss = library.BinaryFocalCrossentropy(from_logits=True, reduction=None)
        assert tuple(loss(y_true, y_pred, sample_weight=weight).shape) == weighted
        assert tuple(loss(y_true, y_pred[:, 0]).shape) == (3,)


def test_lists_keep_the_digits_of_python() -> None:
    y_true, y_pred = [[0.0, 1.0]], [[0.1, 0.9]]
    exact = float(0.25 * oracle.focal_of_probability(oracle.mpf(0.9), 2.0))
    assert categorical_focal_crossentropy(y_true, y_pred)[0] == pytest.approx(exact, rel=1e-13)
    theirs = keras.losses.categorical_focal_crossentropy(y_true, y_pred)
    assert theirs.dtype == torch.float32
    in_float64 = keras.losses.CategoricalFocalCrossentropy(reduction=None, dtype="float64")(y_true, y_pred)
    assert in_float64.dtype == torch.float64  # in name: the digits are those of float32
    assert 1e-7 < abs(in_float64.item() - exact) / exact < 1e-5


def test_float64_means_float64() -> None:
    """Keras rounds alpha and gamma to floatx; and on torch its means and its reductions are float32."""
    y_true, y_pred = np.array([[0.0, 1.0]]), np.array([[0.1, 0.9]])
    for arguments in ({"alpha": 0.1}, {"gamma": 3.7}, {"reduction": "mean"}):
        call = {"reduction": "sum", "dtype": "float64", **arguments}
        alpha, gamma = arguments.get("alpha", 0.25), arguments.get("gamma", 2.0)
        exact = float(alpha * oracle.focal_of_probability(oracle.mpf(0.9), gamma))
        theirs = float(keras.losses.CategoricalFocalCrossentropy(**call)(y_true, y_pred))
        ours = float(CategoricalFocalCrossentropy(**call)(y_true, y_pred))
        assert ours == pytest.approx(exact, rel=1e-14)
        assert 1e-9 < abs(theirs - exact) / exact < 1e-6


def test_half_precision_is_computed_in_single() -> None:
    """In float16 the clip is gone: 1 - 1e-7 is 1, and Keras divides by 0."""
    logits = np.array([[9.5], [-12.0]], np.float16)
    labels = np.array([[0.0], [1.0]], np.float16)
    arguments = {"from_logits": True, "reduction": None, "dtype": "float16"}
    value, gradient = keras_value_and_grad(keras.losses.BinaryFocalCrossentropy(**arguments), labels, logits)
    assert value[0] == 100  # torch bounds log(0)
    assert not np.isfinite(gradient).any()
    value, gradient = BinaryFocalCrossentropy(**arguments).value_and_grad(labels, logits)
    for i, (x, y) in enumerate(((9.5, 0), (-12.0, 1))):
        exact, slope, _ = oracle.binary(x, y, (2.0, 2.0))
        assert value[i] == np.float16(float(exact))
        assert gradient[i, 0] == np.float16(float(slope))


@pytest.mark.parametrize(
    "arguments",
    [{"gamma": -1.0}, {"gamma": float("nan")}, {"alpha": 2.0}, {"alpha": -0.1}, {"label_smoothing": 2.0}],
    ids=str,
)
def test_parameters_out_of_range_are_an_error(arguments: dict[str, float]) -> None:
    keras.losses.BinaryFocalCrossentropy(True, **arguments)(np.array([[1.0]]), np.array([[0.3]]))
    with pytest.raises(ValueError, match=next(iter(arguments))):
        BinaryFocalCrossentropy(True, **arguments)


def test_labels_and_probabilities_out_of_range_are_an_error() -> None:
    """Keras clips the probabilities, and multiplies by the labels as they are.  (torch looks at binary labels.)"""
    logits = np.array([[1.5], [-0.2]])
    value = array_of(keras.losses.BinaryFocalCrossentropy()(np.array([[1.0], [0.0]]), logits))
    assert np.isfinite(value)
    with pytest.raises(ValueError, match="from_logits=True"):
        BinaryFocalCrossentropy()([[1.0], [0.0]], logits)
    labels, probabilities = np.array([[255.0, 0.0]]), np.array([[0.3, 0.7]])
    assert array_of(keras.losses.CategoricalFocalCrossentropy()(labels, probabilities)) > 30
    with pytest.raises(ValueError, match="255"):
        CategoricalFocalCrossentropy()(labels, probabilities)


def test_shapes_that_only_broadcast_are_an_error() -> None:
    """One row of labels for a batch of three; and a class axis of length 1."""
    labels, logits = np.array([[1.0, 0.0, 0.0]]), np.zeros((3, 3))
    assert keras.losses.categorical_focal_crossentropy(labels, logits, from_logits=True).shape == (3,)
    with pytest.raises(ValueError, match="one shape"):
        categorical_focal_crossentropy(labels, logits, from_logits=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = keras.losses.categorical_focal_crossentropy(np.ones((2, 1)), np.ones((2, 1)), from_logits=True)
    assert caught
    assert (array_of(value) < 1e-20).all()  # sure of everything, and trains on nothing
    with pytest.raises(ValueError, match="2 classes"):
        categorical_focal_crossentropy(np.ones((2, 1)), np.ones((2, 1)), from_logits=True)


def test_an_empty_batch_has_the_loss_zero() -> None:
    y_true = y_pred = np.zeros((0, 2))
    assert keras.losses.BinaryFocalCrossentropy()(y_true, y_pred).shape == (0,)
    assert BinaryFocalCrossentropy()(y_true, y_pred) == 0


def test_infinite_and_missing_logits() -> None:
    y_true, y_pred = np.array([[1.0, 0.0]]), np.array([[np.inf, 0.0]])
    assert np.isnan(array_of(keras.losses.categorical_focal_crossentropy(y_true, y_pred, from_logits=True)))
    assert categorical_focal_crossentropy(y_true, y_pred, from_logits=True) == 0
    # One missing logit ends the whole batch in Keras on torch; ours stays in its sample.
    y_true, y_pred = np.array([[1.0], [1.0]]), np.array([[np.nan], [1.0]])
    with pytest.raises(RuntimeError, match="between 0 and 1"):
        keras.losses.binary_focal_crossentropy(y_true, y_pred, from_logits=True)
    assert np.isnan(binary_focal_crossentropy(y_true, y_pred, from_logits=True)).tolist() == [True, False]


def test_the_config_remembers_the_dtype() -> None:
    for library, remembered in ((keras.losses, "float32"), (parfocal, "float64")):
        for kind in (library.BinaryFocalCrossentropy, library.CategoricalFocalCrossentropy):
            assert kind.from_config(kind(dtype="float64").get_config()).dtype == remembered


@pytest.mark.parametrize("axis", [(0, 1), None])
def test_axis_is_one_axis(axis: Any) -> None:
    y_true, y_pred = np.eye(2), np.full((2, 2), 0.3)
    assert keras.losses.binary_focal_crossentropy(y_true, y_pred, axis=axis).shape == ()
    with pytest.raises(ValueError, match="axis"):
        binary_focal_crossentropy(y_true, y_pred, axis=axis)


def test_a_dtype_is_a_dtype_and_no_policy() -> None:
    policy = keras.DTypePolicy("mixed_float16")
    assert keras.losses.BinaryFocalCrossentropy(dtype=policy).dtype == policy.compute_dtype == "float16"
    with pytest.raises(ValueError, match="mixed_float16"):
        BinaryFocalCrossentropy(dtype=policy)
    assert BinaryFocalCrossentropy(dtype=policy.compute_dtype).dtype == "float16"


# -- the page ---------------------------------------------------------------------------------------------------------


def make_differences() -> Any:
    spec = importlib.util.spec_from_file_location("make_differences", DOCS / "make_differences.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_of_the_page_are_what_a_run_gives() -> None:
    said: list[str] = []
    assert make_differences().main(["--check"], say=said.append) == 0, "\n".join(said)


def test_the_check_of_the_page_can_fail(tmp_path: Path) -> None:
    module = make_differences()
    made, module.PAGE = module.block(), tmp_path / "page.md"
    module.block = lambda: made
    module.PAGE.write_text(f"Before.\n{made.replace('16.12', '16.20')}\nAfter.\n", encoding="utf-8")
    said: list[str] = []
    assert module.main(["--check"], say=said.append) == 1
    assert "16.12" in said[-1]
    assert module.main([]) == 0
    assert module.PAGE.read_text(encoding="utf-8") == f"Before.\n{made}\nAfter.\n"
    assert module.main(["--check"]) == 0
    module.PAGE.write_text("no markers", encoding="utf-8")
    with pytest.raises(SystemExit, match="two lines"):
        module.main(["--check"])


# As the reference pages of keras3 for R have them.
R_NAMES = [f"{kind}_{name}_focal_crossentropy" for kind in ("loss", "metric") for name in ("binary", "categorical")]
R_NAMES += [f"config_{what}()" for what in ("floatx", "set_floatx", "epsilon", "set_epsilon")]
R_NAMES += ["op_array(", "c(", "rbind(", "NULL", "TRUE", "FALSE", "axis = -1L", "..."]


def test_the_page_names_everything_of_keras() -> None:
    text = (DOCS / "differences.md").read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)  # the fences of a block do not mark names
    page = set(re.findall(r"`([^`]+)`", text))
    names = {"keras.config.floatx", "keras.config.set_floatx", "keras.config.epsilon", "keras.config.set_epsilon"}
    for module in ("losses", "metrics"):
        names |= {f"keras.{module}.{name}" for name in dir(getattr(keras, module)) if "ocal" in name}
    for kind in (keras.losses.BinaryFocalCrossentropy, keras.losses.CategoricalFocalCrossentropy):
        names |= set(inspect.signature(kind).parameters) | set(inspect.signature(kind.__call__).parameters) - {"self"}
    for name in names:
        assert any(re.search(rf"(^|\W){re.escape(name)}($|\W)", code) for code in page), name
    for name in R_NAMES:
        assert any(name in code for code in page), name
