"""Loss, gradient and curvature against the oracle, at the extremes as well as in the middle."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from mpmath import mp, mpf

import oracle
import parfocal
from cases import GAMMAS, LOGITS, SOFT_LABELS, SOFTMAX_ROWS, TOLERANCE, smallest_normal

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
GAMMA = pytest.mark.parametrize("gamma", GAMMAS)

pytestmark = pytest.mark.usefixtures("two_kernels")


def everything(loss: parfocal.Loss, labels: object, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Loss of each sample, gradient, curvature."""
    value, gradient = loss.value_and_grad(labels, scores)
    curvature = loss.curvature(labels, scores)
    assert value.dtype == gradient.dtype == curvature.dtype == scores.dtype
    assert not np.isnan(value).any()
    assert not np.isnan(gradient).any()
    assert not np.isnan(curvature).any()
    return value, gradient, curvature


def assert_exact(got: Iterable[float], exact: Iterable[mpf], scales: Iterable[mpf], dtype: type, where: object) -> None:
    for name, value, truth, scale in zip(("loss", "gradient", "curvature"), got, exact, scales, strict=True):
        if scale < smallest_normal(dtype):
            assert abs(float(value)) <= 2 * smallest_normal(dtype), (name, where)
            continue
        error = oracle.relative_error(value, truth, scale)
        assert error <= TOLERANCE[dtype], f"{name} at {where}: {value!r}, exact {mp.nstr(truth, 20)}, error {error:.1e}"
        if abs(truth) >= smallest_normal(dtype):
            assert value != 0, (name, where)


@DTYPES
@GAMMA
@pytest.mark.parametrize("label", [0, 1])
def test_binary_hard_labels(gamma: float, label: int, dtype: type) -> None:
    loss = parfocal.BinaryFocalCrossentropy(True, 0.25, gamma, from_logits=True, reduction=None, dtype=dtype)
    weights = (0.75, 0.25)
    x = np.asarray(LOGITS, dtype=dtype)[:, None]
    got = everything(loss, np.full_like(x, label), x)
    for i, logit in enumerate(x[:, 0].tolist()):
        exact = oracle.binary(logit, label, (gamma, gamma), weights)
        with mp.workdps(oracle.digits_for(logit)):
            m = mpf(logit if label else -logit)
            scales = abs(exact[0]), abs(exact[1]), weights[label] * oracle.curvature_scale(m, gamma)
        assert_exact((got[0][i], got[1][i, 0], got[2][i, 0]), exact, scales, dtype, (logit, label, gamma))


@DTYPES
@pytest.mark.parametrize("rule", ["linear", "expected"])
@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0, 10.0])
@pytest.mark.parametrize("label", SOFT_LABELS)
def test_binary_soft_labels(gamma: float, label: float, rule: str, dtype: type) -> None:
    loss = parfocal.BinaryFocalCrossentropy(
        True, 0.25, gamma, from_logits=True, reduction=None, dtype=dtype, soft_labels=rule
    )
    weights = (0.75, 0.25)
    x = np.asarray([v for v in LOGITS if abs(v) < 1e4 and abs(v) > 1e-7], dtype=dtype)[:, None]
    got = everything(loss, np.full(x.shape, label), x)
    for i, logit in enumerate(x[:, 0].tolist()):
        exact = oracle.binary(logit, label, (gamma, gamma), weights, rule)
        with mp.workdps(oracle.digits_for(logit)):
            if rule == "linear":
                slope, curvature = oracle.linear_scale(logit, label, gamma, weights)
            else:
                sides = ((mpf(logit), label * weights[1]), (mpf(-logit), (1 - label) * weights[0]))
                slope = mp.fsum(w * oracle.slope_scale(m, gamma) for m, w in sides)
                curvature = mp.fsum(w * oracle.curvature_scale(m, gamma) for m, w in sides)
        assert_exact(
            (got[0][i], got[1][i, 0], got[2][i, 0]), exact, (exact[0], slope, curvature), dtype, (logit, label, gamma)
        )


