"""The boosters as `FocalBoostingClassifier` needs them: train, and whole margins of new rows.

An engine's `train` takes a `Task` and returns a booster that pickles and has no use for Python's objective any more.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse

from parfocal.objectives import Objective


@dataclass(frozen=True)
class Rows:
    features: Any
    labels: np.ndarray
    weights: np.ndarray | None


@dataclass(frozen=True)
class Task:
    """What is to be trained."""

    objective: dict[str, Any]  # of the door's FocalObjective, but for what is learned from the labels
    rows: Rows
    held_out: Rows | None  # to stop by
    rounds: int
    patience: int
    learning_rate: float
    max_leaf_nodes: int
    longest_step: float  # of a leaf; 0 is no limit
    threads: int
    seed: int
    classes: int
    more: dict[str, Any]  # the engine's own parameters


@dataclass(frozen=True)
class Trained:
    booster: Any
    objective: Objective
    rounds: int


@dataclass(frozen=True)
class Engine:
    name: str
    train: Callable[[Task], Trained]
    margins: Callable[[Trained, Any], np.ndarray]
    importances: Callable[[Trained], np.ndarray]


def door(name: str) -> Any:
    """The door of an engine; a missing library is told with its cure."""
    try:
        return importlib.import_module(f"parfocal.{name}")
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ModuleNotFoundError(
            f"engine={name!r} needs the package {name}; install it: python -m pip install {name}", name=name
        ) from None


def begun(task: Task, name: str) -> tuple[Any, Any, dict[str, Any]]:
    """The door, its objective, and the parameters that go with it."""
    module = door(name)
    objective = module.FocalObjective(**task.objective)
    number = task.classes if task.classes > 2 else None
    return module, objective, objective.params(task.rows.labels, task.rows.weights, number)


def readable(features: Any) -> Any:
    """LightGBM and CatBoost know SciPy's sparse matrices, but not its sparse arrays, and CatBoost no 64-bit indices."""
    if not scipy.sparse.issparse(features):
        return features
    parts = features.data, features.indices.astype(np.int32), features.indptr.astype(np.int32)
    return scipy.sparse.csr_matrix(parts, shape=features.shape)


# -- LightGBM


def train_lightgbm(task: Task) -> Trained:
    import lightgbm as lgb

    module, objective, params = begun(task, "lightgbm")
    params |= {
        "learning_rate": task.learning_rate,
        "num_leaves": task.max_leaf_nodes,
        "max_delta_step": task.longest_step,
        "num_threads": task.threads,
        "seed": task.seed,
        "deterministic": True,
        "force_col_wise": True,
        "feature_pre_filter": False,  # LightGBM aborts if it filters all features out, as in tables of 40 rows
        "verbosity": -1,
        "metric": "none",
        **task.more,
    }
    of_table = {**params, "objective": "none"}
    table = lgb.Dataset(
        readable(task.rows.features), task.rows.labels, weight=task.rows.weights, params=of_table
    ).construct()
    if all(table.feature_num_bin(place) < 2 for place in range(table.num_feature())):  # and here it would abort too
        raise ValueError("every feature is constant in the rows that are trained on; there is nothing to learn from X")
    if task.held_out is None:
        booster = lgb.train(params, table, task.rounds)
        return Trained(without_training(booster), objective, booster.current_iteration())
    held_out = lgb.Dataset(
        readable(task.held_out.features), task.held_out.labels, weight=task.held_out.weights, reference=table
    )
    booster = lgb.train(
        params,
        table,
        task.rounds,
        valid_sets=[held_out],
        feval=module.FocalMetric(objective, "log_loss"),
        callbacks=[lgb.early_stopping(task.patience, verbose=False)],
    )
    return Trained(without_training(booster), objective, booster.best_iteration)


def without_training(booster: Any) -> Any:
    """The trees alone, which is what pickling and prediction need."""
    import lightgbm as lgb

    best = booster.best_iteration
    return lgb.Booster(model_str=booster.model_to_string(num_iteration=best if best > 0 else None))


