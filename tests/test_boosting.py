"""Gradient and curvature as a booster gets them."""

from __future__ import annotations

import numpy as np
import pytest

import parfocal
from parfocal.boosting import gradient_and_curvature

pytestmark = pytest.mark.usefixtures("two_kernels")

LOSSES = [
    {"gamma": 0.0},
    {"gamma": 2.0, "apply_class_balancing": True},
    {"gamma": (4.0, 1.0)},
    {"gamma": 2.0, "label_smoothing": 0.1},
    {"gamma": 2.0, "label_smoothing": 0.1, "soft_labels": "expected"},
]


@pytest.mark.parametrize("parameters", LOSSES, ids=str)
def test_gradient_is_the_loss_s_and_curvature_is_positive(parameters: dict[str, object]) -> None:
    loss = parfocal.BinaryFocalCrossentropy(**parameters, from_logits=True, reduction="sum", dtype="float64")
    margins = np.linspace(-25, 25, 101)
    for label in (0, 1):
        labels = np.full(101, label)
        gradient, curvature = gradient_and_curvature(loss, margins, labels)
        expected = loss.value_and_grad(labels[:, None], margins[:, None])[1][:, 0]
        np.testing.assert_array_equal(gradient, expected)
        assert (curvature > 0).all()
        if not loss.parameters.label_smoothing:
            exact = loss.curvature(labels[:, None], margins[:, None])[:, 0]
            assert (curvature >= exact * (1 - 1e-14)).all()


@pytest.mark.parametrize("gamma", [0, 0.3, 1, 1 + 1e-10, 2, 3, 4.4, 5, 10, (1.0, 4.0)])
def test_floats_of_double_margins_are_right_to_a_float(gamma: object) -> None:
    """Boosters get float32, computed in it where that is as good; their margins are doubles that no float32 holds."""
    loss = parfocal.BinaryFocalCrossentropy(True, 0.25, gamma, from_logits=True, soft_labels="expected")
    random = np.random.default_rng(0)
    margins = np.concatenate([random.normal(size=3000) * size for size in (1, 5, 20, 60)])
    ends = np.array([0, 1e-6, 17, 86.9, 87.1, 87.4, 88.5, 89, 95, 1e4, 1e300, np.inf])
    for x in (margins, ends, -ends):  # far margins have a block of their own, and share one with others
        for label in (0.0, 1.0):
            labels, weights = np.full(len(x), label), 1 + np.arange(len(x)) % 3
            pairs = [gradient_and_curvature(loss, x, labels, weights, dtype=of) for of in (np.float32, np.float64)]
            for ours, exact in zip(*pairs, strict=True):
                assert ours.dtype == np.float32
                normal = np.abs(exact) > np.finfo(np.float32).tiny
                np.testing.assert_allclose(ours[normal], exact[normal], rtol=1e-6)
                assert (np.abs(ours[~normal]) <= np.finfo(np.float32).tiny).all()
    assert np.isnan(gradient_and_curvature(loss, [np.nan], [1], dtype=np.float32)).all()


def test_gamma_0_is_cross_entropy() -> None:
    loss = parfocal.BinaryFocalCrossentropy(gamma=0, from_logits=True)
    margins = np.linspace(-30, 30, 61)
    p = 1 / (1 + np.exp(-margins))
    gradient, curvature = gradient_and_curvature(loss, margins, np.ones(61))
    np.testing.assert_allclose(gradient, -1 / (1 + np.exp(margins)), rtol=1e-14)
    np.testing.assert_allclose(curvature, p / (1 + np.exp(margins)), rtol=1e-14)


def test_weights_multiply_both() -> None:
    loss = parfocal.BinaryFocalCrossentropy(gamma=2, from_logits=True)
    plain = gradient_and_curvature(loss, [0.5, -1.0], [1, 0])
    weighted = gradient_and_curvature(loss, [0.5, -1.0], [1, 0], [3.0, 0.0])
    for a, b in zip(plain, weighted, strict=True):
        np.testing.assert_array_equal(a * [3.0, 0.0], b)


def test_the_init_score_is_where_the_pulls_balance() -> None:
    loss = parfocal.BinaryFocalCrossentropy(True, 0.25, 2.0, from_logits=True)
    labels = np.asarray([1.0] * 3 + [0.0] * 97)
    gradient, _ = gradient_and_curvature(loss, np.full(100, loss.optimal_logit(0.03)), labels)
    assert abs(gradient.sum()) < 1e-14


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="from_logits=True"):
        gradient_and_curvature(parfocal.BinaryFocalCrossentropy(), [0.5], [1])
    loss = parfocal.BinaryFocalCrossentropy(from_logits=True)
    with pytest.raises(ValueError, match=r"\(2,\).*\(1,\)"):
        gradient_and_curvature(loss, [0.5], [1, 0])
    with pytest.raises(ValueError, match="position 1"):
        gradient_and_curvature(loss, [0.5, 0.5], [1, -1])
    with pytest.raises(ValueError, match="one axis"):
        gradient_and_curvature(loss, [[0.5]], [[1]])
    with pytest.raises(ValueError, match="sample_weight of shape"):
        gradient_and_curvature(loss, [0.5, 0.5], [1, 0], [1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match="BinaryFocalCrossentropy"):
        gradient_and_curvature(parfocal.CategoricalFocalCrossentropy(from_logits=True), [0.5], [1])
    column = gradient_and_curvature(loss, [0.5, 0.5], [1, 0], [[1.0], [2.0]])[0]
    np.testing.assert_array_equal(column, gradient_and_curvature(loss, [0.5, 0.5], [1, 0], [1.0, 2.0])[0])