@DTYPES
@pytest.mark.parametrize("gammas", [(2.0, 0.0), (0.5, 3.0)])
@pytest.mark.parametrize("label", [0.0, 0.3, 1.0])
def test_a_gamma_pair_is_negatives_then_positives(gammas: tuple[float, float], label: float, dtype: type) -> None:
    loss = parfocal.BinaryFocalCrossentropy(
        gamma=gammas, from_logits=True, reduction=None, dtype=dtype, soft_labels="expected"
    )
    x = np.asarray([-3.0, 0.5, 2.0], dtype=dtype)[:, None]
    got = everything(loss, np.full(x.shape, label), x)
    for i, logit in enumerate(x[:, 0].tolist()):
        exact = oracle.binary(logit, label, gammas, rule="expected")
        assert_exact(
            (got[0][i], got[1][i, 0], got[2][i, 0]), exact, [max(abs(v), mpf(0.1)) for v in exact], dtype, logit
        )


def softmax_cases() -> list[object]:
    return [
        pytest.param(row, gamma, id=f"{name}-{gamma}")
        for name, row in SOFTMAX_ROWS.items()
        for gamma in (0.0, 0.3, 2.0, 10.0)
    ]


def check_row(
    loss: parfocal.Loss, labels: object, row: np.ndarray, weights: list[float], gammas: list[float], dtype: type
) -> None:
    value, gradient, curvature = everything(loss, labels, row[None])
    logits = [float(v) for v in row]
    exact = oracle.categorical(logits, weights, gammas)
    with mp.workdps(oracle.digits_for(*logits)):
        scales = oracle.softmax_scale(logits, weights, gammas)
    for j in range(len(row)):
        assert_exact(
            (value[0], gradient[0, j], curvature[0, j]),
            (exact[0], exact[1][j], exact[2][j]),
            (exact[0], *scales[j]),
            dtype,
            (logits, weights, gammas, j),
        )


@DTYPES
@pytest.mark.parametrize(("row", "gamma"), softmax_cases())
def test_softmax_hard_labels(row: list[float], gamma: float, dtype: type) -> None:
    """Every class in turn, by its index and as a one-hot row."""
    classes = len(row)
    logits = np.asarray(row, dtype=dtype)
    for target in range(classes) if abs(logits).max() < 1e3 else [0]:
        sparse = parfocal.SparseCategoricalFocalCrossentropy(1.0, gamma, True, reduction=None, dtype=dtype)
        weights = [float(k == target) for k in range(classes)]
        check_row(sparse, [target], logits, weights, [gamma] * classes, dtype)
        dense = parfocal.CategoricalFocalCrossentropy(1.0, gamma, True, reduction=None, dtype=dtype)
        for a, b in zip(
            everything(sparse, [target], logits[None]), everything(dense, [weights], logits[None]), strict=True
        ):
            np.testing.assert_array_equal(a, b)


@DTYPES
@pytest.mark.parametrize(("row", "gamma"), softmax_cases())
def test_softmax_soft_labels(row: list[float], gamma: float, dtype: type) -> None:
    classes = len(row)
    labels = [(k + 1) ** 2 / sum((i + 1) ** 2 for i in range(classes)) for k in range(classes)]
    alphas = [0.25 + 0.125 * k for k in range(classes)]
    gammas = [gamma + 0.5 * (k % 2) for k in range(classes)]
    loss = parfocal.CategoricalFocalCrossentropy(alphas, gammas, True, reduction=None, dtype=dtype)
    weights = [a * y for a, y in zip(alphas, labels, strict=True)]
    check_row(loss, [labels], np.asarray(row, dtype=dtype), weights, gammas, dtype)


