"""The Calibrator beside scikit-learn, SciPy, a linear program and its own definition, and what it says of bad input."""

from __future__ import annotations

import copy
import json
import math
import pickle
import re
import warnings
from typing import Any

import jax
import keras
import numpy as np
import pytest
import torch
from mpmath import mp, mpf
from scipy.optimize import linprog, minimize
from sklearn.linear_model import LogisticRegression

import parfocal
import parfocal.keras
import parfocal.torch
from libraries import Library, dtype_name, numpys, precision
from parfocal import Calibrator
from parfocal.core import calibration

Binary, Dense = parfocal.BinaryFocalCrossentropy, parfocal.CategoricalFocalCrossentropy
Sparse = parfocal.SparseCategoricalFocalCrossentropy

BINARY = Binary(True, 0.25, 2.0, from_logits=True, dtype="float64")
SPARSE = Sparse(1.0, 2.0, from_logits=True, dtype="float64")


def sigmoid(x: Any) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(x)))


def log_softmax(z: np.ndarray) -> np.ndarray:
    return z - np.logaddexp.reduce(z, axis=-1, keepdims=True)


def binary_data(rows: int = 400, a: float = 0.6, b: float = 0.3, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Labels, scores whose posterior logits s make a s + b right, s, and weights."""
    random = np.random.default_rng(seed)
    s = random.normal(-1, 2.5, min(rows, 2000))
    scores = BINARY.optimal_logit(sigmoid(s))
    s, scores = np.resize(s, rows), np.resize(scores, rows)
    labels = random.random(rows) < sigmoid(a * s + b)
    return labels.astype(int), scores, s, random.integers(0, 4, rows).astype(float)


def softmax_data(rows: int = 400, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Labels, scores, their posterior logits s, weights, and the biases that are right with 1/T = 0.6."""
    random = np.random.default_rng(seed)
    scores, b = random.normal(size=(rows, classes)), random.normal(size=classes)
    s = SPARSE.posterior_logit(scores)
    right = log_softmax(0.6 * s + b)
    labels = (right + random.gumbel(size=right.shape)).argmax(axis=-1)
    return labels, scores, s, random.integers(0, 4, rows).astype(float), b - b.mean()


def parameters_of(calibrator: Calibrator) -> np.ndarray:
    return np.array([1 / calibrator.temperature_, *np.atleast_1d(calibrator.bias_)])


# -- the objective, written down once more, naively


def objective(x: np.ndarray, s: np.ndarray, y: np.ndarray, w: np.ndarray, prior_weight: float) -> float:
    """Binary log-odds (N,), or log-probabilities (N, K); labels (N,) or (N, K)."""
    a, b = x[0], x[1:]
    if s.ndim == 1:
        t, penalty = a * s + b[0], b[0] ** 2 / 2
        losses = y * np.logaddexp(0, -t) + (1 - y) * np.logaddexp(0, t)
    else:
        one_hot, penalty = np.eye(s.shape[1])[y] if y.ndim == 1 else y, (b**2).sum()
        losses = -(one_hot * log_softmax(a * s + b)).sum(axis=1)
    return float(w @ losses + prior_weight / 2 * ((a - 1) ** 2 + penalty))


def scipy_minimum(s: np.ndarray, y: np.ndarray, w: np.ndarray, prior_weight: float, bias: bool) -> np.ndarray:
    """With the last bias such that they sum to 0."""
    classes = 1 if s.ndim == 1 else s.shape[1]

    def full(free: np.ndarray) -> np.ndarray:
        if not bias:
            return np.array([free[0], *[0.0] * classes])
        return free if classes == 1 else np.array([*free, -free[1:].sum()])

    start = np.zeros(1 if not bias else max(2, classes))
    start[0] = 1
    for _ in range(3):  # it stops early where differences round
        start = minimize(lambda x: objective(full(x), s, y, w, prior_weight), start, tol=1e-14).x
    return full(start)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("prior_weight", [0.0, 1.0, 20.0])
def test_minimum_of_the_objective(prior_weight: float, bias: bool, weighted: bool) -> None:
    for y, scores, s, w, *_ in (binary_data(), softmax_data()):
        loss = BINARY if s.ndim == 1 else SPARSE
        calibrator = Calibrator(loss, bias, prior_weight).fit(y, scores, w if weighted else None)
        found, w = parameters_of(calibrator), w if weighted else np.ones_like(w)
        theirs = scipy_minimum(s, y, w, prior_weight, bias)
        np.testing.assert_allclose(found, theirs, rtol=1e-5, atol=1e-6)
        least = objective(found, s, y, w, prior_weight)
        assert least <= objective(theirs, s, y, w, prior_weight) * (1 + 1e-14)
        assert least == pytest.approx(objective(theirs, s, y, w, prior_weight), rel=1e-10)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bias", [True, False])
def test_logistic_regression_of_scikit_learn(bias: bool, weighted: bool) -> None:
    y, scores, s, w = binary_data()
    ours = parameters_of(Calibrator(BINARY, bias, prior_weight=0).fit(y, scores, w if weighted else None))
    theirs = LogisticRegression(C=np.inf, fit_intercept=bias, solver="newton-cholesky", tol=1e-12)
    theirs.fit(s[:, None], y, w if weighted else None)
    np.testing.assert_allclose(ours, [theirs.coef_[0, 0], *np.atleast_1d(theirs.intercept_)], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("prior_weight", [0.0, 1.0])
def test_gradient_vanishes_at_50_digits(prior_weight: float) -> None:
    """The gradient by differences of the objective, all in mpmath; relative to the sum of its absolute terms."""
    y, scores, s, w = binary_data(60)
    a, b = parameters_of(Calibrator(BINARY, prior_weight=prior_weight).fit(y, scores, w))

    def value(a: mpf, b: mpf) -> mpf:
        losses = [
            weight * mp.log1p(mp.exp((1 - 2 * int(label)) * (a * score + b)))
            for label, score, weight in zip(y, map(mpf, s.tolist()), map(mpf, w.tolist()), strict=True)
        ]
        return mp.fsum(losses) + prior_weight * ((a - 1) ** 2 + b**2 / 2) / 2

    with mp.workdps(50):
        h, a, b = mpf(10) ** -20, mpf(float(a)), mpf(float(b))
        for step_a, step_b, scale in ((h, 0, w @ np.abs(s)), (0, h, w.sum())):
            slope = (value(a + step_a, b + step_b) - value(a - step_a, b - step_b)) / (2 * h)
            assert abs(slope) < 1e-13 * scale


def test_terms_are_the_objective_and_its_derivatives() -> None:
    random = np.random.default_rng(0)
    for y, _, s, w, *_ in (binary_data(50), softmax_data(50)):
        kind = calibration.Binary if s.ndim == 1 else calibration.Softmax
        x = random.normal(size=2 if s.ndim == 1 else 5)
        problem, h = kind(s, y, w, 3.0), 1e-5
        value, gradient, hessian = problem.terms(x)
        assert value == pytest.approx(objective(x, s, y, w, 3.0), rel=1e-13)
        steps = h * np.eye(len(x))
        slopes = [(problem.terms(x + d).value - problem.terms(x - d).value) / (2 * h) for d in steps]
        np.testing.assert_allclose(gradient, slopes, rtol=1e-6, atol=1e-6)
        bends = [(problem.terms(x + d).gradient - problem.terms(x - d).gradient) / (2 * h) for d in steps]
        sum_to_0 = np.eye(len(x))
        if s.ndim == 2:  # what no step asks for is in the matrix beside the second derivative
            sum_to_0[1:, 1:] -= 1 / s.shape[1]
        np.testing.assert_allclose(sum_to_0 @ hessian @ sum_to_0, sum_to_0 @ bends @ sum_to_0, rtol=1e-6, atol=1e-5)
        at_0 = np.array([0.0, *x[1:]])
        assert problem.slope_at_0(x[1:]) == pytest.approx(problem.terms(at_0).gradient[0])
        assert problem.at_slope_0().terms(at_0).value == pytest.approx(problem.terms(at_0).value)


@pytest.mark.parametrize("prior_weight", [0.0, 1.0])
def test_many_samples_start_from_some(prior_weight: float, monkeypatch: pytest.MonkeyPatch) -> None:
    for y, scores, s, w, *_ in (binary_data(3000), softmax_data(3000)):
        loss = BINARY if s.ndim == 1 else SPARSE
        order = np.argsort(y, kind="stable")  # the labels may well be sorted
        once = Calibrator(loss, prior_weight=prior_weight).fit(y, scores, w)
        with monkeypatch.context() as patch:
            patch.setattr(calibration, "SAMPLE", 100)
            again = Calibrator(loss, prior_weight=prior_weight).fit(y[order], scores[order], w[order])
        np.testing.assert_allclose(parameters_of(again), parameters_of(once), rtol=1e-11, atol=1e-12)


# -- what it is for


def test_known_temperature_and_bias_come_back() -> None:
    y, scores, _, _ = binary_data(200_000, a=0.5, b=-0.7)
    calibrator = Calibrator(BINARY).fit(y, scores)
    assert calibrator.temperature_ == pytest.approx(2, abs=0.04)
    assert calibrator.bias_ == pytest.approx(-0.7, abs=0.03)
    again = Calibrator(Binary(gamma=0, from_logits=True)).fit(y, calibrator.posterior_logit(scores))
    np.testing.assert_allclose(parameters_of(again), [1, 0], atol=1e-4)  # these samples ask for nothing more
    y, scores, _, _, b = softmax_data(50_000)
    calibrator = Calibrator(SPARSE).fit(y, scores)
    assert calibrator.temperature_ == pytest.approx(1 / 0.6, abs=0.04)
    np.testing.assert_allclose(calibrator.bias_, b, atol=0.06)
    assert calibrator.bias_.sum() == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize(
    "loss",
    [
        BINARY,
        Binary(gamma=2.0),
        Binary(gamma=(4.0, 1.0), from_logits=True),
        Binary(gamma=parfocal.FLSD53, from_logits=True),
        Binary(gamma=1.0, from_logits=True, label_smoothing=0.05),
    ],
    ids=["alpha", "probabilities", "pair", "schedule", "smoothing"],
)
def test_calibrated_scores_stay(loss: parfocal.Loss) -> None:
    """Scores of a model that is right need no temperature and no bias, whatever the loss did to them."""
    random = np.random.default_rng(0)
    s = random.normal(-1, 1, 100_000)
    scores = Binary(**{**loss.get_config(), "from_logits": True}).optimal_logit(sigmoid(s[:2000]))
    scores, s = np.tile(scores, 50), np.tile(s[:2000], 50)
    scores = scores if loss.parameters.from_logits else sigmoid(scores)
    calibrator = Calibrator(loss).fit(random.random(len(s)) < sigmoid(s), scores)
    assert calibrator.temperature_ == pytest.approx(1, abs=0.03)
    assert calibrator.bias_ == pytest.approx(0, abs=0.03)


def test_held_out_log_loss_and_mean_get_better() -> None:
    y, scores, _, _ = binary_data(5000, a=0.4, b=0.8)
    new, new_scores, _, _ = binary_data(5000, a=0.4, b=0.8, seed=1)
    calibrator = Calibrator(BINARY).fit(y, scores)

    def log_loss(p: np.ndarray) -> float:
        return float(-np.log(np.where(new, p, 1 - p)).mean())

    assert log_loss(calibrator.posterior(new_scores)) < 0.9 * log_loss(BINARY.posterior(new_scores))
    no_prior = Calibrator(BINARY, prior_weight=0).fit(y, scores)
    assert no_prior.posterior(scores).mean() == pytest.approx(y.mean(), rel=1e-12)  # dF/db = 0 says so


def test_class_weights_and_alpha_are_undone() -> None:
    """The same model behind weights: the same calibrated probabilities."""
    y, scores, s, _ = binary_data()
    plain = Binary(gamma=2.0, from_logits=True, dtype="float64")
    for weight in ([1.0, 5.0], {1: 5.0}):
        shifted = plain.optimal_logit(sigmoid(s), class_weight=weight)
        calibrator = Calibrator(plain, class_weight=weight).fit(y, shifted)
        exact = Calibrator(BINARY).fit(y, scores)
        np.testing.assert_allclose(parameters_of(calibrator), parameters_of(exact), rtol=1e-8)
        np.testing.assert_allclose(calibrator.posterior(shifted), exact.posterior(scores), rtol=1e-8)


def test_two_classes_of_a_softmax_are_the_binary_one() -> None:
    y, scores, _, w = binary_data()
    binary = Binary(gamma=2.0, from_logits=True, dtype="float64")
    two = np.stack([np.zeros_like(scores), scores], axis=1)
    for prior_weight in (0.0, 1.0, 100.0):
        one = Calibrator(binary, prior_weight=prior_weight).fit(y, scores, w)
        both = Calibrator(SPARSE, prior_weight=prior_weight).fit(y, two, w)
        assert both.temperature_ == pytest.approx(one.temperature_, rel=1e-11)
        assert np.diff(both.bias_)[0] == pytest.approx(one.bias_, rel=1e-10)
        np.testing.assert_allclose(both.posterior(two)[:, 1], one.posterior(scores), rtol=1e-11)


# -- the edges


def test_backwards_is_temperature_infinity_and_a_warning() -> None:
    for y, scores, s, w, *_ in (binary_data(), softmax_data()):
        loss = BINARY if s.ndim == 1 else SPARSE
        for prior_weight in (0.0, 1.0):
            calibrator = Calibrator(loss, prior_weight=prior_weight)
            with pytest.warns(UserWarning, match="ranks the classes of y_true backwards"):
                calibrator.fit(y, -scores, w)
            assert calibrator.temperature_ == math.inf
            said = calibrator.posterior(-scores)
            assert (said == said[0]).all()
            kind = calibration.Binary if s.ndim == 1 else calibration.Softmax
            back = loss.posterior_logit(-scores)
            problem = kind(back, y, w, prior_weight)
            gradient = problem.terms(np.array([0.0, *np.atleast_1d(calibrator.bias_)])).gradient
            assert gradient[0] > 0  # the conditions of Karush, Kuhn and Tucker
            np.testing.assert_allclose(gradient[1:], 0, atol=1e-9)
            if not prior_weight:
                shares = np.bincount(y, weights=w) / w.sum()
                np.testing.assert_allclose(said[0], shares[1] if s.ndim == 1 else shares, rtol=1e-12)
    again = Calibrator.from_config(json.loads(json.dumps(calibrator.get_config(), allow_nan=False)))
    assert again.temperature_ == math.inf


def test_separated_classes() -> None:
    scores = np.array([-4.0, -3.0, -2.0, 1.0, 2.0])
    labels = np.array([0, 0, 0, 1, 1])
    calibrator = Calibrator(BINARY).fit(labels, scores)
    assert 0 < calibrator.temperature_ < 1.5
    assert np.isfinite(calibrator.bias_)
    for y, s in ((labels, scores), (labels, np.zeros(5)), ([0, 0, 1, 1, 1], [-1.0, 0, 0, 0, 2])):
        with pytest.raises(ValueError, match=r"without a mistake, or are all the same.*prior_weight above 0"):
            Calibrator(BINARY, prior_weight=0).fit(y, s)
    rows = np.array([[2.0, 0, 0], [0, 2, 0], [0, 0, 2], [3, 0, 0]])
    assert Calibrator(SPARSE).fit([0, 1, 2, 1], rows).temperature_ > 0
    assert np.isfinite(Calibrator(SPARSE).fit([0, 1, 2, 0], rows).bias_).all()
    with pytest.raises(ValueError, match="without a mistake"):
        Calibrator(SPARSE, prior_weight=0).fit([0, 1, 2, 0], rows)
    # A temperature alone cannot separate what a bias can.
    with pytest.raises(ValueError, match="without a mistake"):
        Calibrator(Binary(gamma=0, from_logits=True), prior_weight=0).fit([0, 0, 1], [0.5, 1.0, 2.0])
    Calibrator(Binary(gamma=0, from_logits=True), bias=False, prior_weight=0).fit([0, 0, 1], [0.5, 1.0, 2.0])


def test_a_prior_too_weak_for_separated_classes_is_an_error() -> None:
    """Where Newton's method drowns in rounding or takes forever; never another error, and never a wrong answer."""
    plain, random = Binary(gamma=0, from_logits=True), np.random.default_rng(0)
    s, rows = random.normal(size=100), random.normal(size=(100, 5))
    too_weak = r"without a mistake.*prior_weight=.* is too weak beside these samples; a larger one"
    refused = 0
    for loss, scores, label in ((plain, s, s > 0), (SPARSE, rows, rows.argmax(axis=1))):
        for exponent in (-6, -10, -12, -14, -20, -50, -300):
            for bias in (True, False):
                for prior_weight, weight in ((10.0**exponent, None), (1.0, np.full(100, 10.0**-exponent))):
                    calibrator, problem = Calibrator(loss, bias, prior_weight), ""
                    try:
                        calibrator.fit(label, scores, weight)
                    except ValueError as error:
                        problem = str(error)
                    if problem:
                        assert exponent < -6
                        assert re.search(too_weak, problem)
                        refused += 1
                    else:
                        assert calibrator.temperature_ < 0.02
    assert refused > 20
    with pytest.raises(ValueError, match=r"no label of class 1.*prior_weight=1e-300 is too weak"):
        Calibrator(plain, prior_weight=1e-300).fit(np.zeros(100), s)
    with pytest.raises(ValueError, match=r"all the same.*prior_weight=1e-300 is too weak"):
        Calibrator(SPARSE, prior_weight=1e-300).fit(rows.argmax(axis=1), np.zeros((100, 5)))
    mixed = (rows + random.gumbel(size=rows.shape)).argmax(axis=1)  # which need no prior
    weak = Calibrator(SPARSE, prior_weight=1e-300).fit(mixed, rows)
    np.testing.assert_array_equal(
        parameters_of(weak), parameters_of(Calibrator(SPARSE, prior_weight=0).fit(mixed, rows))
    )


def test_separable_is_what_a_linear_program_says() -> None:
    """Is there a direction (da, db), da > 0, along which no label's lead over another class falls?"""
    random, seen = np.random.default_rng(0), {True: 0, False: 0}
    for _ in range(80):
        rows, classes = random.integers(3, 9), 3
        s = random.integers(-4, 5, size=(rows, classes)).astype(float)
        y = np.r_[np.arange(3), random.integers(0, 3, size=rows)][:rows]
        sure = random.random(rows) < 0.7
        y[sure] = s[sure].argmax(axis=1)
        for bias in (True, False):
            falls = []
            for i in range(rows):
                for j in set(range(classes)) - {int(y[i])}:
                    db = np.eye(classes)[j] - np.eye(classes)[y[i]]
                    falls.append([s[i, j] - s[i, y[i]], *(db if bias else 0 * db)])
            bounds = [(0, 1), *[(-100, 100)] * classes]
            best = linprog([-1, 0, 0, 0], A_ub=falls, b_ub=np.zeros(len(falls)), bounds=bounds)
            theirs = -best.fun > 0.5
            assert calibration.Softmax(s, y, None, 0.0).separable(bias) == theirs
            seen[theirs] += 1
    assert min(seen.values()) > 20


def test_an_absent_class() -> None:
    labels, scores, *_ = softmax_data()
    labels = np.where(labels == 2, 1, labels)
    calibrator = Calibrator(SPARSE).fit(labels, scores)
    assert np.isfinite(calibrator.bias_).all()
    assert calibrator.bias_.argmin() == 2
    assert Calibrator(SPARSE, bias=False, prior_weight=0).fit(labels, scores).temperature_ > 0
    with pytest.raises(ValueError, match=r"no label of class 2.*prior_weight above 0"):
        Calibrator(SPARSE, prior_weight=0).fit(labels, scores)
    for label in (0, 1):
        one = Calibrator(BINARY).fit(np.full(5, label), np.linspace(-1, 1, 5))
        assert np.sign(one.bias_) == 2 * label - 1
        with pytest.raises(ValueError, match=f"no label of class {1 - label}"):
            Calibrator(BINARY, prior_weight=0).fit(np.full(5, label), np.linspace(-1, 1, 5))


def test_infinite_posteriors_are_bounded() -> None:
    """Label smoothing takes the posterior of a sure score to 0 and 1; masked classes have the logit -inf."""
    smooth = Binary(gamma=2.0, from_logits=True, label_smoothing=0.1)
    scores, labels = np.array([-9.0, -9, -9, 0, 0, 9, 9, 9]), [0, 1, 0, 0, 1, 1, 1, 0]
    assert np.isinf(smooth.posterior_logit(scores)).any()
    calibrator = Calibrator(smooth).fit(labels, scores)
    said = calibrator.posterior(scores)
    assert ((said > 0.1) & (said < 0.9)).all()
    assert Calibrator(smooth).fit([0, 1], [-np.inf, np.inf]).temperature_ > 0
    softmax = Sparse(1, 2.0, True, label_smoothing=0.1)
    said = Calibrator(softmax).fit([0, 1, 1], [[9.0, 0, 0], [9, 0, 0], [0, 9, 0]]).posterior([[9.0, 0, 0]])
    assert ((said > 0.05) & (said < 0.95)).all()
    masked = np.array([[1.0, 0, -np.inf], [0, 1, -np.inf], [0, 1, 0], [0, 0, 1], [1, 0, 0]])
    said = Calibrator(SPARSE).fit([0, 0, 1, 2, 1], masked).posterior(masked)
    assert (said[:2, 2] == 0).all()
    np.testing.assert_allclose(said.sum(axis=1), 1)


def test_an_infinite_score_of_the_wrong_class_is_an_error() -> None:
    """One of them used to make T infinite, with a warning that the scores rank backwards."""
    inf = np.inf
    y, scores, _, _ = binary_data(50)
    for label, value in ((0, inf), (1, -inf)):
        place = int(np.flatnonzero(y == label)[3])
        spoilt = np.where(np.arange(50) == place, value, scores)
        message = (
            rf"y_pred holds {value} at position {place}, which y_true contradicts.*sample_weight=0, or clip y_pred"
        )
        for given in (y, np.where(y, 0.9, 0.1)):  # no soft label agrees with it either
            with pytest.raises(ValueError, match=message):
                Calibrator(BINARY).fit(given, spoilt)
        counted = np.arange(50) != place
        same(Calibrator(BINARY).fit(y, spoilt, counted), Calibrator(BINARY).fit(y[counted], scores[counted]))
        same(Calibrator(BINARY).fit(1 - y, -spoilt, counted), Calibrator(BINARY).fit(1 - y, -scores, counted))
        right = np.where(np.arange(50) == place, -value, scores)
        assert 0 < Calibrator(BINARY).fit(y, right).temperature_ < inf
        Calibrator(Binary(gamma=2.0, from_logits=True, label_smoothing=0.1)).fit(y, spoilt)  # which bounds it
    labels = np.array([0, 1, 2, 0, 1, 1])
    rows = np.random.default_rng(0).normal(size=(6, 3)) + 2 * np.eye(3)[labels]
    first = Dense(1.0, 2.0, True, axis=0, dtype="float64")
    for row, place in (([0, -inf, inf], 1), ([0, -inf, 0], 1), ([0, 0, inf], 2), ([inf, -inf, inf], 0)):
        spoilt = np.r_[rows[:5], [row]]
        with pytest.raises(ValueError, match=rf"y_pred holds -?inf at position \(5, {place}\)"):
            Calibrator(SPARSE).fit(labels, spoilt)
        with pytest.raises(ValueError, match=r"y_pred holds -?inf at position \([012], 5\)"):
            Calibrator(first).fit(np.eye(3)[labels].T, spoilt.T)
        ignoring = Sparse(1.0, 2.0, True, ignore_class=1, dtype="float64")
        same(Calibrator(ignoring).fit(labels, spoilt), Calibrator(ignoring).fit(labels[:4], rows[:4]))
    for row in ([0, inf, 0], [-inf, 0, 0], [inf, inf, 0], [-inf, -inf, -inf]):
        Calibrator(SPARSE).fit(labels, np.r_[rows[:5], [row]])


def test_extreme_scores_converge() -> None:
    random = np.random.default_rng(0)
    plain = Binary(gamma=0, from_logits=True)
    for scale in (1e-6, 1.0, 1e3, 5e3):
        for offset in (0.0, min(30.0, 30 * scale)):
            s = scale * random.standard_t(1.5, size=500) + offset
            y = random.random(500) < sigmoid(np.clip((s - offset) / scale, -30, 30))
            for prior_weight in (0.0, 1.0):
                calibrator = Calibrator(plain, prior_weight=prior_weight).fit(y, s)
                bounded = np.clip(s, -1e4, 1e4)
                terms = calibration.Binary(bounded, y, None, prior_weight).terms(parameters_of(calibrator))
                scales = [np.abs(bounded).sum() + prior_weight, 500]
                assert (np.abs(terms.gradient) < 1e-10 * np.array(scales)).all(), (scale, offset, prior_weight)


def test_one_far_score_asks_for_a_line_search() -> None:
    """Newton's steps alone jump to and fro here: the far score has curvature only while it is unsure."""
    s = np.array([634.0, -9.0, 17.0, -12.0, 18.0, 5.0, 73.0])
    y = np.array([1, 0, 1, 0, 1, 0, 1])
    calibrator = Calibrator(Binary(gamma=0, from_logits=True)).fit(y, s)
    terms = calibration.Binary(s, y, None, 1.0).terms(parameters_of(calibrator))
    np.testing.assert_allclose(terms.gradient, 0, atol=1e-12)


# -- samples: weights, shapes, labels


def test_weights_are_repeated_samples() -> None:
    for y, scores, s, w, *_ in (binary_data(), softmax_data()):
        loss, times = BINARY if s.ndim == 1 else SPARSE, w.astype(int)
        weighted = Calibrator(loss).fit(y, scores, w)
        repeated = Calibrator(loss).fit(np.repeat(y, times), np.repeat(scores, times, axis=0))
        np.testing.assert_allclose(parameters_of(weighted), parameters_of(repeated), rtol=1e-12, atol=1e-13)


def test_samples_that_do_not_count_may_hold_anything() -> None:
    y, scores, _, w = binary_data()
    spoilt = np.where(w > 0, scores, np.nan)
    odd = np.where(w > 0, y, -7)
    assert (w == 0).any()
    same(Calibrator(BINARY).fit(odd, spoilt, w), Calibrator(BINARY).fit(y[w > 0], scores[w > 0], w[w > 0]))
    y, scores, _, w, _ = softmax_data()
    keep = (w > 0) & (np.arange(len(w)) % 5 > 0)
    exact = Calibrator(SPARSE).fit(y[keep], scores[keep], w[keep])
    for from_logits in (True, False):
        loss = Sparse(1.0, 2.0, from_logits, ignore_class=-1, dtype="float64")
        given = scores if from_logits else np.exp(log_softmax(scores))
        labels = np.where(np.arange(len(w)) % 5 > 0, y, -1)
        labels[w == 0] = 99
        spoilt = np.where(keep[:, None], given, np.nan)
        assert parameters_of(Calibrator(loss).fit(labels, spoilt, w)) == pytest.approx(parameters_of(exact), rel=1e-8)


def same(one: Calibrator, other: Calibrator) -> None:
    np.testing.assert_allclose(parameters_of(one), parameters_of(other), rtol=1e-11, atol=1e-13)


def test_shapes_of_binary_scores() -> None:
    y, scores, _, w = binary_data(120)
    exact, weighted = Calibrator(BINARY).fit(y, scores), Calibrator(BINARY).fit(y, scores, w)
    same(Calibrator(BINARY).fit(y[:, None], scores[:, None]), exact)
    same(Calibrator(BINARY).fit(y, scores[:, None]), exact)
    same(Calibrator(BINARY).fit(y[:, None], scores), exact)
    same(Calibrator(BINARY).fit(y.astype(bool), scores), exact)
    same(Calibrator(BINARY).fit(y.tolist(), scores.tolist()), exact)
    same(Calibrator(BINARY).fit(y, scores[:, None], w), weighted)
    same(Calibrator(BINARY).fit(y.reshape(30, 4), scores.reshape(30, 4)), exact)  # one T for all labels
    same(Calibrator(BINARY).fit(y.reshape(30, 4), scores.reshape(30, 4), w.reshape(30, 4)), weighted)
    per_row = np.arange(30.0)
    by_row = Calibrator(BINARY).fit(y, scores, np.repeat(per_row, 4))
    same(Calibrator(BINARY).fit(y.reshape(30, 4), scores.reshape(30, 4), per_row), by_row)
    assert weighted.posterior(scores.reshape(5, 4, 6)).shape == (5, 4, 6)
    assert weighted.posterior(scores[0]).shape == ()


def test_shapes_and_labels_of_a_softmax() -> None:
    y, scores, _, w, _ = softmax_data(120)
    exact, weighted = Calibrator(SPARSE).fit(y, scores), Calibrator(SPARSE).fit(y, scores, w)
    same(Calibrator(SPARSE).fit(y[:, None], scores), exact)
    same(Calibrator(SPARSE).fit(y.astype(float), scores), exact)
    dense = Dense(1.0, 2.0, True, dtype="float64")
    same(Calibrator(dense).fit(np.eye(4)[y], scores), exact)
    image, labels, weights = np.moveaxis(scores.reshape(2, 5, 12, 4), -1, 1), y.reshape(2, 5, 12), w.reshape(2, 5, 12)
    first = Sparse(1.0, 2.0, True, axis=1, dtype="float64")
    calibrator = Calibrator(first).fit(labels, image, weights)
    same(calibrator, weighted)
    np.testing.assert_allclose(
        np.moveaxis(calibrator.posterior(image), 1, -1).reshape(-1, 4), weighted.posterior(scores), rtol=1e-12
    )
    channels = Dense(1.0, 2.0, True, axis=1, dtype="float64")
    same(Calibrator(channels).fit(np.moveaxis(np.eye(4)[labels], -1, 1), image, weights), weighted)
    assert calibrator.posterior_logit(image).shape == image.shape


def test_soft_labels_are_shares_of_samples() -> None:
    y, scores, _, _ = binary_data(100)
    soft = np.where(y, 0.75, 0.125)
    twice = np.r_[np.ones(100), np.zeros(100)], np.r_[scores, scores], np.r_[soft, 1 - soft]
    same(Calibrator(BINARY).fit(soft, scores), Calibrator(BINARY).fit(*twice))
    Calibrator(BINARY, prior_weight=0).fit([0.1, 0.9], [-1.0, 1.0])  # soft labels are never separated
    y, scores, _, w, _ = softmax_data(100)
    dense = Dense(1.0, 2.0, True, dtype="float64")
    soft = np.random.default_rng(0).uniform(0, 1, (100, 4))  # rows need not sum to 1
    each = np.tile(np.arange(4), 100), np.repeat(scores, 4, axis=0), (soft * w[:, None]).ravel()
    same(Calibrator(dense).fit(soft, scores, w), Calibrator(SPARSE).fit(*each))


# -- libraries

QUICK = (Library.NUMPY, Library.TORCH, Library.STRICT)
IN_LIBRARIES = [
    *((library, dtype) for library in QUICK for dtype in ("float32", "float64")),
    *(pytest.param(library, "float32", marks=pytest.mark.full) for library in Library if library not in QUICK),
]


@pytest.mark.parametrize(("library", "dtype"), IN_LIBRARIES, ids=str)
def test_every_library_gets_its_own_kind_back(library: Library, dtype: str) -> None:
    digits = {"float32": 2e-6, "float64": 1e-12}[dtype]
    for y, scores, s, w, *_ in (binary_data(50), softmax_data(50)):
        losses = [BINARY] if s.ndim == 1 else [SPARSE, Sparse(1.0, 2.0, True, axis=0, dtype="float64")]
        compiled = library is Library.TORCH_COMPILED  # which takes ten seconds each time
        methods = ("posterior",) if compiled else ("posterior", "posterior_logit")
        for loss in losses[:1] if compiled else losses:
            given = scores.T if loss.parameters.axis == 0 else scores
            given = np.ascontiguousarray(given).astype(dtype)
            exact = Calibrator(loss).fit(y, given, w)
            with precision(dtype):
                arrays = [library.array(array) for array in (y, given, w.astype(dtype))]
                calibrator = Calibrator(loss).fit(*arrays)
                np.testing.assert_allclose(parameters_of(calibrator), parameters_of(exact), rtol=1e-10, atol=1e-12)
                for method in methods:
                    said = library.run(getattr(calibrator, method), arrays[1])
                    assert type(said) is type(arrays[1])
                    assert dtype_name(said) == dtype
                    np.testing.assert_allclose(numpys(said), getattr(exact, method)(given), rtol=digits, atol=digits)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype: str) -> None:
    y, scores, _, _ = binary_data(50)
    tensor = torch.from_numpy(scores).to(getattr(torch, dtype))
    calibrator = Calibrator(BINARY).fit(torch.from_numpy(y), tensor)
    same(calibrator, Calibrator(BINARY).fit(y, tensor.double().numpy()))
    assert calibrator.posterior(tensor).dtype == tensor.dtype
    array = jax.numpy.asarray(scores, dtype=dtype)
    same(Calibrator(BINARY).fit(y, array), Calibrator(BINARY).fit(y, np.asarray(array, dtype=np.float64)))
    assert calibrator.posterior(array).dtype == array.dtype


def test_no_gradient_flows_and_none_is_needed() -> None:
    y, scores, _, _ = binary_data(50)
    leaf = torch.from_numpy(scores).requires_grad_()
    calibrator = Calibrator(BINARY).fit(torch.from_numpy(y), leaf)
    assert not calibrator.posterior(leaf).requires_grad


def test_fit_within_jit_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"needs the numbers in y_pred.*outside of jit"):
        jax.jit(lambda z: Calibrator(BINARY).fit([0, 1], z).posterior(z))(jax.numpy.ones(2))


