"""Real boosters trained with our objectives: at gamma 0 they are their own; beyond it probabilities are recovered."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import catboost
import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb

import parfocal
import parfocal.catboost
import parfocal.lightgbm
import parfocal.xgboost
from parfocal.boosters import Rows
from parfocal.boosters.objective import Metric, Objective
from parfocal.boosting import CURVATURES
from parfocal.core import posterior

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.normal(size=(3000, 5))
MARGINS = 1.5 * ROWS[:, 0] + ROWS[:, 1] - 2.5
ONE = (RANDOM.random(3000) < 1 / (1 + np.exp(-MARGINS))).astype(int)
MANY = np.clip(np.round(MARGINS + 3 + RANDOM.normal(size=3000)), -1, 2).astype(int) + 1
SEVERAL = np.stack([ONE, (ROWS[:, 2] > 1.5).astype(int)], axis=1)
WEIGHTS = RANDOM.uniform(0.5, 2, 3000)

ENGINES = {"lightgbm": parfocal.lightgbm, "xgboost": parfocal.xgboost, "catboost": parfocal.catboost}
each_engine = pytest.mark.parametrize("engine", ENGINES)
RAW = "RawFormulaVal"


def raw_scores(
    engine: str, params: dict[str, Any], labels: np.ndarray, weight: Any = None, rounds: int = 12, start: Any = None
) -> np.ndarray:
    """Train, and predict raw scores: without the start for LightGBM and CatBoost."""
    if engine == "lightgbm":
        fixed = {"num_leaves": 8, "verbosity": -1, "num_threads": 1, "deterministic": True, "force_col_wise": True}
        table = lgb.Dataset(ROWS, labels if labels.ndim == 1 else ONE, weight=weight)
        return lgb.train({**fixed, **params}, table, rounds).predict(ROWS, raw_score=True)
    if engine == "xgboost":
        table = xgb.DMatrix(ROWS, labels, weight=weight)
        objective = params.get("objective_object")
        params = {key: value for key, value in params.items() if key != "objective_object"}
        booster = xgb.train({"max_depth": 3, "nthread": 1, **params}, table, rounds, obj=objective)
        return booster.predict(table, output_margin=True)
    fixed = {"iterations": rounds, "verbose": 0, "thread_count": 1, "allow_writing_files": False, "depth": 4}
    newton = {"leaf_estimation_method": "Newton", "leaf_estimation_iterations": 1, "learning_rate": 0.1}
    pool = catboost.Pool(ROWS, labels, weight=weight, baseline=start)
    return catboost.CatBoost({**fixed, **newton, **params}).fit(pool).predict(ROWS, prediction_type=RAW)


def trained(engine: str, objective: Any, labels: np.ndarray, weight: Any = None, rounds: int = 12) -> np.ndarray:
    params = objective.params(labels, weight)
    if engine == "xgboost":
        params["objective_object"] = objective
    return raw_scores(engine, params, labels, weight, rounds)


# -- gamma 0 is the booster's own objective

BUILT_IN = {
    ("lightgbm", "binary"): {"objective": "binary"},
    ("lightgbm", "softmax"): {"objective": "multiclass", "num_class": 4},
    ("xgboost", "binary"): {"objective": "binary:logistic"},
    ("xgboost", "softmax"): {"objective": "multi:softprob", "num_class": 4},
    ("xgboost", "multi-label"): {"objective": "binary:logistic"},
    ("catboost", "binary"): {"loss_function": "Logloss"},
}
LABELS = {"binary": ONE, "softmax": MANY, "multi-label": SEVERAL}


@pytest.mark.parametrize("weight", [None, WEIGHTS], ids=["", "weighted"])
@pytest.mark.parametrize(("engine", "kind"), BUILT_IN)
def test_gamma_0_is_the_built_in_objective(engine: str, kind: str, weight: np.ndarray | None) -> None:
    labels, params = LABELS[kind], dict(BUILT_IN[engine, kind])
    objective = ENGINES[engine].FocalObjective(gamma=0.0, multi_label=kind == "multi-label")
    ours = trained(engine, objective, labels, weight)
    start = 0.0 if engine == "xgboost" else objective.start_
    if engine == "xgboost":
        params["base_score"] = objective.params(labels, weight)["base_score"]
    baseline = np.full(len(labels), start) if engine == "catboost" else None
    theirs = raw_scores(engine, params, labels, weight, start=baseline)
    ours = ours if engine == "catboost" else ours + start
    np.testing.assert_allclose(ours, theirs, atol=2e-6)
    assert np.ptp(ours) > 1


def test_catboosts_own_focal_loss_is_ours() -> None:
    objective = parfocal.catboost.FocalObjective(gamma=2.0, alpha=0.25, curvature="exact")
    params = objective.params(ONE, WEIGHTS)
    objective.scale_ = 1.0
    ours = raw_scores("catboost", params, ONE, WEIGHTS)
    start = np.full(len(ONE), objective.start_)
    theirs = raw_scores("catboost", {"loss_function": objective.built_in}, ONE, WEIGHTS, start=start)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    for other in ({"gamma": 2.0}, {"gamma": (1.0, 2.0)}, {"gamma": 2.0, "alpha": 0.3, "label_smoothing": 0.1}):
        assert parfocal.catboost.FocalObjective(**other, curvature="exact").built_in is None


# -- beyond gamma 0

SETTINGS: dict[str, list[dict[str, Any]]] = {
    "binary": [
        {"gamma": 2.0},
        {"gamma": 2.0, "alpha": 0.25},
        {"gamma": (3.0, 0.5)},
        {"gamma": 1.0, "label_smoothing": 0.1},
        {"gamma": 2.0, "label_smoothing": 0.1, "soft_labels": "linear"},
    ],
    "softmax": [
        {"gamma": 2.0},
        {"gamma": [0.0, 1.0, 2.0, 3.0], "alpha": [1.0, 2.0, 3.0, 0.5]},
        {"gamma": 2.0, "label_smoothing": 0.1},
    ],
    "multi-label": [{"gamma": 2.0, "alpha": 0.25, "multi_label": True}],
}
CASES = [(kind, settings) for kind, several in SETTINGS.items() for settings in several]


def reference(kind: str, settings: dict[str, Any]) -> Any:
    """The loss that the objective is about, summed."""
    named = {name: value for name, value in settings.items() if name != "multi_label"}
    named |= {"from_logits": True, "reduction": "sum", "dtype": "float64"}
    if kind == "softmax":
        return parfocal.CategoricalFocalCrossentropy(**{"alpha": 1.0, **named})
    soft = {"soft_labels": named.pop("soft_labels", "expected")}
    return parfocal.BinaryFocalCrossentropy("alpha" in named, **named, **soft)


def columns(kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Margins as a booster has them, labels, and labels with one number for each margin."""
    if kind == "binary":
        return MARGINS, ONE, ONE
    margins = np.asfortranarray(RANDOM.normal(size=(3000, 4 if kind == "softmax" else 2)) * 4)
    return (margins, MANY, np.eye(4)[MANY]) if kind == "softmax" else (margins, SEVERAL, SEVERAL)