def test_softmax_with_a_thousand_classes() -> None:
    """The sums over classes keep their digits; the reference uses the three lines at 60 digits."""
    z = np.random.default_rng(0).normal(size=1000) * 8
    loss = parfocal.SparseCategoricalFocalCrossentropy(1.0, 10.0, True, reduction=None, dtype="float64")
    for target in (int(np.argmax(z)), int(np.argmin(z)), 17):
        value, gradient = loss.value_and_grad([target], z[None])
        with mp.workdps(60):
            exact = oracle.softmax_loss([mpf(v) for v in z], np.eye(1000)[target].tolist(), [10.0] * 1000)
            assert oracle.relative_error(value[0], exact) < 1e-14
            assert abs(mp.fsum(mpf(v) for v in gradient[0])) < 1e-14 * abs(gradient[0]).sum()


@pytest.mark.parametrize("rule", ["linear", "expected"])
@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0, 10.0])
def test_binary_probabilities(gamma: float, rule: str) -> None:
    """In the dtype they came in: 1 - p is rounded once, so float64 keeps what 1 - p keeps."""
    loss = parfocal.BinaryFocalCrossentropy(True, 0.25, gamma, reduction=None, dtype="float64", soft_labels=rule)
    probabilities = np.asarray([1e-6, 0.01, 0.3, 0.5, 0.75, 0.999, 1 - 2**-20])[:, None]
    for label in (0.0, 0.3, 1.0):
        got = everything(loss, np.full(probabilities.shape, label), probabilities)
        for i, p in enumerate(probabilities[:, 0].tolist()):

            def exact_loss(t: mpf, label: float = label) -> mpf:
                return oracle.binary_loss_of_probability(t, label, (gamma, gamma), (0.75, 0.25), rule)

            exact = oracle.derivatives(exact_loss, p, 40)
            # 1 - p has lost up to half a unit of 1, which is 1e-16 / (1 - p) of it.
            lost = (1 + gamma) * 2e-16 / min(p, 1 - p)
            for value, truth in zip((got[0][i], got[1][i, 0], got[2][i, 0]), exact, strict=True):
                assert oracle.relative_error(value, truth, max(abs(truth), mpf(1e-3))) < 1e-13 + lost


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_categorical_probabilities(gamma: float) -> None:
    """The gradient includes the division by the sum."""
    loss = parfocal.CategoricalFocalCrossentropy([0.2, 0.3, 0.9], gamma, reduction=None, dtype="float64")
    for scores in ([0.2, 0.5, 0.3], [0.1, 0.1, 0.2], [0.9, 0.05, 0.9]):
        for labels in ([0.0, 1.0, 0.0], [0.2, 0.5, 0.3]):
            value, gradient, curvature = everything(loss, [labels], np.asarray([scores]))
            weights = [a * y for a, y in zip((0.2, 0.3, 0.9), labels, strict=True)]
            for j in range(3):

                def exact_loss(t: mpf, j: int = j, scores: list[float] = scores, w: list[float] = weights) -> mpf:
                    row = [t if i == j else mpf(s) for i, s in enumerate(scores)]
                    return oracle.softmax_loss_of_scores(row, w, [gamma] * 3)

                exact = oracle.derivatives(exact_loss, scores[j], 40)
                for got, truth in zip((value[0], gradient[0, j], curvature[0, j]), exact, strict=True):
                    assert oracle.relative_error(got, truth, max(abs(truth), mpf(0.1))) < 1e-13