def test_losses_of_the_adapters() -> None:
    y, scores, _, _, _ = softmax_data(50)
    of_torch = parfocal.torch.SoftmaxFocalLoss(gamma=2.0, weight=[1.0, 2, 3, 4])
    of_keras = parfocal.keras.SparseCategoricalFocalCrossentropy([1.0, 2, 3, 4], 2.0, from_logits=True)
    exact = Calibrator(Sparse([1.0, 2, 3, 4], 2.0, from_logits=True)).fit(y, scores)
    for loss in (of_torch, of_keras):
        same(Calibrator(loss).fit(y, scores), exact)
    tensor = keras.ops.convert_to_tensor(scores)
    assert tuple(Calibrator(of_keras).fit(y, tensor).posterior(tensor).shape) == scores.shape


# -- config


def test_config_through_json() -> None:
    y, scores, _, w = binary_data()
    labels, rows, *_ = softmax_data()
    made = [
        Calibrator(BINARY, bias=False, prior_weight=0.5, class_weight={1: 3.0}).fit(y, scores, w),
        Calibrator(BINARY, class_weight=np.array([1.0, 2.0])).fit(y, scores),
        Calibrator(Sparse([1, 2, 3, 4], parfocal.FLSD53, True, ignore_class=-1)).fit(labels, rows),
        Calibrator(SPARSE),
    ]
    for calibrator in made:
        config = json.loads(json.dumps(calibrator.get_config(), allow_nan=False))
        for again in (
            Calibrator.from_config(config),
            pickle.loads(pickle.dumps(calibrator)),
            copy.deepcopy(calibrator),
        ):
            assert again.get_config() == calibrator.get_config() == config
            assert type(again.loss) is type(calibrator.loss)
            if config["fitted"] is None:
                assert not hasattr(again, "temperature_")
                continue
            given = scores if calibrator.loss is BINARY else rows
            np.testing.assert_array_equal(again.posterior(given), calibrator.posterior(given))
            assert type(again.bias_) is type(calibrator.bias_)


