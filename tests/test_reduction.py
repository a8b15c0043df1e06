"""Reductions, sample weights, ignored classes, dtypes: from losses to one number, and back to the gradient."""

from __future__ import annotations

import json
import pickle
import sys

import numpy as np
import pytest

import parfocal
from parfocal import metrics

pytestmark = pytest.mark.usefixtures("two_kernels")

Binary, Categorical = parfocal.BinaryFocalCrossentropy, parfocal.CategoricalFocalCrossentropy
Sparse = parfocal.SparseCategoricalFocalCrossentropy

X = np.asarray([[0.3, -1.0, 2.0], [0.1, 0.2, -0.7]])
Y = np.asarray([[1, 0, 0], [0, 1, 1]])
WEIGHTS = {
    "none": None,
    "scalar": 2.0,
    "(N,)": [0.25, 3.0],
    "(N, 1)": [[0.25], [3.0]],
    "per element": [[1.0, 0.0, 2.0], [0.5, 0.25, 4.0]],
    "all zero": [0.0, 0.0],
}


def per_element_weights(weight: object) -> np.ndarray:
    if weight is None:
        return np.ones_like(X)
    weight = np.asarray(weight)
    return np.broadcast_to(weight.reshape(-1, 1) if weight.ndim == 1 else weight, X.shape)


def make(kind: str, **settings: object) -> parfocal.Loss:
    settings = {"from_logits": True, "dtype": "float64", **settings}
    return {"binary": Binary, "categorical": Categorical, "sparse": Sparse}[kind](**settings)


@pytest.mark.parametrize("weight", WEIGHTS.values(), ids=list(WEIGHTS))
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean", "sum", None, "none", "mean_with_sample_weight"])
def test_binary_reductions(reduction: str | None, weight: object) -> None:
    elements = np.asarray([[make("binary")([y], [x]) for y, x in zip(Y[i], X[i], strict=True)] for i in range(2)])
    w = per_element_weights(weight)
    losses = (w * elements).mean(axis=-1)
    divisor = {"sum": 1, "mean_with_sample_weight": w.mean(axis=-1).sum() or 1}.get(reduction or "", 2)
    expected = losses if reduction in (None, "none") else losses.sum() / divisor
    np.testing.assert_allclose(make("binary", reduction=reduction)(Y, X, weight), expected, rtol=1e-14)


def test_mean_over_positives_is_retinanet_s() -> None:
    elements = parfocal.binary_focal_crossentropy(Y[..., None], X[..., None], from_logits=True)
    loss = make("binary", reduction="mean_over_positives")
    assert loss(Y, X) == pytest.approx(elements.sum() / 3)
    assert loss(np.zeros_like(Y), X) == pytest.approx(make("binary", reduction="sum")(np.zeros_like(Y), X) * 3)
    assert loss(Y, X, WEIGHTS["per element"]) == pytest.approx((elements * WEIGHTS["per element"]).sum() / 3)
    with pytest.raises(ValueError, match="mean_over_positives"):
        make("categorical", reduction="mean_over_positives")


REDUCTIONS = ["sum_over_batch_size", "sum", None, "mean_with_sample_weight"]


@pytest.mark.parametrize("weight", ["none", "(N,)", "(N, 1)", "per element"])
@pytest.mark.parametrize("reduction", [*REDUCTIONS, "mean_over_positives"])
@pytest.mark.parametrize("kind", ["binary", "categorical", "sparse"])
def test_gradient_and_curvature_are_those_of_the_reduced_loss(kind: str, reduction: str | None, weight: str) -> None:
    """Fourth-order differences of what the loss itself returns."""
    if kind != "binary" and (weight == "per element" or reduction == "mean_over_positives"):
        return
    loss = make(kind, reduction=reduction)
    labels = [0, 2] if kind == "sparse" else Y / Y.sum(axis=-1, keepdims=True) if kind == "categorical" else Y
    value, gradient = loss.value_and_grad(labels, X, WEIGHTS[weight])
    curvature = loss.curvature(labels, X, WEIGHTS[weight])
    np.testing.assert_array_equal(value, loss(labels, X, WEIGHTS[weight]))
    assert gradient.shape == curvature.shape == X.shape

    def total(i: tuple[int, int], step: float) -> float:
        moved = X.copy()
        moved[i] += step
        return float(np.sum(loss(labels, moved, WEIGHTS[weight])))

    for i in np.ndindex(*X.shape):
        h = 1e-3
        a, b, c, d, e = (total(i, k * h) for k in (-2, -1, 0, 1, 2))
        assert gradient[i] == pytest.approx((a - 8 * b + 8 * d - e) / (12 * h), abs=1e-10)
        assert curvature[i] == pytest.approx((-a + 16 * b - 30 * c + 16 * d - e) / (12 * h * h), abs=1e-7)