@pytest.mark.parametrize(("kind", "settings"), CASES, ids=str)
def test_the_gradient_is_the_losss_own_in_the_unit_of_cross_entropy(kind: str, settings: dict[str, Any]) -> None:
    margins, labels, dense = columns(kind)
    objective = Objective(**settings)
    objective.learn_prior(labels, WEIGHTS, None)
    gradient, curvature = objective.terms(margins, labels, WEIGHTS)
    assert gradient.dtype == curvature.dtype == np.float32
    shape = (-1, 1) if kind == "binary" else margins.shape
    weight = WEIGHTS[:, None] if kind != "softmax" else WEIGHTS
    weight = np.broadcast_to(weight, dense.reshape(shape).shape) if kind != "softmax" else weight
    exact = reference(kind, settings).value_and_grad(dense.reshape(shape), margins.reshape(shape), weight)[1]
    exact = exact * (1 if kind == "softmax" else exact.shape[1])  # the mean over the labels of a row
    np.testing.assert_allclose(gradient, objective.scale_ * exact.reshape(margins.shape), rtol=1e-5, atol=1e-12)
    assert (curvature > 0).all()


@pytest.mark.parametrize(("kind", "settings"), CASES, ids=str)
def test_at_the_start_the_pulls_balance_and_the_curvature_is_cross_entropys(
    kind: str, settings: dict[str, Any]
) -> None:
    _, labels, _ = columns(kind)
    objective = Objective(**settings)
    start = objective.learn_prior(labels, None, None)
    margins = np.tile(start, (3000, *[1] * start.ndim))
    gradient, curvature = objective.terms(margins, labels)
    assert np.abs(gradient.sum(axis=0)).max() < 1e-3 * np.abs(gradient).sum(axis=0).max()
    of_cross_entropy = Objective(0.0, multi_label=objective.multi_label)
    margins[...] = of_cross_entropy.learn_prior(labels, None, None)
    wanted = of_cross_entropy.terms(margins, labels)[1].mean()
    assert curvature.mean() == pytest.approx(wanted, rel=1e-4)
    assert of_cross_entropy.scale_ == 1.0


