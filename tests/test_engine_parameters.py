"""engine_params of FocalBoostingClassifier: what is given has an effect, or is an error that says what to use."""

from __future__ import annotations

import json
from typing import Any

import catboost
import numpy as np
import pytest
import xgboost as xgb

from parfocal.app.study.candidates import Settings
from parfocal.boosters import ENGINES, engine_parameters, lightgbm
from parfocal.boosters.catboost import SYNONYMS
from parfocal.boosters.xgboost import ALIASES
from parfocal.sklearn import FocalBoostingClassifier

RANDOM = np.random.default_rng(5)
X = RANDOM.normal(size=(800, 4))
Y = X[:, 0] + RANDOM.normal(size=800) > 1.2
FEW: dict[str, Any] = {"random_state": 0, "n_estimators": 8}


def probabilities(engine: str, **settings: Any) -> np.ndarray:
    return FocalBoostingClassifier(engine, **{**FEW, **settings}).fit(X, Y).predict_proba(X)


# engine, its name, a value, and the same by the estimator's own parameters
EQUALS: list[tuple[str, str, Any, dict[str, Any]]] = [
    ("lightgbm", "num_iterations", 3, {"n_estimators": 3}),
    ("lightgbm", "n_estimators", 3, {"n_estimators": 3}),
    ("lightgbm", "num_boost_round", 3, {"n_estimators": 3}),
    ("lightgbm", "max_iter", 3, {"n_estimators": 3}),
    ("lightgbm", "eta", 0.5, {"learning_rate": 0.5}),
    ("lightgbm", "shrinkage_rate", 0.5, {"learning_rate": 0.5}),
    ("lightgbm", "max_leaf_nodes", 4, {"max_leaf_nodes": 4}),
    ("lightgbm", "num_leaf", 4, {"max_leaf_nodes": 4}),
    ("lightgbm", "max_tree_output", 0.1, {"max_delta_step": 0.1}),
    ("xgboost", "n_estimators", 3, {"n_estimators": 3}),
    ("xgboost", "num_boost_round", 3, {"n_estimators": 3}),
    ("xgboost", "eta", 0.5, {"learning_rate": 0.5}),
    ("xgboost", "learning_rate", 0.5, {"learning_rate": 0.5}),
    ("xgboost", "max_leaves", 4, {"max_leaf_nodes": 4}),
    ("xgboost", "max_delta_step", 0.1, {"max_delta_step": 0.1}),
    ("catboost", "iterations", 3, {"n_estimators": 3}),
    ("catboost", "n_estimators", 3, {"n_estimators": 3}),
    ("catboost", "num_trees", 3, {"n_estimators": 3}),
    ("catboost", "eta", 0.5, {"learning_rate": 0.5}),
]


@pytest.mark.parametrize(("engine", "name", "value", "same"), EQUALS, ids=str)
def test_any_name_wins_over_ours(engine: str, name: str, value: Any, same: dict[str, Any]) -> None:
    found, expected = probabilities(engine, engine_params={name: value}), probabilities(engine, **same)
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(found, probabilities(engine))


def test_rounds_are_counted_and_checked() -> None:
    for engine in ENGINES:
        model = FocalBoostingClassifier(engine, engine_params={"n_estimators": 3}, n_estimators=9).fit(X, Y)
        assert model.n_iter_ == 3
        with pytest.raises(ValueError, match=r"in engine_params must be at least 1; got 0"):
            probabilities(engine, engine_params={"n_estimators": 0})


@pytest.mark.parametrize(
    ("engine", "given", "ours"),
    [
        ("lightgbm", {"n_jobs": 2, "random_state": 3}, {"num_threads": 2, "seed": 3}),
        ("lightgbm", {"nthread": 2, "verbose": 1}, {"num_threads": 2, "verbosity": 1}),
        ("xgboost", {"n_jobs": 2, "random_state": 3}, {"nthread": 2, "seed": 3}),
        ("catboost", {"thread_count": 2, "random_state": 3}, {"thread_count": 2, "random_seed": 3}),
    ],
)
def test_threads_and_seeds_replace_ours(engine: str, given: dict[str, Any], ours: dict[str, Any]) -> None:
    assert engine_parameters(ENGINES[engine], given) == ours


# Parameters that do something, with names that are aliases or clash with what we set.
WORKS: list[tuple[str, dict[str, Any]]] = [
    ("lightgbm", {"reg_lambda": 100.0}),
    ("lightgbm", {"min_child_samples": 100}),
    ("lightgbm", {"bagging_fraction": 0.5, "bagging_freq": 1}),
    ("lightgbm", {"colsample_bytree": 0.3}),
    ("lightgbm", {"extra_trees": True}),
    ("xgboost", {"reg_lambda": 100.0}),
    ("xgboost", {"min_split_loss": 10.0}),
    ("xgboost", {"alpha": 10.0}),
    ("xgboost", {"booster": "dart", "rate_drop": 0.5}),
    ("xgboost", {"tree_method": "exact"}),
    ("xgboost", {"num_parallel_tree": 2, "subsample": 0.5}),
    ("xgboost", {"max_depth": 2}),
    ("catboost", {"reg_lambda": 100.0}),
    ("catboost", {"max_depth": 2}),
    ("catboost", {"random_state": 7}),
    ("catboost", {"colsample_bylevel": 0.3}),
]