def test_one_trailing_axis_never_makes_a_square() -> None:
    x, y = np.linspace(-1, 1, 5), np.asarray([0, 1, 0, 1, 1])
    column = make("binary", reduction=None)
    np.testing.assert_array_equal(column(y, x[:, None]), column(y[:, None], x[:, None]))
    assert column(y, x[:, None]).shape == (5,)
    np.testing.assert_array_equal(column(y[:, None], x), column(y, x[:, None]))
    np.testing.assert_array_equal(column.curvature(y[:, None], x), column.curvature(y, x[:, None])[:, 0])
    assert column.value_and_grad(y[:, None], x)[1].shape == (5,)
    per_positive = make("binary", reduction="mean_over_positives")
    assert per_positive(y[:, None], x) == pytest.approx(per_positive(y, x[:, None]))
    assert per_positive(y, x) == pytest.approx(per_positive(y, x[:, None]))
    assert column(1, 0.3) == column([1], [0.3])
    assert column.value_and_grad(1, 0.3)[1].shape == ()
    weight = np.asarray([0.1, 0.2, 0.3, 0.4, 0.5])
    np.testing.assert_array_equal(column(y, x[:, None], weight[:, None]), column(y, x[:, None], weight))
    sparse = make("sparse", reduction=None)
    np.testing.assert_array_equal(sparse([[0], [2]], X, [[1.0], [2.0]]), sparse([0.0, 2.0], X, [1.0, 2.0]))


def test_ignored_samples_leave_the_mean() -> None:
    z = np.asarray([[0.3, -1.0, 2.0], [np.nan, np.inf, 0.0], [0.1, 0.2, -0.7]])
    for reduction in ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum"):
        loss = make("sparse", ignore_class=255, reduction=reduction)
        kept = make("sparse", reduction=reduction)
        for weight in (None, [0.5, 7.0, 2.0]):
            rest = None if weight is None else [0.5, 2.0]
            assert loss([0, 255, 2], z, weight) == pytest.approx(kept([0, 2], z[[0, 2]], rest))
            gradient = loss.value_and_grad([0, 255, 2], z, weight)[1]
            np.testing.assert_allclose(gradient[[0, 2]], kept.value_and_grad([0, 2], z[[0, 2]], rest)[1])
            assert (gradient[1] == 0).all()
    assert make("sparse", ignore_class=-1)([-1, -1], X) == 0
    assert make("sparse", ignore_class=-1)([0, -1], X, [1.0, np.nan]) == make("sparse")([0], X[:1])
    padded = make("sparse", ignore_class=-1, from_logits=False)
    assert padded([0, -1], [[0.1, 0.1, 0.8], [0.0, 0.0, 9.0]]) == padded([0], [[0.1, 0.1, 0.8]])
    smoothed = make("sparse", ignore_class=-1, label_smoothing=0.1)
    assert smoothed([0, -1], X) == pytest.approx(make("sparse", label_smoothing=0.1)([0], X[:1]))


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
@pytest.mark.parametrize("weight", [None, 1.0])
def test_an_empty_batch_is_0(reduction: str, weight: float | None) -> None:
    empty = np.zeros((0, 3))
    for kind, labels in (("binary", empty), ("categorical", empty), ("sparse", [])):
        loss = make(kind, reduction=reduction)
        value, gradient = loss.value_and_grad(labels, empty, weight)
        assert value == 0
        assert gradient.shape == (0, 3)
        assert loss.curvature(labels, empty).shape == (0, 3)
    assert parfocal.binary_focal_crossentropy(np.zeros((2, 0)), np.zeros((2, 0))).tolist() == [0, 0]
    assert make("binary", reduction="mean_over_positives")(empty, empty) == 0


def test_dtypes() -> None:
    """Functions keep y_pred's dtype; losses have their own, and give the gradient in y_pred's."""
    for dtype in (np.float16, np.float32, np.float64):
        assert parfocal.binary_focal_crossentropy(Y, X.astype(dtype), from_logits=True).dtype == dtype
        assert parfocal.categorical_focal_crossentropy(Y, X.astype(dtype), from_logits=True).dtype == dtype
        value, gradient = Binary(from_logits=True).value_and_grad(Y, X.astype(dtype))
        assert value.dtype == np.float32
        assert gradient.dtype == dtype
    assert parfocal.binary_focal_crossentropy([1, 0], [1, 0]).dtype == np.float64
    assert Binary(dtype="float64").dtype == "float64"
    assert Binary(dtype=np.float16)(Y, np.abs(X) / 3).dtype == np.float16
    parfocal.config.set_floatx("float64")
    assert Binary(from_logits=True)(Y, X).dtype == np.float64
    if "ml_dtypes" in sys.modules:  # another test's framework brought it
        assert str(Binary(dtype="bfloat16", from_logits=True)(Y, X).dtype) == "bfloat16"
    else:
        with pytest.raises(TypeError, match="ml_dtypes"):
            Binary(dtype="bfloat16", from_logits=True)(Y, X)