def lightgbm_margins(trained: Trained, features: Any) -> np.ndarray:
    return np.asarray(trained.booster.predict(readable(features), raw_score=True)) + trained.objective.start_


def lightgbm_importances(trained: Trained) -> np.ndarray:
    return np.asarray(trained.booster.feature_importance("gain"))


# -- XGBoost


def train_xgboost(task: Task) -> Trained:
    import xgboost as xgb

    module, objective, params = begun(task, "xgboost")
    params |= {
        "eta": task.learning_rate,
        "max_leaves": task.max_leaf_nodes,
        "max_delta_step": task.longest_step,
        "max_depth": 0,
        "grow_policy": "lossguide",
        "tree_method": "hist",
        "nthread": task.threads,
        "seed": task.seed,
        "disable_default_eval_metric": 1,
        "verbosity": 0,
        **task.more,
    }
    table = xgb.DMatrix(task.rows.features, task.rows.labels, weight=task.rows.weights)
    if task.held_out is None:
        booster = xgb.train(params, table, task.rounds, obj=objective)
        return Trained(booster, objective, booster.num_boosted_rounds())
    held_out = xgb.DMatrix(task.held_out.features, task.held_out.labels, weight=task.held_out.weights)
    booster = xgb.train(
        params,
        table,
        task.rounds,
        obj=objective,
        evals=[(held_out, "held_out")],
        custom_metric=module.FocalMetric(objective, "log_loss"),
        early_stopping_rounds=task.patience,
        verbose_eval=False,
    )
    rounds = booster.best_iteration + 1
    return Trained(booster[:rounds], objective, rounds)


def xgboost_margins(trained: Trained, features: Any) -> np.ndarray:
    import xgboost as xgb

    return np.asarray(trained.booster.predict(xgb.DMatrix(features), output_margin=True), dtype=np.float64)


def xgboost_importances(trained: Trained) -> np.ndarray:
    gains = trained.booster.get_score(importance_type="total_gain")
    return np.asarray([gains.get(f"f{k}", 0.0) for k in range(trained.booster.num_features())])


# -- CatBoost


def train_catboost(task: Task) -> Trained:
    import catboost

    module, objective, params = begun(task, "catboost")
    built_in = objective.built_in  # the same loss, in C++
    if built_in is not None:
        params = {"loss_function": built_in}

    def pool(rows: Rows) -> Any:
        start = None if built_in is None else np.full(len(rows.labels), objective.start_)
        return catboost.Pool(readable(rows.features), rows.labels, weight=rows.weights, baseline=start)

    params |= {
        "iterations": task.rounds,
        "learning_rate": task.learning_rate,
        "thread_count": task.threads,
        "random_seed": task.seed,
        "verbose": 0,
        "allow_writing_files": False,
        "leaf_estimation_method": "Newton",
        **task.more,
    }
    held_out = None
    if task.held_out is not None:
        held_out, judge = pool(task.held_out), copy.copy(objective)
        if built_in is not None:
            judge.start_ = 0.0  # the scores of a Pool with a baseline are whole margins
        params |= {
            "eval_metric": module.FocalMetric(judge, "log_loss"),
            "early_stopping_rounds": task.patience,
            "use_best_model": True,
        }
    model = catboost.CatBoost(params).fit(pool(task.rows), eval_set=held_out)
    trees = catboost.CatBoost().load_model(blob=model._serialize_model())
    return Trained(trees, objective, model.tree_count_)


def catboost_margins(trained: Trained, features: Any) -> np.ndarray:
    scores = trained.booster.predict(readable(features), prediction_type="RawFormulaVal")
    return np.asarray(scores) + trained.objective.start_


def catboost_importances(trained: Trained) -> np.ndarray:
    return np.asarray(trained.booster.get_feature_importance())


ENGINES = {
    engine.name: engine
    for engine in (
        Engine("lightgbm", train_lightgbm, lightgbm_margins, lightgbm_importances),
        Engine("xgboost", train_xgboost, xgboost_margins, xgboost_importances),
        Engine("catboost", train_catboost, catboost_margins, catboost_importances),
    )
}
