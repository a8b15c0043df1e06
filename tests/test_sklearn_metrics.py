"""The focal loss as a scikit-learn metric: log_loss at gamma 0, and log_loss's ways with labels and columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer, log_loss
from sklearn.model_selection import cross_val_score

import parfocal
from parfocal.sklearn import focal_loss_score, focal_loss_scorer

RANDOM = np.random.default_rng(3)
P2 = RANDOM.uniform(0.001, 0.999, size=50)
P3 = RANDOM.dirichlet([1.0, 1.0, 1.0], size=50)
Y2, Y3 = RANDOM.integers(0, 2, size=50), RANDOM.integers(0, 3, size=50)
NAMES = np.asarray(["ham", "phish", "spam"])
WEIGHT = RANDOM.uniform(0.1, 2.0, size=50)
BOTH = np.column_stack([1 - P2, P2])

# y_true, y_proba, and labels where they are needed
WAYS: dict[str, tuple[Any, Any, Any]] = {
    "one probability": (Y2, P2, None),
    "one column": (Y2, P2[:, None], None),
    "two columns": (Y2, BOTH, None),
    "lists": (Y2.tolist(), P2.tolist(), None),
    "booleans": (Y2 == 1, P2, None),
    "strings": (NAMES[Y2], BOTH, None),
    "three columns": (Y3, P3, None),
    "three strings": (NAMES[Y3], P3, None),
    "a class without samples": (NAMES[Y2], P3, NAMES),
    "one class only": (np.ones(50), P2, [0, 1]),
    "one-hot": (np.eye(3, dtype=int)[Y3], P3, None),
    "two one-hot": (np.eye(2, dtype=int)[Y2], BOTH, None),
}


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_gamma_0_is_log_loss(way: str, normalize: bool, weight: Any) -> None:
    y_true, y_proba, labels = WAYS[way]
    named: dict[str, Any] = {"normalize": normalize, "sample_weight": weight, "labels": labels}
    ours = focal_loss_score(y_true, y_proba, gamma=0.0, **named)
    assert ours == pytest.approx(log_loss(y_true, y_proba, **named), rel=1e-12)
    assert type(ours) is float


def test_the_formula() -> None:
    p_t = np.where(Y2 == 1, P2, 1 - P2)
    assert focal_loss_score(Y2, P2) == pytest.approx(np.mean(-((1 - p_t) ** 2) * np.log(p_t)))
    alpha = np.where(Y2 == 1, 0.8, 0.2)
    gamma = np.where(Y2 == 1, 1.0, 4.0)
    expected = np.average(-alpha * (1 - p_t) ** gamma * np.log(p_t), weights=WEIGHT)
    assert focal_loss_score(Y2, BOTH, gamma=(4, 1), alpha=0.8, sample_weight=WEIGHT) == pytest.approx(expected)
    p_t = P3[np.arange(50), Y3]
    expected = np.mean(-np.asarray([1.0, 2.0, 0.5])[Y3] * (1 - p_t) ** np.asarray([0.0, 1.0, 3.0])[Y3] * np.log(p_t))
    assert focal_loss_score(NAMES[Y3], P3, gamma=[0, 1, 3], alpha=[1, 2, 0.5]) == pytest.approx(expected)


def test_probabilities_are_clipped_at_epsilon() -> None:
    assert focal_loss_score([1, 0], [0.0, 0.0], gamma=0) == pytest.approx(-np.log(1e-7) / 2, rel=1e-6)
    parfocal.config.set_epsilon(1e-3)
    assert focal_loss_score([1, 0], [0.0, 0.0], gamma=0) == pytest.approx((-np.log(1e-3) - np.log(1 - 1e-3)) / 2)


def test_narrow_probabilities() -> None:
    """Their rows sum to 1 only within their own rounding."""
    narrow = P3.astype(np.float32)
    assert focal_loss_score(Y3, narrow) == pytest.approx(focal_loss_score(Y3, P3), rel=1e-5)


def test_the_scorer() -> None:
    features = RANDOM.normal(size=(200, 3))
    y = np.where(features[:, 0] + RANDOM.logistic(size=200) > 1, "yes", "no")
    model = LogisticRegression().fit(features, y)
    scorer = focal_loss_scorer(gamma=1.0, alpha=0.7)
    expected = focal_loss_score(y, model.predict_proba(features), gamma=1.0, alpha=0.7)
    assert scorer(model, features, y) == pytest.approx(-expected)
    zero = cross_val_score(model, features, y, scoring=focal_loss_scorer(gamma=0))
    assert zero == pytest.approx(cross_val_score(model, features, y, scoring=get_scorer("neg_log_loss")))
    only = y == "yes"
    assert focal_loss_scorer(labels=["no", "yes"])(model, features[only], y[only]) < 0


BAD: list[tuple[Any, Any, dict[str, Any], str]] = [
    ([0, 1], [0.5, 1.5], {}, r"y_proba must hold probabilities in \[0, 1\]; it holds 1.5 at position 1.*predict_proba"),
    ([0, 1], [[1.1, -0.1], [0.5, 0.5]], {}, r"1.1 at position \(0, 0\) \(2 such values in all\)"),
    ([0, 1], [0.5, np.nan], {}, "y_proba contains NaN"),
    ([0, 1], [0.5], {}, "inconsistent numbers of samples"),
    ([0, 1], [0.5, 0.5], {"sample_weight": [1.0]}, "inconsistent numbers of samples"),
    ([0, 1], [0.5, 0.5], {"sample_weight": [0.0, 0.0]}, "at least one non-zero"),
    ([1, 1], [0.5, 0.5], {}, r"y_true has one class only, \[1\]; pass all classes.*labels="),
    ([1, 1], [0.5, 0.5], {"labels": [1]}, "labels has one class only"),
    ([0, 2], [0.5, 0.5], {"labels": [0, 1]}, r"labels among \[0, 1\]; it holds 2 at position 1"),
    ([0, 1], P3[:2], {}, r"shape \(2, 3\) needs one column for each of the 2 classes \[0, 1\].*labels="),
    ([0, 1, 2], [0.5, 0.5, 0.5], {}, r"shape \(3,\) needs one column for each of the 3 classes"),
    ([[1, 1, 0]], P3[:1], {}, r"y_true of shape \(1, 3\) must have one 1 in each row"),
    ([0, 1], [[0.0, 0.0], [0.5, 0.5]], {}, "each row of y_proba must sum to 1; a row sums to 0.0 at position 0"),
    ([0.5, 0.2], [0.5, 0.5], {}, "Unknown label type"),
    ([0, 1], [0.5, 0.5], {"gamma": -1}, "gamma must be a number from 0"),
    ([0, 1], [0.5, 0.5], {"alpha": 2}, r"alpha must be one number in \[0, 1\]"),
    ([0, 1, 2], P3[:3], {"alpha": [1, 2]}, "alpha has 2 numbers, and there are 3 classes"),
]


@pytest.mark.parametrize(("y_true", "y_proba", "named", "message"), BAD)
def test_bad_input(y_true: Any, y_proba: Any, named: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        focal_loss_score(y_true, y_proba, **named)


def test_warnings() -> None:
    with pytest.warns(UserWarning, match="must sum to 1, and one sums to 0.8 at position 1; they are divided"):
        halved = focal_loss_score([0, 1], [[0.5, 0.5], [0.2, 0.6]])
    assert halved == pytest.approx(focal_loss_score([0, 1], [0.5, 0.75]))
    with pytest.warns(UserWarning, match=r"labels=\['spam', 'ham'\] are not in sorted order.*\['ham', 'spam'\]"):
        focal_loss_score(["spam", "ham"], [0.9, 0.2], labels=["spam", "ham"])
    with pytest.raises(TypeError, match="normalize must be True or False; got 'yes'"):
        focal_loss_score([0, 1], [0.5, 0.5], normalize="yes")