@pytest.mark.parametrize("kind", ["binary", "softmax"])
@each_engine
def test_posteriors_have_the_share_of_each_class(engine: str, kind: str) -> None:
    if (engine, kind) == ("catboost", "softmax"):
        return  # below, with fewer rows: a call of Python for each row
    labels = LABELS[kind]
    for settings in SETTINGS[kind]:
        objective = ENGINES[engine].FocalObjective(**settings)
        posterior = objective.posterior(trained(engine, objective, labels, rounds=40))
        shares = labels.mean() if kind == "binary" else np.bincount(labels) / len(labels)
        np.testing.assert_allclose(posterior.mean(axis=0), shares, atol=0.012)
        assert objective.loss(None if kind == "binary" else 4).gamma == Objective(**settings).gamma


def test_catboost_with_several_classes_and_several_labels() -> None:
    rows, few = ROWS[:150], {"iterations": 8, "verbose": 0, "allow_writing_files": False, "learning_rate": 0.3}
    for kind, labels, shares in (
        (parfocal.catboost.FocalObjective, MANY[:150], np.bincount(MANY[:150], minlength=4) / 150),
        (parfocal.catboost.MultiLabelFocalObjective, SEVERAL[:150], SEVERAL[:150].mean(axis=0)),
    ):
        objective = kind(gamma=1.0)
        model = catboost.CatBoost({**objective.params(labels), **few}).fit(rows, labels)
        posterior = objective.posterior(model.predict(rows, prediction_type=RAW))
        np.testing.assert_allclose(posterior.mean(axis=0), shares, atol=0.06)
        correlation = np.corrcoef(posterior[:, -1], labels == 3 if labels.ndim == 1 else labels[:, -1])[0, 1]
        assert correlation > 0.5


