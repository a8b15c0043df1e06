"""FocalLogisticRegression: scikit-learn's own logistic regression at gamma 0, its contract, and probabilities."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pandas
import polars
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import estimator_checks_generator

import parfocal
from parfocal.sklearn import FocalLogisticRegression, focal_loss_scorer
from parfocal.sklearn.solvers import Problem, newton_step

RANDOM = np.random.default_rng(7)
COEFFICIENTS = np.asarray([[1.0, -0.5, 0.0, 2.0], [0.0, 1.0, 0.5, -1.0], [-1.0, 0.0, 1.0, 0.0]])
X = RANDOM.normal(size=(400, 4))
WEIGHT = RANDOM.uniform(0.2, 3.0, size=400)
Y3 = np.argmax(X @ COEFFICIENTS.T + RANDOM.gumbel(size=(400, 3)), axis=1)
Y2 = (X @ COEFFICIENTS[0] - 1.5 + RANDOM.logistic(size=400) > 0).astype(int)
LABELS = {2: Y2, 3: Y3}
TIGHT: dict[str, Any] = {"tol": 1e-9, "max_iter": 1000}

# (classes, parameters): everything that changes the loss
LOSSES: list[tuple[int, dict[str, Any]]] = [
    (2, {}),
    (2, {"gamma": 0.5}),
    (2, {"gamma": 5.0, "C": 0.1}),
    (2, {"gamma": (4.0, 1.0), "alpha": 0.8}),
    (2, {"gamma": 2.0, "label_smoothing": 0.1, "class_weight": {0: 1.0, 1: 7.0}}),
    (2, {"gamma": 1.0, "C": math.inf, "fit_intercept": False}),
    (3, {}),
    (3, {"gamma": [0.0, 1.0, 4.0], "alpha": [0.2, 1.0, 3.0]}),
    (3, {"gamma": 2.0, "label_smoothing": 0.1, "class_weight": {0: 1.0, 1: 7.0, 2: 3.0}}),
    (3, {"gamma": 1.0, "fit_intercept": False}),
]


# All of scikit-learn's; the one that is left out asks for nothing of an estimator without the array API's tag.
CHECKS = {
    f"{check.func.__name__}{check.keywords or ''}": (estimator, check)
    for estimator, check in estimator_checks_generator(FocalLogisticRegression())
    if check.func.__name__ != "check_array_api_input"
}


@pytest.mark.parametrize("name", CHECKS)
def test_the_contract(name: str) -> None:
    estimator, check = CHECKS[name]
    check(estimator)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("C", [0.02, 1.0, 50.0])
@pytest.mark.parametrize("classes", [2, 3])
def test_gamma_0_is_logistic_regression(classes: int, C: float, weight: Any, fit_intercept: bool) -> None:
    y = LABELS[classes]
    theirs = LogisticRegression(C=C, fit_intercept=fit_intercept, **TIGHT).fit(X, y, weight)
    ours = FocalLogisticRegression(0.0, C=C, fit_intercept=fit_intercept, **TIGHT).fit(X, y, weight)
    assert ours.coef_ == pytest.approx(theirs.coef_, abs=1e-5)
    assert ours.intercept_ == pytest.approx(theirs.intercept_, abs=1e-5)
    assert ours.predict_proba(X) == pytest.approx(theirs.predict_proba(X), abs=1e-6)
    assert ours.predict_log_proba(X) == pytest.approx(theirs.predict_log_proba(X), abs=1e-4)
    assert (ours.predict(X) == theirs.predict(X)).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_class_weights_at_gamma_0(classes: int) -> None:
    """They move coefficients and predictions as scikit-learn's do; the probabilities are those of the sample."""
    y = LABELS[classes]
    theirs = LogisticRegression(class_weight="balanced", **TIGHT).fit(X, y, WEIGHT)
    ours = FocalLogisticRegression(0.0, class_weight="balanced", **TIGHT).fit(X, y, WEIGHT)
    assert ours.coef_ == pytest.approx(theirs.coef_, abs=1e-5)
    assert (ours.predict(X) == theirs.predict(X)).all()
    undone = theirs.predict_proba(X) / ours.class_weight_
    assert ours.predict_proba(X) == pytest.approx(undone / undone.sum(axis=1, keepdims=True), abs=1e-5)