def test_repr_begins_with_what_was_fitted() -> None:
    y, scores, _, _ = binary_data()
    binary, softmax = Calibrator(Binary(from_logits=True), class_weight=[1, 2.0]), Calibrator(Sparse(gamma=0.0))
    assert repr(binary) == "Calibrator(loss=BinaryFocalCrossentropy(from_logits=True), class_weight=[1, 2.0])"
    binary.fit(y, scores)
    start = f"Calibrator(temperature_={binary.temperature_:.4g}, bias_={binary.bias_:.4g}, loss=Bi"
    assert repr(binary).startswith(start)
    softmax.fit([0, 1, 1], np.full((3, 2), 0.5))
    assert re.fullmatch(
        r"Calibrator\(temperature_=1, bias_=\[-0.\d+, 0.\d+\], loss=Sparse\w+\(gamma=0.0\)\)", repr(softmax)
    )
    softmax.fit(range(100), np.full((100, 100), 0.01))
    assert len(repr(softmax)) < 200


def test_the_bias_handed_out_is_a_copy() -> None:
    labels, rows, *_ = softmax_data()
    calibrator = Calibrator(SPARSE).fit(labels, rows)
    before = calibrator.posterior(rows)
    calibrator.bias_[:] = 7
    np.testing.assert_array_equal(calibrator.posterior(rows), before)


