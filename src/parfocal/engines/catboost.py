"""CatBoost."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from parfocal.engines.parameters import (
    CATEGORICAL,
    CLASS_WEIGHT,
    ELSEWHERE,
    LOSS,
    METRIC,
    START,
    STOPPING,
    refused,
)
from parfocal.engines.task import Engine, Parameters, Rows, Score, Stopped, Task, Trained, begun, readable, scoring

REFUSED = {
    **refused(LOSS, "loss_function classes_count class_names target_border"),
    **refused(START, "boost_from_average"),
    **refused(CLASS_WEIGHT, "class_weights auto_class_weights scale_pos_weight"),
    **refused(STOPPING, "od_wait od_type od_pval use_best_model eval_fraction"),
    **refused(METRIC, "eval_metric custom_metric"),
    **refused(CATEGORICAL, "cat_features"),
    **refused(
        "features are numbers and categories here; make numbers of text and of embeddings first",
        "text_features embedding_features tokenizers dictionaries feature_calcers text_processing",
    ),
    **refused(ELSEWHERE, "callback"),
}
SYNONYMS = {
    "objective": "loss_function",
    "n_estimators": "iterations",
    "num_boost_round": "iterations",
    "num_trees": "iterations",
    "eta": "learning_rate",
    "random_state": "random_seed",
    "reg_lambda": "l2_leaf_reg",
    "max_depth": "depth",
    "colsample_bylevel": "rsm",
    "max_bin": "border_count",
    "early_stopping_rounds": "od_wait",
    "custom_loss": "custom_metric",
    "min_child_samples": "min_data_in_leaf",
    "num_leaves": "max_leaves",
}


@cache
def catboost_names() -> tuple[dict[str, str], bool]:
    """From the installed library: what its estimators take."""
    import catboost

    estimators = catboost.CatBoostClassifier, catboost.CatBoostRegressor, catboost.CatBoostRanker
    names = {name for estimator in estimators for name in inspect.signature(estimator).parameters}
    return {name: SYNONYMS.get(name, name) for name in names | set(SYNONYMS) | set(SYNONYMS.values())}, True


def catboost_features(features: Any, categorical: Sequence[int], names: Sequence[str] | None = None) -> Any:
    """CatBoost takes categories as whole numbers alone, in a frame with its names; missing ones are a category."""
    if not len(categorical):
        return readable(features)
    import pandas as pd

    codes = {place: np.nan_to_num(features[:, place], nan=-1.0).astype(np.int32) for place in categorical}
    frame = pd.DataFrame({place: codes.get(place, features[:, place]) for place in range(features.shape[1])})
    return frame if names is None else frame.set_axis(list(names), axis="columns")


class CatBoostScore:
    """A `Score` as CatBoost's eval_metric."""

    no_jit = True  # CatBoost would hand it to numba

    def __init__(self, score: Score, start: Any, held_out: Rows | None) -> None:
        self.score, self.start, self.rows = score, start, len(held_out.labels) if held_out else -1

    def is_max_optimal(self) -> bool:
        return True

    def evaluate(self, scores: Any, labels: Any, weights: Any) -> tuple[float, float]:
        if len(labels) != self.rows:  # it asks for training rows too, where nobody looks
            return 0.0, 1.0
        margins = np.stack([np.asarray(column) for column in scores], axis=1) + self.start
        margins = margins[:, 0] if margins.shape[1] == 1 else margins
        return self.score(margins, np.asarray(labels), None if weights is None else np.asarray(weights)), 1.0

    def get_final_error(self, error: float, weight: float) -> float:
        return error / (weight or 1.0)


class CatBoostStop:
    """A callback that is asked after each round."""

    def __init__(self, stop: Callable[[], bool]) -> None:
        self.stop, self.stopped = stop, False

    def after_iteration(self, _: Any) -> bool:
        self.stopped = self.stop()
        return not self.stopped


def train_catboost(task: Task) -> Trained:
    import catboost

    objective, params = begun(task, "catboost")
    built_in = objective.built_in  # the same loss, in C++
    start = objective.start_
    if built_in is not None:
        params, start = {"loss_function": built_in}, 0.0  # scores of a Pool with a baseline are whole margins

    def pool(rows: Rows) -> Any:
        baseline = None if built_in is None else np.full(len(rows.labels), objective.start_)
        features = catboost_features(rows.features, task.categorical)
        places = list(task.categorical) or None
        return catboost.Pool(features, rows.labels, cat_features=places, weight=rows.weights, baseline=baseline)

    params |= {
        "iterations": task.rounds,
        "learning_rate": task.learning_rate,
        "thread_count": task.threads,
        "random_seed": task.seed,
        **({} if task.more.keys() & {"silent", "logging_level"} else {"verbose": 0}),  # CatBoost takes one of them
        "allow_writing_files": False,
        "leaf_estimation_method": "Newton",
        "eval_metric": CatBoostScore(scoring(task, objective), start, task.held_out),
        **task.more,
    }
    held_out = None
    if task.held_out is not None:
        held_out = pool(task.held_out)
        params |= {"early_stopping_rounds": task.patience, "use_best_model": True}
    watch = CatBoostStop(task.stop)
    model = catboost.CatBoost(params).fit(pool(task.rows), eval_set=held_out, callbacks=[watch])
    if watch.stopped:
        raise Stopped
    trees = catboost.CatBoost().load_model(blob=model._serialize_model())
    return Trained(trees, objective, model.tree_count_)


def catboost_scores(booster: Any, features: Any) -> np.ndarray:
    features = catboost_features(features, booster.get_cat_feature_indices(), booster.feature_names_)
    return np.asarray(booster.predict(features, prediction_type="RawFormulaVal"), dtype=np.float64)


def load_catboost(data: bytes) -> Any:
    import catboost

    return catboost.CatBoost().load_model(blob=data)


def named_catboost(booster: Any, names: Sequence[str]) -> Any:
    named = booster.copy()
    named.set_feature_names(list(names))
    return named


ENGINE = Engine(
    "catboost",
    train_catboost,
    catboost_scores,
    starts_at_zero=True,
    importances=lambda booster: np.asarray(booster.get_feature_importance()),
    file="booster.cbm",
    load=load_catboost,
    dump=lambda booster: booster._serialize_model(),
    features=lambda booster: len(booster.feature_names_),
    named=named_catboost,
    parameters=Parameters(catboost_names, REFUSED, "iterations", lambda given, early_stopping: ""),
)