def objective(model: FocalLogisticRegression, y: np.ndarray, parameters: np.ndarray, weight: Any = None) -> float:
    """What the docstring says is minimised."""
    coefficients = parameters[: model.coef_.size].reshape(model.coef_.shape)
    margins = X @ coefficients.T + (parameters[model.coef_.size :] if model.fit_intercept else 0.0)
    gamma, smoothing = model.gamma, model.label_smoothing
    if len(model.classes_) == 2:
        alpha = (False, 0.25) if model.alpha is None else (True, model.alpha)
        losses = parfocal.binary_focal_crossentropy(
            y[:, None], margins, *alpha, gamma, True, smoothing, soft_labels="expected"
        )
    else:
        alphas = 1.0 if model.alpha is None else model.alpha
        losses = parfocal.sparse_categorical_focal_crossentropy(y, margins, alphas, gamma, True, smoothing)
    of_samples = model.class_weight_[y] * (1.0 if weight is None else weight)
    penalty = (coefficients**2).sum() / 2 / model.C
    return float((of_samples * losses).sum() + penalty)


@pytest.mark.parametrize(("classes", "parameters"), LOSSES, ids=str)
def test_a_stationary_point_below_the_start(classes: int, parameters: dict[str, Any]) -> None:
    y = LABELS[classes]
    model = FocalLogisticRegression(**{**parameters, **TIGHT}).fit(X, y, WEIGHT)
    found = np.concatenate([model.coef_.ravel(), model.intercept_] if model.fit_intercept else [model.coef_.ravel()])
    least, scale = objective(model, y, found, WEIGHT), WEIGHT.sum()
    for k in range(0, found.size, 3):
        step = np.zeros_like(found)
        step[k] = 1e-4
        above, below = (objective(model, y, found + sign * step, WEIGHT) for sign in (1, -1))
        assert abs(above - below) / 2e-4 < 1e-6 * scale
        assert min(above, below) >= least
    assert least < objective(model, y, np.zeros_like(found), WEIGHT)


def test_the_start_is_the_best_constant() -> None:
    """Under a penalty that allows no coefficient, the intercept is the loss's own answer to the weighted prior."""
    model = FocalLogisticRegression(3.0, C=1e-12, **TIGHT).fit(X, Y2, WEIGHT)
    prior = np.average(Y2, weights=WEIGHT)
    assert model.intercept_[0] == pytest.approx(model.loss_.optimal_logit(prior), abs=1e-6)
    assert model.predict_proba(X)[:, 1] == pytest.approx(np.full(400, prior), abs=1e-6)
    three = FocalLogisticRegression(3.0, C=1e-12, alpha=[1.0, 2.0, 0.5], **TIGHT).fit(X, Y3)
    assert three.predict_proba(X[:1])[0] == pytest.approx(np.bincount(Y3) / 400, abs=1e-6)


@pytest.mark.parametrize("parameters", [parameters for classes, parameters in LOSSES if classes == 2], ids=str)
def test_newton_is_lbfgs(parameters: dict[str, Any]) -> None:
    lbfgs = FocalLogisticRegression(**{**parameters, **TIGHT}).fit(X, Y2, WEIGHT)
    newton = FocalLogisticRegression(solver="newton", **{**parameters, **TIGHT}).fit(X, Y2, WEIGHT)
    assert newton.coef_ == pytest.approx(lbfgs.coef_, abs=2e-6)
    assert newton.intercept_ == pytest.approx(lbfgs.intercept_, abs=2e-6)
    assert 1 < newton.n_iter_ < 12
    thin = FocalLogisticRegression(solver="newton", **{**parameters, **TIGHT}).fit(sparse.csr_array(X), Y2, WEIGHT)
    assert thin.coef_ == pytest.approx(newton.coef_, abs=1e-9)


