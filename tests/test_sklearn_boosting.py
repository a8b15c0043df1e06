"""FocalBoostingClassifier on its three engines: a scikit-learn classifier whose probabilities are probabilities."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import estimator_checks_generator

import parfocal
from parfocal.boosters import ENGINES, Rows
from parfocal.sklearn import FocalBoostingClassifier, FocalLogisticRegression
from parfocal.sklearn.classifier import FocalClassifierMixin

each_engine = pytest.mark.parametrize("engine", ENGINES)

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(2000, 5))
CHANCE = 1 / (1 + np.exp(-(1.5 * X[:, 0] + X[:, 1] - 2.5)))
Y = np.where(RANDOM.random(2000) < CHANCE, "yes", "no")
MANY = np.asarray(["a", "b", "c"])[np.digitize(X[:, 0] + RANDOM.normal(size=2000) / 2, [0.3, 1.4])]
WEIGHT = RANDOM.uniform(0.5, 2, 2000)
FEW = {"random_state": 0, "n_estimators": 15, "learning_rate": 0.2, "max_leaf_nodes": 8}

WEIGHTS_ARE_NO_ROWS = "CatBoost draws the borders of its bins from the rows, whatever they weigh"
FAILURES: dict[str, dict[str, str]] = {
    "catboost": {
        "check_sample_weight_equivalence_on_dense_data": WEIGHTS_ARE_NO_ROWS,
        "check_sample_weight_equivalence_on_sparse_data": WEIGHTS_ARE_NO_ROWS,
    }
}


@pytest.mark.filterwarnings("ignore")  # scikit-learn's checks hand over what it warns of
@pytest.mark.full  # ten seconds an engine
@pytest.mark.parametrize("engine", ENGINES)
def test_the_checks_of_scikit_learn(engine: str) -> None:
    expected, failed = FAILURES.get(engine, {}), {}
    for estimator, check in estimator_checks_generator(FocalBoostingClassifier(engine, n_estimators=5)):
        name = check.func.__name__
        try:
            check(estimator)
        except Exception as error:
            if type(error).__name__ not in ("SkipTest", "SkipTestWarning"):
                failed.setdefault(name, error)
    assert set(failed) == set(expected), failed


@each_engine
@pytest.mark.parametrize("settings", [{}, {"alpha": 0.25}, {"label_smoothing": 0.1}, {"gamma": (3.0, 1.0)}], ids=str)
def test_probabilities_are_probabilities(engine: str, settings: dict[str, Any]) -> None:
    model = FocalBoostingClassifier(engine, **settings, **FEW).fit(X, Y)
    posterior, raw = model.predict_proba(X), model.raw_focal_scores(X)
    assert model.classes_.tolist() == ["no", "yes"]
    share = (Y == "yes").mean()
    assert abs(posterior[:, 1].mean() - share) < 0.01 < abs(raw[:, 1].mean() - share)
    assert np.abs(posterior[:, 1] - CHANCE).mean() < 0.06
    np.testing.assert_allclose(posterior.sum(axis=1), 1)
    np.testing.assert_array_equal(np.argsort(posterior[:, 1], kind="stable"), np.argsort(raw[:, 1], kind="stable"))
    np.testing.assert_array_equal(model.predict(X), np.where(posterior[:, 1] > 0.5, "yes", "no"))


@pytest.mark.parametrize("engine", ["lightgbm", "xgboost"])
def test_several_classes(engine: str) -> None:
    settings = {"gamma": [2.0, 1.0, 0.5], "alpha": [1.0, 2.0, 3.0]}
    model = FocalBoostingClassifier(engine, **settings, **FEW).fit(X, MANY, WEIGHT)
    posterior = model.predict_proba(X)
    shares = [WEIGHT[name == MANY].sum() / WEIGHT.sum() for name in model.classes_]
    np.testing.assert_allclose(np.average(posterior, axis=0, weights=WEIGHT), shares, atol=0.03)
    assert (model.predict(X) == MANY).mean() > 0.75
    assert model.decision_function(X).shape == (2000, 3)


@each_engine
def test_class_weights_move_predictions_and_no_probability(engine: str) -> None:
    plain = FocalBoostingClassifier(engine, **FEW).fit(X, Y)
    balanced = FocalBoostingClassifier(engine, class_weight="balanced", **FEW).fit(X, Y)
    assert abs(balanced.predict_proba(X)[:, 1].mean() - (Y == "yes").mean()) < 0.02
    assert (balanced.predict(X) == "yes").mean() > 1.5 * (plain.predict(X) == "yes").mean()
    by_hand = np.where(Y == "yes", *balanced.class_weight_[::-1])
    weighted = FocalBoostingClassifier(engine, **FEW).fit(X, Y, sample_weight=by_hand)
    np.testing.assert_allclose(weighted.decision_function(X), balanced.decision_function(X), rtol=1e-6)


def test_the_last_rows_say_when_to_stop() -> None:
    rows = Rows(np.arange(10.0)[:, None], np.arange(10) % 2, np.arange(10.0))
    model = FocalBoostingClassifier(validation="last", validation_fraction=0.2)
    train, held_out = model._split(rows, None)
    assert train.features[:, 0].tolist() == train.weights.tolist() == list(range(8))
    assert held_out.features[:, 0].tolist() == held_out.weights.tolist() == [8, 9]
    assert held_out.labels.tolist() == [0, 1]
    model = FocalBoostingClassifier(validation="last", early_stopping_rounds=3)
    with pytest.raises(ValueError, match="last 30 rows, and only they have the class 'late'; use a smaller"):
        model.fit(X[:300], np.repeat(["early", "soon", "late"], [150, 130, 20]))
    # Rows that come in an order have other last ones than random ones, and the fit sees the difference.
    fits = [
        FocalBoostingClassifier(validation=which, early_stopping_rounds=3, random_state=0).fit(X, Y)
        for which in ("last", "random")
    ]
    assert not np.array_equal(*(model.predict_proba(X) for model in fits))


@each_engine
def test_early_stopping_keeps_the_best_round(engine: str) -> None:
    many = {**FEW, "n_estimators": 300, "learning_rate": 0.5}
    model = FocalBoostingClassifier(engine, early_stopping_rounds=5, **many).fit(X, Y)
    assert 1 <= model.n_iter_ < 250
    rounds = {
        "lightgbm": lambda booster: booster.current_iteration(),
        "xgboost": lambda booster: booster.num_boosted_rounds(),
        "catboost": lambda booster: booster.tree_count_,
    }
    assert rounds[engine](model.booster_) == model.n_iter_  # no tree of the rounds after it
    again = FocalBoostingClassifier(engine, early_stopping_rounds=5, **many).fit(X, Y)
    np.testing.assert_array_equal(model.predict_proba(X), again.predict_proba(X))
    if engine == "catboost":  # its own focal loss, stopped by the same metric
        own = FocalBoostingClassifier(engine, alpha=0.25, curvature="exact", early_stopping_rounds=5, **many).fit(X, Y)
        assert abs(own.predict_proba(X)[:, 1].mean() - (Y == "yes").mean()) < 0.015


@each_engine
def test_frames_sparse_rows_and_missing_values(engine: str) -> None:
    names = [f"column {k}" for k in range(5)]
    plain = FocalBoostingClassifier(engine, **FEW).fit(X, Y)
    for frame in (pd.DataFrame(X, columns=names), pl.DataFrame(X, schema=names)):
        model = FocalBoostingClassifier(engine, **FEW).fit(frame, Y)
        assert model.feature_names_in_.tolist() == names
        np.testing.assert_array_equal(model.predict_proba(frame), plain.predict_proba(X))
        with pytest.raises(ValueError, match="feature names should match"):
            model.predict_proba(frame[names[::-1]])
    holes = np.where(RANDOM.random(X.shape) < 0.3, np.nan, X)
    assert np.isfinite(FocalBoostingClassifier(engine, **FEW).fit(holes, Y).predict_proba(holes)).all()
    few = np.where(np.abs(X) > 1, X, 0.0)
    sparse = FocalBoostingClassifier(engine, **FEW).fit(scipy.sparse.csr_array(few), Y)
    assert np.corrcoef(sparse.predict_proba(scipy.sparse.csr_array(few))[:, 1], CHANCE)[0, 1] > 0.7
    assert plain.feature_importances_[:2].sum() > 0.7
    assert plain.feature_importances_.sum() == pytest.approx(1)


@pytest.mark.parametrize("labels", [Y, MANY], ids=["two classes", "three"])
@pytest.mark.parametrize("kind", [FocalBoostingClassifier, FocalLogisticRegression])
def test_both_classifiers_decide_by_probability_times_class_weight(kind: Any, labels: np.ndarray) -> None:
    """With alpha and weights neither the sign of a margin nor the largest one decides."""
    names = np.unique(labels)
    settings: dict[str, Any] = {"alpha": 0.9 if len(names) == 2 else [1.0, 3.0, 9.0]}
    settings["class_weight"] = {name: [1.0, 4.0, 2.0][place] for place, name in enumerate(names)}
    settings |= FEW if kind is FocalBoostingClassifier else {}
    model = kind(gamma=2.0, **settings).fit(X, labels)
    decided = model.predict(X)
    np.testing.assert_array_equal(decided, names[(model.predict_proba(X) * model.class_weight_).argmax(axis=1)])
    scores = model.decision_function(X)
    by_scores = names[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)]
    assert (decided != by_scores).any()
    assert kind.predict is FocalClassifierMixin.predict


def test_a_gamma_that_depends_on_confidence() -> None:
    model = FocalBoostingClassifier(gamma=parfocal.FLSD53, **FEW).fit(X, Y)
    assert abs(model.predict_proba(X)[:, 1].mean() - (Y == "yes").mean()) < 0.02


@each_engine
def test_copies_and_a_grid(engine: str) -> None:
    model = FocalBoostingClassifier(engine, **FEW).fit(X, Y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert clone(model).get_params() == model.get_params()
    grid = {"gamma": [0.0, 2.0], "alpha": [None, 0.25]}
    search = GridSearchCV(FocalBoostingClassifier(engine, **FEW), grid, scoring="neg_log_loss", cv=2).fit(X, Y)
    assert search.best_score_ > -0.4


MISTAKES = {
    "engine": ({"engine": "forest"}, "'lightgbm'"),
    "gamma": ({"gamma": -1.0}, "gamma must be"),
    "alpha": ({"alpha": 2.0}, "alpha must be one number in"),
    "rounds": ({"n_estimators": 0}, "n_estimators must be at least 1"),
    "validation": ({"validation": "first"}, "validation must be one of 'random', 'last'"),
    "early stopping": ({"early_stopping_rounds": 0}, "early_stopping_rounds must be at least 1"),
    "another loss": ({"engine_params": {"objective": "binary"}}, "leave objective alone"),
    "a class without weight": ({"class_weight": {"no": 1.0, "yes": 0.0}}, "class_weight"),
    "step": ({"max_delta_step": "long"}, "'auto'"),
    "curvature": ({"curvature": "fisher"}, "'positive'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake: str) -> None:
    settings, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message):
        FocalBoostingClassifier(**settings).fit(X, Y)


def test_labels_and_rows_that_teach_nothing() -> None:
    with pytest.raises(ValueError, match="at least 2 classes"):
        FocalBoostingClassifier().fit(X, np.zeros(2000))
    with pytest.raises(ValueError, match="every feature is constant"):
        FocalBoostingClassifier().fit(np.zeros((2000, 2)), Y)
    with pytest.raises(ValueError, match=r"could not convert string to float"):
        FocalBoostingClassifier().fit(Y[:, None], Y)