@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_a_dominant_probability_keeps_the_digits_of_the_others(gamma: float) -> None:
    """1 - p of the true class is summed from the others, in the gradient and in the curvature."""
    parfocal.config.set_epsilon(1e-14)
    loss = parfocal.CategoricalFocalCrossentropy(1.0, gamma, reduction=None, dtype="float64")
    for scores in ([3e-13, 2e-13, 0.9999], [0.5, 1e-9, 1e-8], [1e-9, 0.0, 0.0, 0.0, 1.0]):
        for target in (0, len(scores) - 1):
            labels = np.eye(len(scores))[[target]]
            p = [mpf(s) / mp.fsum(mpf(x) for x in scores) for s in scores]
            # The formula at the clip, and the normalisation without it.
            clipped = min(max(float(p[target]), 1e-14), 1 - 1e-14)
            f = oracle.derivatives(lambda t: oracle.focal_of_probability(t, gamma), clipped, 40)
            _, gradient, curvature = everything(loss, labels, np.asarray([scores]))
            total = mp.fsum(mpf(x) for x in scores)
            for j in range(len(scores)):
                share = 1 - p[target] if j == target else -p[target]
                slope, bend = f[1] * share / total, (f[2] * share * share - 2 * f[1] * share) / total**2
                scale = (abs(f[2]) * share * share + 2 * abs(f[1] * share)) / total**2
                # q is rounded in float64, which costs what it costs; the share of the others must not add to that.
                lost = (2 + gamma) * 3e-16 / min(clipped, 1 - clipped)
                assert oracle.relative_error(gradient[0, j], slope) < 1e-14 + lost
                assert oracle.relative_error(curvature[0, j], bend, scale) < 1e-14 + lost


@pytest.mark.parametrize("epsilon", [1e-9, 1e-17, 1e-300])
def test_an_epsilon_that_the_dtype_cannot_hold(epsilon: float) -> None:
    """1 - epsilon would be 1, and a perfect prediction NaN."""
    parfocal.config.set_epsilon(epsilon)
    for dtype in ("float32", "float64"):
        binary = parfocal.BinaryFocalCrossentropy(dtype=dtype)
        value, gradient = binary.value_and_grad([[1, 0, 1]], np.asarray([[1.0, 0.0, 0.8]]))
        assert value == pytest.approx(0.04 * -np.log(0.8) / 3, rel=1e-5)
        assert np.isfinite(gradient).all()
        categorical = parfocal.CategoricalFocalCrossentropy(dtype=dtype)
        assert np.isfinite(categorical.value_and_grad([[1, 0]], np.asarray([[1.0, 0.0]]))[1]).all()
        assert categorical.posterior([[1.0, 0.0]])[0, 0] == pytest.approx(1)