def problem(gamma: float, penalty: float, features: np.ndarray) -> Problem:
    loss = parfocal.BinaryFocalCrossentropy(gamma=gamma, from_logits=True, reduction="sum", dtype="float64")
    return Problem(loss, features, Y2, None, classes=2, fit_intercept=True, penalty=penalty, scale=1.0)


def test_newton_where_the_objective_is_not_convex() -> None:
    """Where most samples are very wrong the exact curvature is not useful, but the step still goes downhill."""
    bent = problem(2.0, 0.01, X)
    wrong = -8 * np.append(COEFFICIENTS[0], 0.0)
    assert np.linalg.eigvalsh(bent.curvature(wrong, "exact")).min() < 0
    assert np.linalg.eigvalsh(bent.curvature(wrong, "positive")).min() > 0
    value, gradient = bent.value_and_gradient(wrong)
    step = newton_step(bent, wrong, gradient)
    assert gradient @ step < 0
    assert bent.value_and_gradient(wrong + 1e-3 * step)[0] < value


def test_newton_with_a_feature_twice_and_no_penalty() -> None:
    twice = np.column_stack([X, X[:, 0]])
    once = FocalLogisticRegression(C=math.inf, solver="newton", **TIGHT).fit(X, Y2)
    model = FocalLogisticRegression(C=math.inf, solver="newton", **TIGHT).fit(twice, Y2)
    assert model.decision_function(twice) == pytest.approx(once.decision_function(X), abs=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csr_array, sparse.csc_array, sparse.coo_array])
def test_sparse_is_dense(classes: int, kind: Any) -> None:
    few = np.where(np.abs(X) > 0.7, X, 0.0)
    dense = FocalLogisticRegression(**TIGHT).fit(few, LABELS[classes], WEIGHT)
    thin = FocalLogisticRegression(**TIGHT).fit(kind(few), LABELS[classes], WEIGHT)
    assert thin.coef_ == pytest.approx(dense.coef_, abs=1e-6)
    assert thin.predict_proba(kind(few)) == pytest.approx(dense.predict_proba(few), abs=1e-6)
    assert type(thin.coef_) is np.ndarray
    assert type(thin.decision_function(kind(few))) is np.ndarray