@pytest.mark.parametrize(("engine", "given"), WORKS, ids=str)
def test_what_is_let_through_has_an_effect(engine: str, given: dict[str, Any]) -> None:
    assert not np.array_equal(probabilities(engine, engine_params=given), probabilities(engine))


SAME: list[tuple[str, dict[str, Any]]] = [
    ("lightgbm", {"force_row_wise": True}),
    ("lightgbm", {"verbose": -1}),
    ("lightgbm", {"learning_rate": None, "num_threads": None}),  # None is the engine's own word for its default
    ("xgboost", {"verbosity": 0}),
    ("xgboost", {"max_leaves": None}),
    ("catboost", {"silent": True}),
    ("catboost", {"logging_level": "Silent"}),
    ("catboost", {"verbose": False}),
    ("catboost", {"verbose": None, "learning_rate": None}),
]


@pytest.mark.parametrize(("engine", "given"), SAME, ids=str)
def test_what_changes_no_tree_clashes_with_nothing(
    engine: str, given: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    np.testing.assert_array_equal(probabilities(engine, engine_params=given), probabilities(engine))
    assert capfd.readouterr().out == ""


CLASS_WEIGHT, STOPPING, METRIC = "use class_weight=", "use early_stopping_rounds=", "stops by the log loss"
LOSS = "alone: the probabilities are those of the focal loss"
REFUSED: list[tuple[str, str, Any, str]] = [
    *[("lightgbm", name, True, CLASS_WEIGHT) for name in ("is_unbalance", "unbalance", "unbalanced_sets")],
    ("lightgbm", "scale_pos_weight", 9.0, CLASS_WEIGHT),
    ("lightgbm", "pos_bagging_fraction", 0.5, CLASS_WEIGHT),
    ("lightgbm", "boost_from_average", False, "starts at the best constant score"),
    ("lightgbm", "alpha", 0.25, "the focal loss has alpha="),
    ("lightgbm", "sigmoid", 2.0, "belongs to another loss"),
    ("lightgbm", "categorical_feature", [0], "use categorical_features="),
    ("lightgbm", "output_model", "model.txt", "changes nothing here"),
    ("lightgbm", "boosting", "rf", "takes no loss but LightGBM's own"),
    *[("lightgbm", name, 3, STOPPING) for name in ("early_stopping_round", "early_stopping", "n_iter_no_change")],
    *[("lightgbm", name, "auc", METRIC) for name in ("metric", "metrics")],
    *[("lightgbm", name, "binary", LOSS) for name in ("objective", "app", "loss", "application")],
    ("xgboost", "scale_pos_weight", 9.0, CLASS_WEIGHT),
    ("xgboost", "early_stopping_rounds", 3, STOPPING),
    ("xgboost", "callbacks", [], STOPPING),
    ("xgboost", "eval_metric", "auc", METRIC),
    ("xgboost", "enable_categorical", True, "use categorical_features="),
    ("xgboost", "missing", 0.0, "missing values are NaN"),
    ("xgboost", "quantile_alpha", 0.5, "belongs to another loss"),
    ("xgboost", "booster", "gblinear", "FocalLogisticRegression"),
    *[("xgboost", name, 1, LOSS) for name in ("objective", "obj", "base_score", "num_class")],
    ("catboost", "class_weights", [1, 9], CLASS_WEIGHT),
    ("catboost", "auto_class_weights", "Balanced", CLASS_WEIGHT),
    ("catboost", "scale_pos_weight", 9.0, CLASS_WEIGHT),
    ("catboost", "boost_from_average", True, "starts at the best constant score"),
    *[("catboost", name, 3, STOPPING) for name in ("od_wait", "early_stopping_rounds", "od_type", "use_best_model")],
    *[("catboost", name, "AUC", METRIC) for name in ("eval_metric", "custom_metric", "custom_loss")],
    ("catboost", "cat_features", [0], "use categorical_features="),
    ("catboost", "text_features", [0], "make numbers of text"),
    *[("catboost", name, "Logloss", LOSS) for name in ("loss_function", "objective")],
]


@pytest.mark.parametrize(("engine", "name", "value", "message"), REFUSED, ids=str)
def test_what_would_change_nothing_is_refused(engine: str, name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"engine_params.*{name}.*{message}"):
        probabilities(engine, engine_params={name: value})


MISSPELT = [
    ("lightgbm", "num_leafs", "'num_leaves'"),
    ("lightgbm", "learningrate", "'learning_rate'"),
    ("lightgbm", "gamma", "of the estimator; give gamma= there"),
    ("xgboost", "colsample_by_tree", "'colsample_bytree'"),
    ("xgboost", "verbose", "'verbosity'"),
    ("xgboost", "num_leaves", "did you mean 'max_leaves'|documentation"),
    ("xgboost", "max_leaf_nodes", "give max_leaf_nodes= there"),
    ("xgboost", "foo", "its documentation lists them"),
    ("catboost", "l2_leaf_regularisation", "'l2_leaf_reg'"),
    ("catboost", "n_jobs", "give n_jobs= there"),
]


@pytest.mark.parametrize(("engine", "name", "message"), MISSPELT)
def test_a_misspelt_name_is_told(engine: str, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"'{name}', which is not a parameter of {engine}.*({message})"):
        probabilities(engine, engine_params={name: 1})


def test_one_error_has_all_problems() -> None:
    with pytest.raises(ValueError, match=r"is_unbalance.*'num_leafs'.*eta and learning_rate, two names of one"):
        probabilities(
            "lightgbm", engine_params={"is_unbalance": True, "num_leafs": 3, "eta": 0.1, "learning_rate": 0.1}
        )
    for given in ([("eta", 0.1)], "eta", {1: 2}):
        with pytest.raises(ValueError, match="engine_params must be a dict from parameter names to values; got"):
            probabilities("lightgbm", engine_params=given)


@pytest.mark.parametrize(("engine", "name"), [("lightgbm", "boosting"), ("xgboost", "booster")])
def test_no_way_back_to_the_best_round_of_dart(engine: str, name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}='dart' rescales earlier trees.*early_stopping_rounds=None"):
        probabilities(engine, engine_params={name: "dart"}, early_stopping_rounds=3)
    assert np.isfinite(probabilities(engine, engine_params={name: "dart"})).all()


def test_nothing_given_is_changed() -> None:
    given = {"num_iterations": 3, "max_bin": 63}
    probabilities("lightgbm", engine_params=given)
    assert given == {"num_iterations": 3, "max_bin": 63}


# -- where the names come from


@pytest.mark.parametrize("engine", ENGINES)
def test_the_names_are_the_library_s(engine: str) -> None:
    names, complete = ENGINES[engine].parameter_names()
    assert complete
    assert set(names.values()) <= set(names)
    assert ENGINES[engine].rounds in names
    stale = set(ENGINES[engine].refused) - set(names)
    assert not stale
    for settings in (Settings(), Settings(l2=2.0, feature_share=0.5, bins=63)):  # what the command line sets
        given = settings.of_engine(engine)
        assert engine_parameters(ENGINES[engine], given) == given


def test_the_aliases_of_xgboost_are_aliases() -> None:
    table = xgb.DMatrix(np.zeros((2, 1)), [0, 1])
    ours_alone = {"num_boost_round", "obj"}  # arguments of xgboost.train
    for alias, name in ALIASES.items():
        if alias not in ours_alone:
            config = xgb.Booster({alias: 7}, [table]).save_config()
            assert config == xgb.Booster({name: 7}, [table]).save_config(), alias
            assert json.loads(config) != json.loads(xgb.Booster({}, [table]).save_config()), alias


def test_the_synonyms_of_catboost_are_synonyms() -> None:
    for synonym, name in SYNONYMS.items():
        if synonym == "objective":
            continue  # CatBoost takes both, and the synonym wins
        with pytest.raises(catboost.CatBoostError, match="only one of the parameters"):
            catboost.CatBoost({synonym: 1, name: 1, "allow_writing_files": False}).fit(X, Y)


def test_lightgbm_may_keep_its_names_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """They come from a private class of LightGBM; without it our parameters still have their aliases."""
    told = lightgbm.parameter_names()[0]
    assert all(told[other] == name for name, others in lightgbm.FEW_ALIASES.items() for other in others.split())
    probabilities("lightgbm")  # LightGBM has looked them up by now
    monkeypatch.delattr("lightgbm.basic._ConfigAliases._get_all_param_aliases")
    lightgbm.parameter_names.cache_clear()
    try:
        names, complete = lightgbm.parameter_names()
        assert not complete
        assert names["n_estimators"] == "num_iterations"
        few = probabilities("lightgbm", engine_params={"n_estimators": 3, "max_bin": 255})
        np.testing.assert_array_equal(few, probabilities("lightgbm", n_estimators=3))
        with pytest.raises(ValueError, match=CLASS_WEIGHT):
            probabilities("lightgbm", engine_params={"unbalance": True})
    finally:
        lightgbm.parameter_names.cache_clear()


def test_the_names_of_lightgbm() -> None:
    names, _ = lightgbm.parameter_names()
    assert {"num_leaves", "lambda_l1", "cat_smooth", "extra_trees", "path_smooth"} <= set(names)
    assert names["sub_feature"] == "feature_fraction"