def test_several_labels_and_shares_of_classes_in_lightgbm() -> None:
    objective = parfocal.lightgbm.FocalObjective(gamma=2.0, multi_label=True, labels=SEVERAL)
    posterior = objective.posterior(raw_scores("lightgbm", objective.params(), ONE, rounds=40))
    np.testing.assert_allclose(posterior.mean(axis=0), SEVERAL.mean(axis=0), atol=0.012)
    shares = 0.9 * np.eye(4)[MANY] + 0.025
    soft = parfocal.lightgbm.FocalObjective(gamma=2.0, labels=shares)
    smoothed = parfocal.lightgbm.FocalObjective(gamma=2.0, label_smoothing=0.1)
    scores = [
        raw_scores("lightgbm", objective.params(labels), MANY) for objective, labels in ((soft, None), (smoothed, MANY))
    ]
    start = [objective.start_ for objective in (soft, smoothed)]
    np.testing.assert_allclose(scores[0] + start[0], scores[1] + start[1], atol=0.01)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_soft_labels_of_two_classes(gamma: float) -> None:
    """A share of 0.3 is three rows of label 1 beside seven of label 0."""
    shares = RANDOM.choice([0.0, 0.3, 1.0], size=3000)
    objective = Objective(gamma)
    objective.learn_prior(shares, None, None)
    terms = [objective.terms(MARGINS, labels) for labels in (shares, np.ones(3000), np.zeros(3000))]
    for soft, one, zero in zip(*terms, strict=True):
        np.testing.assert_allclose(soft, shares * one + (1 - shares) * zero, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("kind", ["binary", "softmax"])
def test_curvatures(kind: str, curvature: str) -> None:
    margins, labels, _ = columns(kind)
    found = {name: Objective(2.0, curvature=name, prior=0.1 if kind == "binary" else [0.25] * 4) for name in CURVATURES}
    exact = found["exact"].terms_at(margins, labels, None)[1]
    got = found[curvature].terms_at(margins, labels, None)[1]
    assert (exact < 0).any()
    if curvature == "absolute":
        np.testing.assert_array_equal(got, np.abs(exact))
    elif curvature == "cross_entropy":
        np.testing.assert_array_equal(got, Objective(0.0).terms_at(margins, labels, None)[1])
    elif curvature == "positive":
        assert (got >= exact * (1 - 1e-12)).all()
        assert (got > 0).all()


# -- the boosters' own ways


def test_the_estimators_of_lightgbm_and_xgboost() -> None:
    """Their calls have the arguments in another order, and sample weights in a third."""
    few = {"n_estimators": 12, "n_jobs": 1}
    for kind in ("binary", "softmax"):
        labels = LABELS[kind]
        ours = parfocal.lightgbm.FocalObjective(gamma=2.0)
        params = {**ours.params(labels, WEIGHTS), "num_leaves": 8, "verbosity": -1}
        params |= {"deterministic": True, "force_col_wise": True}
        params.pop("num_class", None)  # the estimator counts them itself
        model = lgb.LGBMClassifier(**params, **few).fit(ROWS, labels, sample_weight=WEIGHTS)
        np.testing.assert_allclose(
            model.predict(ROWS, raw_score=True), trained("lightgbm", ours, labels, WEIGHTS), rtol=1e-10
        )
        theirs = parfocal.xgboost.FocalObjective(gamma=2.0)
        given = {"base_score": theirs.params(labels, WEIGHTS)["base_score"], "max_depth": 3}
        classifier = xgb.XGBClassifier(objective=theirs, **given, **few).fit(ROWS, labels, sample_weight=WEIGHTS)
        np.testing.assert_allclose(
            classifier.predict(ROWS, output_margin=True), trained("xgboost", theirs, labels, WEIGHTS), rtol=1e-5
        )


@pytest.mark.parametrize("of", Metric.NAMES)
def test_early_stopping_by_our_metrics(of: str) -> None:
    train, valid = slice(0, 2000), slice(2000, 3000)
    objective = parfocal.lightgbm.FocalObjective(gamma=2.0, alpha=0.25)
    table = lgb.Dataset(ROWS[train], ONE[train])
    held_out = lgb.Dataset(ROWS[valid], ONE[valid], weight=WEIGHTS[valid], reference=table)
    metric, seen = parfocal.lightgbm.FocalMetric(objective_of(objective, ONE[train]), of), {}
    booster = lgb.train(
        {**objective.params(ONE[train]), "verbosity": -1, "learning_rate": 0.3},
        table,
        200,
        valid_sets=[held_out],
        feval=metric,
        callbacks=[lgb.early_stopping(10, verbose=False), lgb.record_evaluation(seen)],
    )
    assert 3 < booster.best_iteration < 190
    best = seen["valid_0"][metric.name][booster.best_iteration - 1]
    margins = booster.predict(ROWS[valid], raw_score=True, num_iteration=booster.best_iteration) + objective.start_
    assert best == pytest.approx(metric_by_hand(of, objective, margins, ONE[valid], WEIGHTS[valid]), rel=1e-9)

    objective = parfocal.xgboost.FocalObjective(gamma=2.0, alpha=0.25)
    tables = [xgb.DMatrix(ROWS[part], ONE[part], weight=WEIGHTS[part]) for part in (train, valid)]
    history: dict[str, Any] = {}
    params = {**objective.params(ONE[train]), "disable_default_eval_metric": 1, "eta": 0.5}
    booster = xgb.train(
        params,
        tables[0],
        200,
        obj=objective,
        custom_metric=parfocal.xgboost.FocalMetric(objective, of),
        evals=[(tables[1], "valid")],
        evals_result=history,
        early_stopping_rounds=10,
        verbose_eval=False,
    )
    margins = booster.predict(tables[1], output_margin=True, iteration_range=(0, booster.best_iteration + 1))
    by_hand = metric_by_hand(of, objective, margins, ONE[valid], WEIGHTS[valid])
    assert history["valid"][metric.name][booster.best_iteration] == pytest.approx(
        by_hand, abs=1e-6
    )  # XGBoost prints six digits


def objective_of(objective: Any, labels: np.ndarray) -> Any:
    objective.params(labels)
    return objective


def metric_by_hand(of: str, objective: Any, margins: np.ndarray, labels: np.ndarray, weight: np.ndarray) -> float:
    loss = objective.loss(None)
    if of == "focal_loss":
        each = parfocal.binary_focal_crossentropy(labels[:, None], margins[:, None], True, 0.25, 2.0, True)
    else:
        p = loss.posterior(np.asarray(margins, dtype=np.float64))
        each = -np.log(np.where(labels == 1, p, 1 - p))
    return float(np.average(each, weights=weight))


@each_engine
def test_objectives_and_metrics_pickle(engine: str) -> None:
    objective = ENGINES[engine].FocalObjective(gamma=[1.0, 2.0, 3.0], alpha=[1.0, 2.0, 3.0], prior=[0.2, 0.3, 0.5])
    objective.loss(3)
    again = pickle.loads(pickle.dumps(ENGINES[engine].FocalMetric(objective, "log_loss")))
    np.testing.assert_array_equal(again.objective.start_, objective.start_)
    margins = RANDOM.normal(size=(4, 3))
    np.testing.assert_array_equal(again.objective.posterior(margins), objective.posterior(margins))


def test_labels_of_one_class_only_train() -> None:
    for engine in ("lightgbm", "xgboost"):  # CatBoost refuses them itself
        objective = ENGINES[engine].FocalObjective(gamma=2.0)
        posterior = objective.posterior(trained(engine, objective, np.zeros(3000, dtype=int), rounds=2))
        assert (posterior < 0.01).all()


def test_one_objective_one_model() -> None:
    objective = parfocal.lightgbm.FocalObjective(gamma=2.0)
    objective.params(ONE)
    start = objective.start_, objective.scale_
    objective.params(ONE)
    with pytest.raises(ValueError, match="a new objective for each model"):
        objective.params(1 - ONE)
    assert (objective.start_, objective.scale_) == start


@pytest.mark.parametrize(("kind", "settings"), CASES, ids=str)
def test_the_start_is_solved_once(kind: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the unit of cross-entropy nor a second call for the same labels solves it again."""
    solve, solved, within = posterior.solve_increasing, [], []

    def counted(*arguments: Any) -> Any:
        if not within:
            solved.append(arguments)
        within.append(True)  # the solver of a softmax calls itself
        try:
            return solve(*arguments)
        finally:
            within.pop()

    monkeypatch.setattr(posterior, "solve_increasing", counted)
    _, labels, _ = columns(kind)
    objective = Objective(**settings)
    start = objective.learn_prior(labels, WEIGHTS, None)
    once = 2 if kind == "softmax" else 1  # of a softmax its common factor, then the margins at it
    assert len(solved) == once
    np.testing.assert_array_equal(objective.learn_prior(labels, WEIGHTS, None), start)
    objective.posterior(np.broadcast_to(start, (3, *start.shape)))
    assert len(solved) == once


def test_nothing_is_solved_at_gamma_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(posterior, "solve_increasing")
    for kind, labels in LABELS.items():
        objective = Objective(0.0, multi_label=kind == "multi-label")
        objective.learn_prior(labels, None, None)
        assert objective.scale_ == 1.0
        shares = np.bincount(labels) / len(labels) if kind == "softmax" else labels.mean(axis=0)
        np.testing.assert_allclose(objective.posterior(np.asarray(objective.start_)[None])[0], shares, rtol=1e-12)


def test_a_prior_that_teaches_nothing_is_refused_again() -> None:
    objective = Objective(gamma=2000.0)
    for _ in range(2):
        with pytest.raises(ValueError, match="smaller gamma"):
            objective.learn_prior([0, 1], None, None)


def test_objectives_that_were_pickled_before_they_kept_their_prior() -> None:
    objective = Objective(2.0)
    start = objective.learn_prior(ONE, None, None)
    del objective.prior_
    assert objective.learn_prior(ONE, None, None) == start
    with pytest.raises(ValueError, match="a new objective for each model"):
        objective.learn_prior(1 - ONE, None, None)


def test_training_goes_on_from_a_model() -> None:
    objective = parfocal.lightgbm.FocalObjective(gamma=2.0)
    params = {**objective.params(ONE), "verbosity": -1, "num_leaves": 8, "deterministic": True, "num_threads": 1}
    table = {"data": ROWS, "label": ONE, "free_raw_data": False}
    whole = lgb.train(params, lgb.Dataset(**table), 10)
    half = lgb.train(params, lgb.Dataset(**table), 5)
    both = lgb.train(params, lgb.Dataset(**table), 5, init_model=half)
    np.testing.assert_allclose(both.predict(ROWS, raw_score=True), whole.predict(ROWS, raw_score=True), atol=1e-6)


def test_xgboosts_estimator_stops_by_our_metric() -> None:
    objective = parfocal.xgboost.FocalObjective(gamma=2.0)
    metric = parfocal.xgboost.FocalMetric(objective, "log_loss")
    params = {**objective.params(ONE), "objective": objective, "eval_metric": metric, "n_estimators": 5}
    model = xgb.XGBClassifier(**params).fit(
        ROWS, ONE, eval_set=[(ROWS, ONE)], sample_weight_eval_set=[WEIGHTS], verbose=False
    )
    (name,) = model.evals_result()["validation_0"].keys() - {"logloss"}
    assert name == "posterior_log_loss"
    by_hand = metric_by_hand("log_loss", objective, model.predict(ROWS, output_margin=True), ONE, WEIGHTS)
    assert model.evals_result()["validation_0"][name][-1] == pytest.approx(by_hand, abs=1e-6)


def test_a_posterior_of_0_leaves_the_log_loss_finite() -> None:
    objective = Objective(2.0, label_smoothing=0.2, prior=0.5)
    assert (objective.posterior([-9.0, 9.0]) == [0, 1]).all()
    assert Metric(objective, "log_loss").value(np.asarray([-9.0, 9.0]), [1, 0]) == pytest.approx(36.04, abs=0.01)


def test_classes_without_rows_are_told() -> None:
    with pytest.warns(UserWarning, match="class 0 of 3 has no row"):
        Objective().learn_prior([1, 2, 2], None, None)


def test_parts_of_rows_keep_what_goes_with_them() -> None:
    rows = Rows(ROWS, MANY, WEIGHTS, [1], 4)
    chosen = np.arange(5, 3000, 7)
    part = rows.part(chosen).scaled()
    np.testing.assert_array_equal(part.features, ROWS[chosen])
    np.testing.assert_array_equal(part.labels, MANY[chosen])
    np.testing.assert_allclose(part.weights, WEIGHTS[chosen] / WEIGHTS[chosen].mean(), rtol=1e-15)
    assert (part.categorical, part.classes, part.num_class) == ([1], 4, 4)
    assert rows.without_features(chosen).features.shape == (len(chosen), 0)
    shares = np.bincount(MANY[chosen], WEIGHTS[chosen]) / WEIGHTS[chosen].sum()
    np.testing.assert_allclose(part.prior, shares, rtol=1e-12)
    assert part.of_rarest_class == np.bincount(MANY[chosen]).min()
    two = Rows(ROWS, ONE, None)
    assert two.scaled() is two
    assert (two.prior, two.num_class) == (ONE.mean(), None)


# -- mistakes

MISTAKES: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "gamma": (lambda: Objective(gamma=-1), ValueError, "gamma must be"),
    "alpha of two classes": (lambda: Objective(alpha=2.0, prior=0.1), ValueError, "alpha must be one number in"),
    "alpha of a class": (lambda: Objective(alpha=[1, 2], prior=[0.2, 0.3, 0.5]), ValueError, "alpha has 2 numbers"),
    "curvature": (lambda: Objective(curvature="hessian"), ValueError, "'positive'"),
    "smoothing": (lambda: Objective(label_smoothing=1.0), ValueError, "label_smoothing"),
    "prior": (lambda: Objective(prior=0.0), ValueError, "prior"),
    "no curvature": (lambda: Objective(gamma=2000.0, prior=0.5), ValueError, "smaller gamma"),
    "no prior": (lambda: Objective().learn_prior(None, None, None), ValueError, "or the objective a prior"),
    "no labels": (lambda: Objective().learn_prior([], None, None), ValueError, "no labels"),
    "labels": (lambda: Objective().learn_prior([0, 1, 2.5], None, None), ValueError, "2.5 at position 2"),
    "texts": (lambda: Objective().learn_prior(["no", "yes"], None, None), TypeError, "labels must hold real numbers"),
    "weights of another length": (
        lambda: Objective().learn_prior([0, 1], [1.0], None),
        ValueError,
        r"shape \(2,\), one for each row; got \(1,\)",
    ),
    "no weight": (lambda: Objective().learn_prior([0, 1], [0.0, 0.0], None), ValueError, "above 0"),
    "NaN": (lambda: Objective().learn_prior([0, float("nan")], None, None), ValueError, "nan at position 1"),
    "signs": (
        lambda: Objective().learn_prior([-1, 1], None, None),
        ValueError,
        r"labels hold -1.0 at position 0. Labels -1 and 1\? Use \(labels \+ 1\) / 2",
    ),
    "from 1": (
        lambda: Objective().learn_prior([1, 2, 3], None, 3),
        ValueError,
        r"whole numbers from 0 to 2; labels hold 3.0 at position 2. Labels from 1 to 3\? Subtract 1",
    ),
    "indices in columns": (
        lambda: Objective(multi_label=True).learn_prior([[0, 2], [1, 0]], None, None),
        ValueError,
        r"labels hold 2.0 .* For class indices use labels \(N,\), without multi_label",
    ),
    "counts": (lambda: Objective(prior=[3, 4, 5]), ValueError, "Divide counts by their sum"),
    "fewer columns": (
        lambda: Objective(prior=[0.2, 0.3, 0.5]).posterior(np.zeros(3)),
        ValueError,
        r"\(N, 3\), as in training; got \(3,\)",
    ),
    "a metric without its labels": (
        lambda: Metric(Objective(multi_label=True, labels=SEVERAL)),
        ValueError,
        "the metric needs those of its rows",
    ),
    "labels beside CatBoost's": (lambda: parfocal.catboost.FocalObjective(labels=ONE), ValueError, "in the Pool"),
    "several labels in CatBoost": (
        lambda: parfocal.catboost.FocalObjective(multi_label=True),
        ValueError,
        "MultiLabelFocalObjective",
    ),
    "metric": (lambda: Metric(Objective(), "auc"), ValueError, "'log_loss'"),
    "LightGBM without a start": (
        lambda: raw_scores("lightgbm", {"objective": parfocal.lightgbm.FocalObjective()}, ONE),
        ValueError,
        r"\*\*objective.params\(labels\)",
    ),
    "LightGBM with an init score": (
        lambda: lgb.train(
            parfocal.lightgbm.FocalObjective(prior=0.1).params() | {"verbosity": -1},
            lgb.Dataset(ROWS, ONE, init_score=np.zeros(3000)),
            1,
        ),
        ValueError,
        "leave it out",
    ),
    "several labels without a place": (
        lambda: raw_scores(
            "lightgbm", parfocal.lightgbm.FocalObjective(prior=[0.1, 0.2], multi_label=True).params(), ONE
        ),
        ValueError,
        "of one shape",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake: str) -> None:
    call, error, message = MISTAKES[mistake]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("name", ["lightgbm", "xgboost", "catboost"])
def test_margins_hold_the_start_once(name: str) -> None:
    """XGBoost's scores have it already.  A row that no tree has moved has the prior."""
    objective = getattr(parfocal, name).FocalObjective(gamma=2, prior=0.02)
    untouched = np.full(3, objective.start_ if name == "xgboost" else 0.0)
    np.testing.assert_array_equal(objective.margins(untouched), np.full(3, objective.start_))
    np.testing.assert_allclose(objective.posterior(untouched), 0.02, rtol=1e-12)
    np.testing.assert_allclose(objective.loss().posterior(objective.margins(untouched)), 0.02, rtol=1e-12)
    with pytest.raises(TypeError, match="scores must hold real numbers"):
        objective.margins(["high", "low", "low"])


@pytest.mark.parametrize("name", ["lightgbm", "xgboost", "catboost"])
def test_help_has_the_parameters_of_the_base(name: str) -> None:
    for kind, words in (("FocalObjective", "alpha : None, no weights."), ("FocalMetric", 'of : "focal_loss" or')):
        text = getattr(getattr(parfocal, name), kind).__doc__
        assert words in text
        assert "See `parfocal" not in text


def test_a_metric_needs_its_objective() -> None:
    with pytest.raises(TypeError, match="objective must be the FocalObjective that trains; got 'log_loss'"):
        parfocal.xgboost.FocalMetric("log_loss")  # type: ignore[arg-type]  # the mistake