@pytest.mark.parametrize("classes", [2, 3])
def test_weights_are_repetitions(classes: int) -> None:
    times = RANDOM.integers(0, 4, size=400)
    y = LABELS[classes]
    weighted = FocalLogisticRegression(class_weight="balanced", **TIGHT).fit(X, y, times)
    repeated = FocalLogisticRegression(class_weight="balanced", **TIGHT).fit(
        np.repeat(X, times, 0), np.repeat(y, times)
    )
    assert weighted.coef_ == pytest.approx(repeated.coef_, abs=1e-6)
    assert weighted.class_weight_ == pytest.approx(repeated.class_weight_)
    assert weighted.predict_proba(X) == pytest.approx(repeated.predict_proba(X), abs=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
def test_class_weights_are_sample_weights_but_for_the_probabilities(classes: int) -> None:
    y, costs = LABELS[classes], np.asarray([1.0, 6.0, 2.0])[:classes]
    classed = FocalLogisticRegression(class_weight=dict(enumerate(costs)), **TIGHT).fit(X, y)
    weighted = FocalLogisticRegression(**TIGHT).fit(X, y, costs[y])
    assert classed.coef_ == pytest.approx(weighted.coef_, abs=1e-6)
    assert (classed.predict(X) == weighted.predict(X)).all()
    undone = weighted.predict_proba(X) / costs
    assert classed.predict_proba(X) == pytest.approx(undone / undone.sum(axis=1, keepdims=True), abs=1e-6)
    # and predict is what the docstring says
    assert (classed.predict(X) == np.argmax(classed.predict_proba(X) * costs, axis=1)).all()


# -- recovering probabilities


@pytest.mark.parametrize(
    "parameters",
    [
        {"gamma": 2.0},
        {"gamma": (4.0, 1.0), "alpha": 0.2},
        {"gamma": 1.0, "label_smoothing": 0.1},
        {"gamma": 2.0, "class_weight": "balanced"},
        {"gamma": 1.0, "label_smoothing": 0.05, "class_weight": {0: 1.0, 1: 5.0}},
    ],
    ids=str,
)
def test_the_posterior_is_the_share_in_each_group(parameters: dict[str, Any]) -> None:
    """One coefficient for each group can say anything; then the probability is what was counted, exactly."""
    shares = [0.02, 0.3, 0.85]
    y = np.concatenate([np.arange(200) < 200 * share for share in shares]).astype(int)
    groups = np.repeat(np.eye(3), 200, axis=0)
    model = FocalLogisticRegression(C=1e9, **{**parameters, **TIGHT}).fit(groups, y)
    assert model.predict_proba(np.eye(3))[:, 1] == pytest.approx(shares, abs=1e-5)
    assert np.abs(model.raw_focal_scores(np.eye(3))[:, 1] - shares).max() > 0.05


@pytest.mark.parametrize(
    "parameters",
    [
        {"gamma": 2.0},
        {"gamma": [0.5, 1.0, 3.0], "alpha": [0.3, 1.0, 2.0]},
        {"gamma": 1.0, "label_smoothing": 0.06, "class_weight": "balanced"},
    ],
    ids=str,
)
def test_the_posterior_of_several_classes(parameters: dict[str, Any]) -> None:
    shares = np.asarray([[0.8, 0.15, 0.05], [0.5, 0.3, 0.2], [0.04, 0.06, 0.9]])
    y = np.concatenate([np.repeat([0, 1, 2], np.round(200 * row).astype(int)) for row in shares])
    model = FocalLogisticRegression(C=1e9, **{**parameters, **TIGHT}).fit(np.repeat(np.eye(3), 200, axis=0), y)
    assert model.predict_proba(np.eye(3)) == pytest.approx(shares, abs=1e-5)
    assert np.abs(model.raw_focal_scores(np.eye(3)) - shares).max() > 0.05
    assert np.exp(model.predict_log_proba(np.eye(3))) == pytest.approx(shares, abs=1e-5)


@pytest.mark.parametrize("gamma", [1.0, 2.0, 5.0])
def test_calibration_on_a_logistic_truth(gamma: float) -> None:
    """Rare positives of a true logistic model: recovered probabilities are right on average, focal scores far off."""
    random = np.random.default_rng(11)
    features = random.normal(size=(40_000, 3))
    truth = 1 / (1 + np.exp(-(features @ [1.0, -0.5, 0.25] - 3.5)))
    y = (random.random(40_000) < truth).astype(int)
    model = FocalLogisticRegression(gamma, solver="newton").fit(features, y)
    assert model.predict_proba(features)[:, 1].mean() == pytest.approx(y.mean(), rel=0.05)
    assert model.raw_focal_scores(features)[:, 1].mean() > 2 * y.mean()
    assert np.abs(model.predict_proba(features)[:, 1] - truth).mean() < 0.01


def test_probabilities_keep_their_digits() -> None:
    model = FocalLogisticRegression(1.0).fit(X, Y2)
    far = -1e4 * np.sign(model.coef_)
    model_proba, model_log = model.predict_proba(far), model.predict_log_proba(far)
    assert model_proba[0].tolist() == [1.0, 0.0]
    assert -np.inf < model_log[0, 1] < -1e4
    near = -5 * np.sign(model.coef_)
    assert model.predict_proba(near)[0, 1] == pytest.approx(math.exp(model.predict_log_proba(near)[0, 1]), rel=1e-12)


# -- as scikit-learn's users work


def test_names_strings_and_frames() -> None:
    names = ["age", "rate", "stops", "delay"]
    y = np.where(Y2 == 1, "late", "early")
    plain = FocalLogisticRegression().fit(X, y)
    assert plain.classes_.tolist() == ["early", "late"]
    assert not hasattr(plain, "feature_names_in_")
    for frame, column in (
        (pandas.DataFrame(X, columns=names), pandas.Series(y)),
        (polars.DataFrame(X, schema=names), polars.Series(y)),
    ):
        model = FocalLogisticRegression().fit(frame, column)
        assert model.feature_names_in_.tolist() == names
        assert model.n_features_in_ == 4
        assert model.coef_ == pytest.approx(plain.coef_)
        assert model.predict(frame).tolist() == plain.predict(X).tolist()
        assert set(model.predict(frame)) == {"early", "late"}
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame.select(names[::-1]))