@pytest.mark.parametrize(
    "loss",
    [
        Binary(True, 0.3, (4.0, 1.0), True, 0.1, -2, "mean_over_positives", "b", "float64", soft_labels="expected"),
        Categorical([0.2, 0.3, 0.5], [0, 1, 2], True, 0.1, 1, "sum", "c", "float16"),
        Sparse(0.5, 3, True, 0.1, -1, 1, None, "s", "float64"),
    ],
    ids=["binary", "categorical", "sparse"],
)
def test_config_goes_through_json(loss: parfocal.Loss) -> None:
    config = json.loads(json.dumps(loss.get_config()))
    again = type(loss).from_config(config)
    assert again.get_config() == loss.get_config()
    assert again.parameters == loss.parameters
    assert (again.reduction, again.name, again.dtype) == (loss.reduction, loss.name, loss.dtype)
    assert repr(eval(repr(again), vars(parfocal))) == repr(loss)
    assert pickle.loads(pickle.dumps(loss)).get_config() == config


def test_epsilon_is_where_probabilities_are_clipped() -> None:
    assert parfocal.config.epsilon() == 1e-7
    parfocal.config.set_epsilon(1e-3)
    assert parfocal.binary_focal_crossentropy([1.0], [0.0], gamma=0) == pytest.approx(-np.log(1e-3))


def test_a_loss_of_one_s_own() -> None:
    class Absolute(parfocal.Loss):
        def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
            return abs(y_true - y_pred).mean(axis=-1)

    assert Absolute()([[0.0, 1.0]], [[1.0, 1.0]]) == 0.5
    assert Absolute(reduction="sum")([[0.0], [1.0]], [[1.0], [3.0]], [1.0, 10.0]) == 21
    assert Absolute.from_config(Absolute(name="a").get_config()).name == "a"


# -- metrics ----------------------------------------------------------------------------------------------------------

METRICS = [
    (metrics.BinaryFocalCrossentropy, Binary, Y),
    (metrics.CategoricalFocalCrossentropy, Categorical, np.asarray([[1.0, 0, 0], [0, 0.5, 0.5]])),
    (metrics.SparseCategoricalFocalCrossentropy, Sparse, np.asarray([0, 2])),
]


@pytest.mark.parametrize(("metric_type", "loss_type", "labels"), METRICS)
@pytest.mark.parametrize("weight", [None, [0.25, 3.0]])
def test_a_metric_over_batches_is_the_loss_over_all(
    metric_type: type, loss_type: type, labels: np.ndarray, weight: list[float] | None
) -> None:
    metric = metric_type(gamma=1.5, from_logits=True, dtype="float64")
    assert metric.result() == 0
    for i in range(2):
        metric.update_state(labels[i : i + 1], X[i : i + 1], None if weight is None else weight[i : i + 1])
    whole = loss_type(gamma=1.5, from_logits=True, dtype="float64", reduction="mean_with_sample_weight")
    assert metric.result() == pytest.approx(whole(labels, X, weight), rel=1e-15)
    other = metric_type(gamma=1.5, from_logits=True, dtype="float64")
    other.update_state(labels, X, weight)
    other.merge_state([metric, metric])
    assert other.result() == pytest.approx(metric.result(), rel=1e-15)
    metric.reset_state()
    assert metric.result() == 0
    assert metric_type.from_config(json.loads(json.dumps(metric.get_config()))).get_config() == metric.get_config()


def test_a_metric_forgets_ignored_samples() -> None:
    metric = metrics.SparseCategoricalFocalCrossentropy(from_logits=True, ignore_class=-1)
    metric.update_state([0, -1], X, [0.5, 9.0])
    assert metric.result() == Sparse(from_logits=True)([0], X[:1])
    with pytest.raises(ValueError, match="only a metric with the same parameters"):
        metric.merge_state([metrics.SparseCategoricalFocalCrossentropy(gamma=1.0)])
    assert metrics.binary_focal_crossentropy is parfocal.binary_focal_crossentropy
    assert metrics.categorical_focal_crossentropy is parfocal.categorical_focal_crossentropy


def test_nothing_warns_where_the_answer_is_right() -> None:
    """pytest turns warnings into errors: too large for the dtype is infinite, and 0 times infinity is 0."""
    assert Binary(from_logits=True)([[1.0]], [[-1e300]]) == np.inf
    assert Binary().value_and_grad([[1]], np.asarray([[0.0]], dtype=np.float16))[1] == -np.inf
    assert parfocal.binary_focal_crossentropy(
        [1], np.asarray([-6e4], dtype=np.float16), from_logits=True
    ) == np.float16(6e4)
    infinite = make("binary")
    assert infinite([[1], [0]], [[-np.inf], [0.0]], [0.0, 1.0]) == infinite([[0]], [[0.0]]) / 2