# -- bad input

ROWS = np.zeros((3, 4))


@pytest.mark.parametrize(
    ("loss", "given", "message"),
    [
        (BINARY, ([0, 1, 1], [0.0, np.nan, 1.0]), r"y_pred holds nan at position 1, from which nothing can be fitted"),
        (
            BINARY,
            ([0, np.nan, 1], [0.0, 1.0, 1.0]),
            r"must be numbers in \[0, 1\]; y_true holds nan at position 1",
        ),
        (BINARY, ([0, 2, 1], [0.0, 1.0, 1.0]), r"labels must be numbers in \[0, 1\]; y_true holds 2 at position 1"),
        (BINARY, ([0, 1], [0.0, 1.0, 1.0]), r"one shape; got y_true \(2,\) and y_pred \(3,\)"),
        (
            BINARY,
            ([0, 1], [0.0, 1.0], [1.0, -1.0]),
            r"must be finite and >= 0 here; got -1.0 at position 1",
        ),
        (BINARY, ([0, 1], [0.0, 1.0], [1.0, np.nan]), r"sample_weight must be finite and >= 0 here; got nan"),
        (BINARY, ([0, 1], [0.0, 1.0], [1.0, 1.0, 1.0]), r"sample_weight of shape \(3,\) does not fit"),
        (BINARY, ([], []), "no sample is left to fit"),
        (BINARY, ([0, 1], [0.0, 1.0], [0.0, 0.0]), "no sample is left to fit"),
        (Binary(), ([0, 1], [0.5, 3.0]), r"must hold probabilities in \[0, 1\]; it holds 3.0 at position 1"),
        (SPARSE, ([0, 4, 1], ROWS), "whole numbers from 0 to 3; y_true holds 4 at position 1"),
        (SPARSE, ([0, np.nan, 1], ROWS), "whole numbers from 0 to 3; y_true holds nan at position 1"),
        (SPARSE, (np.eye(4)[:3], ROWS), "For one-hot labels use CategoricalFocalCrossentropy"),
        (SPARSE, ([1, 4, 3], ROWS), "y_true holds 4 at position 1. Labels from 1 to 4[?] Subtract 1"),
        (
            SPARSE,
            ([0, 1, 2], ROWS[:, 0]),
            r"y_pred must be \(N, C\).*got \(3,\).*BinaryFocalCrossentropy \(docs/howto/calibrate.md\)",
        ),
        (Dense(), ([0, 1, 2], ROWS[:, 0]), r"y_pred must be \(N, C\), one score for each class; got \(3,\)"),
        (BINARY, ([0, 1, 2], ROWS), "For class indices use SparseCategoricalFocalCrossentropy"),
        (SPARSE, ([0, 1], ROWS), "one class index for each row"),
        (SPARSE, ([0, 1, 2], ROWS[:, :1]), "at least 2 classes"),
        (SPARSE, ([0, 1, 2], ROWS + np.eye(3, 4) * np.nan), r"y_pred holds nan at position \(0, 0\)"),
        (Sparse(ignore_class=-1), ([-1, -1, -1], ROWS), "no sample is left to fit"),
        (Sparse(), ([0, 1, 2], ROWS), "are divided by their sum, which is 0.0 at position"),
        (Dense(from_logits=True), ([0, 1, 2], ROWS), "use SparseCategoricalFocalCrossentropy"),
        (Dense(from_logits=True), (ROWS + np.nan, ROWS), r"y_true holds nan at position \(0, 0\)"),
        (Sparse([1, 2, 3], from_logits=True), ([0, 1, 2], ROWS), "alpha has 3 numbers and y_pred has 4 classes"),
        (Sparse([0, 1, 2, 3], from_logits=True), ([0, 1, 2], ROWS), "every class to have a weight above 0"),
    ],
)
def test_bad_samples(loss: parfocal.Loss, given: tuple[Any, ...], message: str) -> None:
    calibrator = Calibrator(loss)
    with pytest.raises(ValueError, match=message):
        calibrator.fit(*given)
    assert not hasattr(calibrator, "temperature_")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ([0, 4, 1], ROWS),
            r"class indices must be whole numbers from 0 to 3 or ignore_index=-100; y_true holds 4 at position 1$",
        ),
        ((np.eye(4)[:3], ROWS), r"SoftmaxFocalLoss needs .*For one-hot labels give .*, y_true.argmax\(1\)"),
        (([0, 1, 2], ROWS[:, :1]), "SoftmaxFocalLoss needs at least 2 classes.*use SigmoidFocalLoss"),
        (([0, 1, 2], ROWS[:, 0]), r"must be \(N, C\).*Calibrator of SigmoidFocalLoss"),
    ],
)
def test_a_torch_loss_has_torch_s_words(given: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        Calibrator(parfocal.torch.SoftmaxFocalLoss()).fit(*given)
    assert not re.search("ignore_class|rossentropy", str(raised.value))


def test_a_torch_loss_of_one_score_has_torch_s_words() -> None:
    calibrator = Calibrator(parfocal.torch.SigmoidFocalLoss())
    again = pickle.loads(pickle.dumps(calibrator))
    for fitted in (calibrator, again):
        with pytest.raises(ValueError, match=r"y_true holds 2 at position 2. For class indices use SoftmaxFocalLoss"):
            fitted.fit([0, 1, 2], [0.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "must be a dict, as Calibrator.get_config.* returns it; got None"),
        ({}, "must have loss, bias, prior_weight, class_weight, fitted, .*; it lacks loss, bias, "),
        ({"loss": {"class_name": "x"}}, "loss in the config .* must have class_name, config, .*; it lacks config"),
        ({"loss": 3}, "loss in the config of a Calibrator must be a dict.*got 3"),
        ({"fitted": {"bias": 0.0}}, "fitted in the config .*; it lacks inverse_temperature"),
    ],
)
def test_a_config_that_is_none(config: Any, message: str) -> None:
    config = {**Calibrator(BINARY).get_config(), **config} if config else config
    with pytest.raises(ValueError, match=message):
        Calibrator.from_config(config)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"loss": "focal"}, TypeError, "loss must be the focal loss of the training"),
        ({"loss": parfocal.Loss()}, TypeError, "loss must be the focal loss of the training"),
        ({"prior_weight": -1}, ValueError, "prior_weight must be one number >= 0"),
        ({"prior_weight": [1, 2]}, ValueError, "prior_weight must be one number >= 0"),
        ({"prior_weight": math.inf}, ValueError, "prior_weight must be one number >= 0"),
        ({"prior_weight": "1x"}, TypeError, "prior_weight must be a number"),
        ({"bias": 3}, TypeError, "bias must be True or False"),
        ({"class_weight": [1.0]}, ValueError, "class_weight must hold one number for each of the 2 classes"),
        ({"class_weight": {2: 1.0}}, ValueError, "class_weight must have class indices from 0 to 1 as keys"),
        ({"loss": Binary(True, alpha=1.0)}, ValueError, "every class to have a weight above 0"),
        ({"loss": Binary(label_smoothing=1.0)}, ValueError, "no posterior to recover"),
        ({"loss": Dense(label_smoothing=1.0)}, ValueError, "no posterior to recover"),
    ],
)
def test_bad_parameters(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Calibrator(**{"loss": BINARY, **arguments})


def test_before_fit_and_with_other_classes() -> None:
    calibrator = Calibrator(SPARSE)
    for use in (
        lambda: calibrator.temperature_,
        lambda: calibrator.bias_,
        lambda: calibrator.posterior(ROWS),
        lambda: calibrator.posterior_logit(ROWS),
    ):
        with pytest.raises(ValueError, match=r"call fit\(y_true, y_pred\) on held-out scores"):
            use()
    calibrator.fit([0, 1, 2], np.eye(4)[:3])
    with pytest.raises(ValueError, match="y_pred has 3 classes, and this Calibrator was fitted to 4"):
        calibrator.posterior(np.eye(3))


def test_nan_scores_stay_in_their_sample() -> None:
    y, scores, _, _ = binary_data(50)
    said = Calibrator(BINARY).fit(y, scores).posterior([np.nan, 0.0])
    np.testing.assert_array_equal(np.isnan(said), [True, False])


def test_a_good_fit_is_silent() -> None:
    y, scores, _, _ = binary_data(50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Calibrator(BINARY).fit(y, scores).posterior(scores)