def test_narrow_features_are_the_wide_ones() -> None:
    narrow = X.astype(np.float32)
    model = FocalLogisticRegression(**TIGHT).fit(narrow, Y3)
    wide = FocalLogisticRegression(**TIGHT).fit(narrow.astype(np.float64), Y3)
    assert (model.coef_ == wide.coef_).all()
    assert model.predict_proba(narrow).dtype == np.float64


def test_pickle_clone_and_parameters() -> None:
    model = FocalLogisticRegression([1.0, 2.0, 3.0], alpha=np.asarray([0.5, 1.0, 2.0]), class_weight="balanced")
    copy = clone(model)
    assert copy.get_params()["gamma"] == [1.0, 2.0, 3.0]
    assert copy.set_params(gamma=1.0).gamma == 1.0
    model.fit(X, Y3)
    again = pickle.loads(pickle.dumps(model))
    assert (again.predict_proba(X) == model.predict_proba(X)).all()
    assert again.loss_.get_config() == model.loss_.get_config()
    assert model.score(X, Y3) > 0.5


def test_grid_search() -> None:
    grid = {"gamma": [0.0, 2.0], "alpha": [None, 0.75]}
    search = GridSearchCV(FocalLogisticRegression(), grid, scoring="neg_log_loss", cv=3).fit(X, Y2)
    assert set(search.best_params_) == {"gamma", "alpha"}
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    # alpha is taken off again: the candidates differ by little
    assert np.ptp(search.cv_results_["mean_test_score"]) < 0.05
    focal = GridSearchCV(FocalLogisticRegression(), grid, scoring=focal_loss_scorer(2.0), cv=3).fit(X, Y2)
    assert (focal.cv_results_["mean_test_score"] < 0).all()


def test_nothing_given_is_changed() -> None:
    features, labels, weight = X.copy(), Y3.copy(), WEIGHT.copy()
    costs = {0: 1.0, 1: 2.0, 2: 3.0}
    FocalLogisticRegression(class_weight=costs).fit(features, labels, weight).predict_proba(features)
    assert (features == X).all()
    assert (labels == Y3).all()
    assert (weight == WEIGHT).all()
    assert costs == {0: 1.0, 1: 2.0, 2: 3.0}