@pytest.mark.parametrize("label", [5e-324, 1e-310, 1e-300, 1 - 2**-53])
def test_labels_that_are_nearly_hard(label: float) -> None:
    loss = parfocal.BinaryFocalCrossentropy(gamma=2.0, from_logits=True, reduction=None, dtype="float64")
    x = np.asarray([-1e4, -1000.0, -800.0, -5.0, 0.0, 5.0, 800.0, 1e4])[:, None]
    for a, b in zip(
        everything(loss, np.full(x.shape, label), x), everything(loss, np.full(x.shape, round(label)), x), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_a_clipped_probability_keeps_its_gradient() -> None:
    """The hardest examples must keep learning: the gradient is the formula's at the clip, not zero."""
    binary = parfocal.BinaryFocalCrossentropy(gamma=0, dtype="float64")
    assert binary.value_and_grad([1.0], np.asarray([0.0]))[1][0] == pytest.approx(-1 / 1e-7)
    categorical = parfocal.CategoricalFocalCrossentropy(1.0, 2.0, dtype="float64")
    gradient = categorical.value_and_grad([[1.0, 0.0]], np.asarray([[0.0, 1.0]]))[1]
    assert gradient[0, 0] == pytest.approx(-1 / 1e-7, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_infinite_logits_take_the_limit(gamma: float) -> None:
    loss = parfocal.BinaryFocalCrossentropy(gamma=gamma, from_logits=True, reduction=None, dtype="float64")
    x = np.asarray([[-np.inf], [np.inf]])
    value, gradient = loss.value_and_grad([[1], [1]], x)
    assert value.tolist() == [np.inf, 0]
    assert gradient.tolist() == [[-1], [0]]
    assert loss.curvature([[1], [1]], x).tolist() == [[0], [0]]
    value, gradient = loss.value_and_grad([[0], [0]], x)
    assert value.tolist() == [0, np.inf]
    assert gradient.tolist() == [[0], [1]]
    for rule in ("linear", "expected"):
        soft = parfocal.BinaryFocalCrossentropy(
            gamma=gamma, from_logits=True, reduction=None, dtype="float64", soft_labels=rule
        )
        value, gradient = soft.value_and_grad([[0.25], [0.25]], x)
        assert value.tolist() == [np.inf, np.inf]
        near = 0.25**gamma if rule == "linear" else 1.0, 0.75**gamma if rule == "linear" else 1.0
        assert gradient[:, 0].tolist() == pytest.approx([-0.25 * near[0], 0.75 * near[1]])
        assert not np.isnan(soft.curvature([[0.25], [0.25]], x)).any()


@pytest.mark.parametrize("labels", [[0], [[1.0, 0.0, 0.0]], [[0.5, 0.5, 0.0]]])
def test_a_masked_class_without_weight_contributes_nothing(labels: object) -> None:
    sparse = np.ndim(labels) == 1
    kind = parfocal.SparseCategoricalFocalCrossentropy if sparse else parfocal.CategoricalFocalCrossentropy
    loss = kind(1.0, 2.0, True, reduction=None, dtype="float64")
    masked = loss.value_and_grad(labels, np.asarray([[0.3, -0.2, -np.inf]]))
    without = [row[:2] for row in labels] if not sparse else labels
    smaller = loss.value_and_grad(without, np.asarray([[0.3, -0.2]]))
    np.testing.assert_allclose(masked[0], smaller[0], rtol=1e-15)
    np.testing.assert_allclose(masked[1][:, :2], smaller[1], rtol=1e-15)
    assert masked[1][0, 2] == 0
    assert not np.isnan(loss.curvature(labels, np.asarray([[0.3, -0.2, -np.inf]]))).any()


def test_infinite_softmax_logits_take_the_limit() -> None:
    loss = parfocal.SparseCategoricalFocalCrossentropy(1.0, 2.0, True, reduction=None, dtype="float64")
    value, gradient = loss.value_and_grad([0, 1, 0], np.asarray([[np.inf, 0, 1], [np.inf, 0, 1], [-np.inf, 0, 0]]))
    assert value.tolist() == [0, np.inf, np.inf]
    assert gradient.tolist() == [[0, 0, 0], [1, -1, 0], [-1, 0.5, 0.5]]


def test_nan_stays_in_its_own_sample() -> None:
    x = np.asarray([[0.5, np.nan], [1.0, 2.0]])
    for loss in (
        parfocal.BinaryFocalCrossentropy(from_logits=True, reduction=None),
        parfocal.BinaryFocalCrossentropy(from_logits=True, reduction=None, label_smoothing=0.1),
        parfocal.CategoricalFocalCrossentropy(from_logits=True, reduction=None),
        parfocal.CategoricalFocalCrossentropy(from_logits=True, reduction=None, label_smoothing=0.1),
    ):
        value, gradient = loss.value_and_grad([[0, 1], [0, 1]], x)
        assert np.isnan(value).tolist() == [True, False]
        assert np.isnan(gradient[0, 1])
        assert not np.isnan(gradient[1]).any()
        assert not np.isnan(loss.curvature([[0, 1], [0, 1]], x)[1]).any()


def test_half_precision_is_computed_in_more() -> None:
    """The result is the exact one, rounded once."""
    dtype = np.float16
    x = np.asarray([-9.5, 9.5, 3.25], dtype=dtype)[:, None]
    wide = parfocal.binary_focal_crossentropy([[1], [1], [1]], x.astype(np.float64), from_logits=True)
    narrow = parfocal.binary_focal_crossentropy([[1], [1], [1]], x, from_logits=True)
    assert narrow.dtype == dtype
    np.testing.assert_array_equal(narrow, wide.astype(dtype))
