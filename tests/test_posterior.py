"""From scores back to probabilities: train on an endless sample by brute force, and ask for its posterior."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

import oracle
import parfocal
from parfocal.core import posterior

Binary, Categorical = parfocal.BinaryFocalCrossentropy, parfocal.CategoricalFocalCrossentropy

BINARY = [
    {"gamma": 0.0},
    {"gamma": 2.0},
    {"gamma": 0.5},
    {"gamma": 5.0},
    {"gamma": 2.0, "apply_class_balancing": True, "alpha": 0.25},
    {"gamma": 2.0, "label_smoothing": 0.1},
    {"gamma": 1.0, "label_smoothing": 0.2, "apply_class_balancing": True, "alpha": 0.8},
    {"gamma": 2.0, "label_smoothing": 0.1, "soft_labels": "expected"},
    {"gamma": (4.0, 1.0)},
    {"gamma": (4.0, 1.0), "label_smoothing": 0.1, "soft_labels": "expected"},
    {"gamma": (0.0, 3.0), "apply_class_balancing": True, "alpha": 0.1},
]


def trained_binary_logit(parameters: dict[str, object], eta: float, class_weight: tuple[float, float]) -> float:
    """The logit with the least expected loss where label 1 has the probability eta."""
    loss = Binary(**parameters).parameters
    s, rule = loss.label_smoothing, loss.soft_labels

    def risk(x: mpf) -> mpf:
        at_1 = oracle.binary_loss(x, 1 - s / 2, loss.gammas, loss.weights, rule)
        at_0 = oracle.binary_loss(x, s / 2, loss.gammas, loss.weights, rule)
        return eta * class_weight[1] * at_1 + (1 - eta) * class_weight[0] * at_0

    return float(oracle.trained_score(risk, -60, 60))


@pytest.mark.parametrize("class_weight", [(1.0, 1.0), (0.6, 7.0)])
@pytest.mark.parametrize("eta", [0.001, 0.0245, 0.3, 0.5, 0.97])
@pytest.mark.parametrize("parameters", BINARY, ids=str)
def test_binary(parameters: dict[str, object], eta: float, class_weight: tuple[float, float]) -> None:
    x = np.asarray([trained_binary_logit(parameters, eta, class_weight)])
    weights = None if class_weight == (1.0, 1.0) else class_weight
    loss = Binary(**parameters, from_logits=True)
    assert loss.posterior(x, class_weight=weights)[0] == pytest.approx(eta, rel=1e-6)
    assert loss.posterior_logit(x, class_weight=weights)[0] == pytest.approx(np.log(eta / (1 - eta)), abs=1e-6)
    assert loss.optimal_logit(eta, class_weight=weights) == pytest.approx(x[0], rel=1e-6, abs=1e-9)
    if abs(x[0]) < 12:  # beyond, 1 - p has no six digits left
        assert Binary(**parameters).posterior(1 / (1 + np.exp(-x)), weights)[0] == pytest.approx(eta, rel=1e-6)


CATEGORICAL = [
    {"alpha": 1.0, "gamma": 0.0},
    {"alpha": 0.25, "gamma": 2.0},
    {"alpha": [0.2, 1.0, 3.0], "gamma": 2.0},
    {"alpha": [0.2, 1.0, 3.0], "gamma": [0.0, 1.0, 4.0]},
    {"alpha": 1.0, "gamma": 2.0, "label_smoothing": 0.1},
    {"alpha": [0.5, 1.0, 2.0], "gamma": [3.0, 0.5, 1.0], "label_smoothing": 0.2},
]


def trained_softmax_logits(
    parameters: dict[str, object], eta: list[float], class_weight: list[float] | None
) -> np.ndarray:
    """The logits (the last is 0) with the least expected loss: a root of its numerical gradient.

    A class weight multiplies the loss of a whole sample, by its true class, and alpha one class of a smoothed label.
    """
    loss = Categorical(**parameters).parameters
    s, classes = loss.label_smoothing, len(eta)
    counts = [e * c for e, c in zip(eta, class_weight or [1.0] * classes, strict=True)]
    labels = [count * (1 - s) + s / classes * sum(counts) for count in counts]
    weights = (np.broadcast_to(loss.alpha, classes) * labels).tolist()
    gammas = np.broadcast_to(loss.gamma, classes).tolist()

    def risk(*z: mpf) -> mpf:
        return oracle.softmax_loss([*z, mpf(0)], weights, gammas)

    def gradient(*z: mpf) -> list[mpf]:
        h = mpf(10) ** -20
        return [
            (risk(*(v + h * (i == j) for i, v in enumerate(z))) - risk(*(v - h * (i == j) for i, v in enumerate(z))))
            / (2 * h)
            for j in range(classes - 1)
        ]

    with mp.workdps(60):
        start = [mp.log(mpf(a) / labels[-1]) / 2 for a in labels[:-1]]
        root = mp.findroot(gradient, start, tol=1e-30, maxsteps=100)
        return np.asarray([*(float(v) for v in root), 0.0])


@pytest.mark.parametrize("eta", [[0.2, 0.3, 0.5], [0.02, 0.08, 0.9]], ids=str)
@pytest.mark.parametrize("class_weight", [None, [1.0, 10.0, 0.5]], ids=str)
@pytest.mark.parametrize("parameters", CATEGORICAL, ids=str)
def test_softmax(parameters: dict[str, object], eta: list[float], class_weight: list[float] | None) -> None:
    z = trained_softmax_logits(parameters, eta, class_weight)
    loss = Categorical(**parameters, from_logits=True)
    np.testing.assert_allclose(loss.posterior(z[None], class_weight)[0], eta, rtol=1e-6)
    np.testing.assert_allclose(loss.posterior_logit(z, class_weight), np.log(eta), rtol=1e-6)
    best = loss.optimal_logit(eta, class_weight)
    np.testing.assert_allclose(best - best[-1], z, rtol=1e-6, atol=1e-9)
    assert np.exp(best).sum() == pytest.approx(1)
    softmax = np.exp(z) / np.exp(z).sum()
    np.testing.assert_allclose(Categorical(**parameters).posterior(softmax, class_weight), eta, rtol=1e-6)
    np.testing.assert_allclose(
        Categorical(**parameters, from_logits=True, axis=0).posterior(z[:, None], class_weight)[:, 0], eta, rtol=1e-6
    )


def test_class_weight_multiplies_alpha() -> None:
    z = np.asarray([[0.3, -1.0, 2.0]])
    weights = [0.5, 1.0, 4.0]
    by_alpha = Categorical(weights, 2.0, from_logits=True).posterior(z)
    by_class_weight = Categorical(1.0, 2.0, from_logits=True).posterior(z, class_weight=dict(enumerate(weights)))
    np.testing.assert_allclose(by_alpha, by_class_weight, rtol=1e-14)
    x = np.asarray([0.3])
    np.testing.assert_allclose(
        Binary(True, 0.8, 2.0, from_logits=True).posterior(x),
        Binary(gamma=2.0, from_logits=True).posterior(x, class_weight={0: 0.2, 1: 0.8}),
        rtol=1e-14,
    )


@pytest.mark.parametrize("parameters", BINARY, ids=str)
def test_the_ranking_is_kept(parameters: dict[str, object]) -> None:
    x = np.linspace(-800, 800, 4001)
    loss = Binary(**parameters, from_logits=True)
    logit = loss.posterior_logit(x)
    inside = np.isfinite(logit)
    assert inside.sum() > 3
    assert (np.diff(logit[inside]) > 0).all()
    assert (np.diff(loss.posterior(x)) >= 0).all()
    assert not np.isnan(logit).any()


def test_gamma_0_is_the_sigmoid_and_the_softmax() -> None:
    x = np.linspace(-700, 700, 57)
    np.testing.assert_allclose(Binary(gamma=0, from_logits=True).posterior_logit(x), x, rtol=1e-14, atol=1e-15)
    z = np.random.default_rng(0).normal(size=(9, 5)) * 20
    softmax = np.exp(z - np.logaddexp.reduce(z, axis=-1, keepdims=True))
    np.testing.assert_allclose(Categorical(gamma=0, from_logits=True).posterior(z), softmax, rtol=1e-13)


@pytest.mark.parametrize(
    ("prior", "alpha", "gamma", "smoothing"),
    [
        ([0.2, 0.3, 0.5], 0.25, [0.0, 0.0, 0.0], 0.0),
        ([0.2, 0.3, 0.5], [0.2, 1.0, 3.0], 0.0, 0.0),
        ([0.2, 0.3, 0.5], [0.2, 1.0, 3.0], [0.0, 0.0, 0.0], 0.1),
        ([1e-9, 1e-3, 0.999 - 1e-9], [0.2, 1.0, 3.0], 0.0, 0.1),
    ],
    ids=str,
)
def test_the_best_constant_at_gamma_0_is_what_the_root_finder_finds(
    monkeypatch: pytest.MonkeyPatch, prior: list[float], alpha: Any, gamma: Any, smoothing: float
) -> None:
    loss = Categorical(alpha, gamma, from_logits=True, label_smoothing=smoothing)
    weights = posterior.alphas(loss.parameters, 3)
    counts = np.asarray(prior) * [1.0, 10.0, 0.5]
    shares = counts / counts.sum() * (1 - smoothing) + smoothing / 3
    found = posterior.solve_softmax(loss.parameters, weights, np.log(shares))
    monkeypatch.delattr(posterior, "solve_increasing")  # nothing is solved
    np.testing.assert_allclose(loss.optimal_logit(prior, [1.0, 10.0, 0.5]), found, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("class_weight", [None, [0.6, 7.0]], ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("rule", ["linear", "expected"])
@pytest.mark.parametrize("balanced", [False, True])
def test_the_best_binary_constant_at_gamma_0_is_what_the_root_finder_finds(
    monkeypatch: pytest.MonkeyPatch, balanced: bool, rule: str, smoothing: float, class_weight: list[float] | None
) -> None:
    loss = Binary(balanced, 0.3, 0.0, True, smoothing, soft_labels=rule)
    prior = np.asarray([1e-9, 0.01, 0.3, 0.5, 0.97])
    weights = posterior.checked_class_weights(loss.parameters, class_weight)
    found = posterior.solve_increasing(
        lambda x: posterior.binary_log_odds(np, loss.parameters, x, weights), np.log(prior) - np.log1p(-prior)
    )
    monkeypatch.delattr(posterior, "solve_increasing")  # nothing is solved
    np.testing.assert_allclose(loss.optimal_logit(prior, class_weight), found, rtol=1e-12, atol=1e-12)


def test_two_classes_agree_with_one_logit() -> None:
    x = np.linspace(-50, 50, 41)
    two = np.stack([np.zeros_like(x), x], axis=-1)
    for gamma in (0.5, 2.0, 4.4):
        np.testing.assert_allclose(
            Categorical(gamma=gamma, from_logits=True).posterior(two)[:, 1],
            Binary(gamma=gamma, from_logits=True).posterior(x),
            rtol=1e-13,
        )


def test_extremes() -> None:
    loss = Binary(gamma=2.0, from_logits=True)
    x = np.asarray([-np.inf, -1e4, 0.0, 1e4, np.inf, np.nan])
    np.testing.assert_array_equal(loss.posterior(x), [0, 0, 0.5, 1, 1, np.nan])
    assert loss.posterior(x.astype(np.float32)).dtype == np.float32
    z = np.asarray([[1e4, 0.0, -1e4], [np.nan, 0.0, 0.0], [0.0, 0.0, -np.inf], [np.inf, 0.0, 1.0]])
    expected = np.asarray([[1, 0, 0], [np.nan] * 3, [0.5, 0.5, 0], [1, 0, 0]])
    for gamma in (0.0, 2.0):
        softmax = Categorical(gamma=gamma, from_logits=True)
        np.testing.assert_allclose(softmax.posterior(z), expected, rtol=1e-15)
        np.testing.assert_array_equal(softmax.posterior_logit(z)[2:] == -np.inf, [[0, 0, 1], [0, 1, 1]])
    assert loss.optimal_logit(0.5) == 0


def test_documented_numbers() -> None:
    """The best constant score at a prior of 1 % and gamma 2 is 0.154; a score of 0.7 means 0.906."""
    loss = Binary(gamma=2.0, from_logits=True)
    assert 1 / (1 + np.exp(-loss.optimal_logit(0.01))) == pytest.approx(0.154, abs=5e-4)
    assert Binary(gamma=2.0).posterior([0.7])[0] == pytest.approx(0.906, abs=5e-4)
    np.testing.assert_allclose(loss.posterior(loss.optimal_logit(np.asarray([0.1, 0.2]))), [0.1, 0.2], rtol=1e-12)


@pytest.mark.parametrize("prior", [1e-12, 1e-300])
def test_a_tiny_prior_comes_back(prior: float) -> None:
    loss = Binary(gamma=2.0, from_logits=True)
    assert loss.posterior(np.asarray(loss.optimal_logit(prior))) == pytest.approx(prior, rel=1e-10)


# -- a population whose shares have changed


def changed(eta: list[Any], prior: list[float], now: list[float]) -> list[Any]:
    """Bayes's rule: the chance of what was seen, given each class, is eta / prior up to a factor."""
    odds = [mpf(e) * mpf(b) / mpf(a) for e, a, b in zip(eta, prior, now, strict=True)]
    return [share / sum(odds) for share in odds]