# -- bad input


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"gamma": -1.0}, ValueError, "gamma must be a number from 0 .*got -1.0"),
    ({"gamma": "two"}, TypeError, "gamma must be a number or a list of numbers"),
    ({"gamma": (1.0, 2.0, 3.0)}, ValueError, r"pair \(negatives, positives\); got 3 numbers"),
    ({"gamma": parfocal.FLSD53}, ValueError, "gamma=GammaSchedule.*jumps.*give a number"),
    ({"alpha": 1.5}, ValueError, r"alpha must be one number in \[0, 1\].*got 1.5"),
    ({"alpha": [0.3, 0.7]}, ValueError, "alpha must be one number"),
    ({"alpha": 1.0}, ValueError, r"weight above 0.*\(0.0, 1.0\)"),
    ({"C": 0.0}, ValueError, "C must be a number > 0.*got 0.0"),
    ({"C": "1"}, ValueError, "C must be a number > 0.*got '1'"),
    ({"C": math.nan}, ValueError, "C must be.*nan"),
    ({"tol": -1e-4}, ValueError, "tol must be a number >= 0; got -0.0001"),
    ({"max_iter": 0}, ValueError, "max_iter must be at least 1; got 0"),
    ({"max_iter": 1.5}, ValueError, "max_iter must be a whole number; got 1.5"),
    ({"solver": "saga"}, ValueError, "solver must be one of 'lbfgs', 'newton'; got 'saga'"),
    ({"fit_intercept": "yes"}, TypeError, "fit_intercept must be True or False; got 'yes'"),
    ({"label_smoothing": 1.0}, ValueError, "label_smoothing=1.0.*no posterior"),
    ({"label_smoothing": -0.1}, ValueError, r"label_smoothing must be one number in \[0, 1\]; got -0.1"),
    ({"class_weight": [1.0, 2.0]}, ValueError, r"class_weight must be None, 'balanced', or a dict.*got \[1.0, 2.0\]"),
    ({"class_weight": "even"}, ValueError, "class_weight must be None.*got 'even'"),
    ({"class_weight": {0: 1.0, 1: 0.0}}, ValueError, r"weight above 0.*class_weight = \(1.0, 0.0\)"),
    ({"class_weight": {0: 1.0, 5: 2.0}}, ValueError, r"\[1\], are not in class_weight"),
]


@pytest.mark.parametrize(("parameters", "error", "message"), BAD, ids=str)
def test_bad_parameters(parameters: dict[str, Any], error: type[Exception], message: str) -> None:
    model = FocalLogisticRegression(**parameters)  # as in every estimator, fit is the judge
    with pytest.raises(error, match=message):
        model.fit(X, Y2)
    assert not hasattr(model, "coef_")


def test_bad_data() -> None:
    model = FocalLogisticRegression()
    with pytest.raises(ValueError, match=r"at least 2 classes; it has one class only, \[1\]"):
        model.fit(X, np.ones(400, dtype=int))
    with pytest.raises(ValueError, match=r"sample_weight is 0 for all samples of the class\(es\) \[0, 2\]"):
        model.fit(X, Y3, Y3 == 1)
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
        model.fit(X, Y3, -WEIGHT)
    with pytest.raises(ValueError, match=r"sample_weight\.shape"):
        model.fit(X, Y3, WEIGHT[:5])
    with pytest.raises(ValueError, match="solver='newton' is for 2 classes, and y has 3; use solver='lbfgs'"):
        FocalLogisticRegression(solver="newton").fit(X, Y3)
    with pytest.raises(ValueError, match="gamma has 2 numbers, and there are 3 classes; give one number"):
        FocalLogisticRegression(gamma=(1.0, 2.0)).fit(X, Y3)
    with pytest.raises(ValueError, match="alpha has 4 numbers, and there are 3 classes"):
        FocalLogisticRegression(alpha=[1.0, 2.0, 3.0, 4.0]).fit(X, Y3)
    with pytest.raises(ValueError, match="Unknown label type"):
        model.fit(X, X[:, 0])
    with pytest.raises(NotFittedError):
        model.predict(X)


@pytest.mark.parametrize("solver", ["lbfgs", "newton"])
def test_giving_up_is_said(solver: str) -> None:
    with pytest.warns(ConvergenceWarning, match="after 2 steps.*max_iter=2.*StandardScaler.*raise max_iter or tol"):
        model = FocalLogisticRegression(solver=solver, max_iter=2, tol=1e-9).fit(X, Y2)
    assert model.n_iter_ == 2