@pytest.mark.parametrize("parameters", BINARY, ids=str)
@pytest.mark.parametrize(("prior", "now"), [(0.5, 0.01), (0.01, 0.5), (1e-6, 0.3), (0.2, 0.2)])
@mp.workdps(40)
def test_binary_for_other_shares(parameters: dict[str, object], prior: float, now: float) -> None:
    loss, x = Binary(**parameters, from_logits=True), np.linspace(-2, 2, 5)
    got, logits = (function(x, prior=prior, prior_now=now) for function in (loss.posterior, loss.posterior_logit))
    for before, found, logit in zip(loss.posterior_logit(x), got, logits, strict=True):
        eta = 1 / (1 + mp.exp(-mpf(before)))
        _, exact = changed([1 - eta, eta], [1 - prior, prior], [1 - now, now])
        assert found == pytest.approx(float(exact), rel=1e-12)
        if 0 < eta < 1:
            assert logit == pytest.approx(float(mp.log(exact / (1 - exact))), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("parameters", CATEGORICAL, ids=str)
def test_softmax_for_other_shares(parameters: dict[str, object]) -> None:
    prior, now = [0.5, 0.3, 0.2], [0.01, 0.09, 0.9]
    z = np.asarray([[0.1, -0.3, 0.5], [-0.2, 0.0, 0.1]])
    for axis, scores in ((-1, z), (0, z.T)):
        loss = Categorical(**parameters, from_logits=True, axis=axis)
        got, logits = (f(scores, prior=prior, prior_now=now) for f in (loss.posterior, loss.posterior_logit))
        np.testing.assert_allclose(np.exp(logits), got, rtol=1e-13)
        eta = loss.posterior(scores)
        for row, found in zip(eta if axis else eta.T, got if axis else got.T, strict=True):
            np.testing.assert_allclose(found, np.float64(changed(list(row), prior, now)), rtol=1e-12)


def test_other_shares_after_class_weights_and_back() -> None:
    """class_weight takes off what training added to it; and a change that is taken back leaves nothing."""
    x = np.asarray([-1.0, 0.3, 1.2])
    loss = Binary(gamma=2.0, from_logits=True)
    weighed = loss.posterior_logit(x, class_weight=[1, 9], prior=0.3, prior_now=0.1)
    np.testing.assert_allclose(weighed, loss.posterior_logit(x) - np.log(9) + np.log(0.1 / 0.9 * 0.7 / 0.3), rtol=1e-12)
    # Labels of a row with a share each; and training with prior 0.5 is the best of starts for prior_now.
    each = loss.posterior(np.zeros((4, 2)), prior=[0.5, 0.5], prior_now=[0.01, 0.7])
    np.testing.assert_allclose(each, np.tile([0.01, 0.7], (4, 1)), rtol=1e-12)
    extremes = loss.posterior(np.asarray([-np.inf, np.inf, np.nan]), prior=0.5, prior_now=0.01)
    np.testing.assert_array_equal(extremes, [0, 1, np.nan])


WRONG_PRIORS: list[tuple[Any, dict[str, Any], str]] = [
    (Binary, {"prior": 0.5}, "prior was given without prior_now"),
    (Binary, {"prior_now": 0.5}, "prior_now was given without prior"),
    (Binary, {"prior": 0.5, "prior_now": 1.0}, "strictly between 0 and 1; got 1.0"),
    (Binary, {"prior": 0.0, "prior_now": 0.5}, "strictly between 0 and 1; got 0.0"),
    (Binary, {"prior": [0.5, 0.5, 0.5], "prior_now": [0.5, 0.5]}, r"one for each label of the last axis.*\(2, 3\)"),
    (Binary, {"prior": [0.5, 0.5], "prior_now": 0.5}, r"one for each label of the last axis.*\(2, 3\)"),
    (Categorical, {"prior": 0.5, "prior_now": 0.5}, "prior must hold the share of each of the 3 classes"),
    (Categorical, {"prior": [0.2, 0.3, 0.5], "prior_now": [0.2, 0.3]}, "prior_now must hold.*3 classes.*0.3"),
    (Categorical, {"prior": [0.2, 0.3, 0.6], "prior_now": [0.2, 0.3, 0.5]}, "prior must hold.*sum to 1"),
]


@pytest.mark.parametrize(("kind", "priors", "message"), WRONG_PRIORS)
def test_wrong_priors(kind: Any, priors: dict[str, Any], message: str) -> None:
    loss = kind(from_logits=True)
    for function in (loss.posterior, loss.posterior_logit):
        with pytest.raises(ValueError, match=message):
            function(np.zeros((2, 3)), **priors)
    with pytest.raises(TypeError, match="prior must be a number or a list"):
        loss.posterior(np.zeros((2, 3)), prior="half", prior_now=0.5)
