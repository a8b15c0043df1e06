"""LightGBM, XGBoost and CatBoost behind one call: train with a focal loss, stop at the best round, give whole margins.

An engine's `train` takes a `Task` and returns a booster that pickles and has no use for Python's objective any more.
`parfocal.sklearn.FocalBoostingClassifier` and the command line train with it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parfocal.objectives import Metric, Objective

# How well whole margins say the labels of rows with weights; more is better.
Score = Callable[[np.ndarray, np.ndarray, "np.ndarray | None"], float]


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
    categorical: Sequence[int] = ()  # columns of codes, 0 ... and NaN
    score: Score | None = None  # what to stop by; None: the log loss of the posterior
    every: int = 1  # rounds from one score to the next; CatBoost looks at every one
    stop: Callable[[], bool] = lambda: False  # asked before each round; True gives up
    tables: tuple[Any, Any] | None = None  # made by `Engine.table`, where several tasks share them


@dataclass(frozen=True)
class Trained:
    booster: Any
    objective: Objective
    rounds: int


@dataclass(frozen=True)
class Engine:
    name: str
    train: Callable[[Task], Trained]
    raw_scores: Callable[[Any, Any], np.ndarray]  # of a booster and features
    starts_at_zero: bool  # then the start is to be added to raw scores
    importances: Callable[[Any], np.ndarray]
    file: str  # what a saved booster is called
    load: Callable[[Path], Any]
    save: Callable[[Any, Path], Any]
    features: Callable[[Any], int]
    table: Callable[[Rows, Any, Task], Any] | None = None  # rows as tasks can share them; their labels are not used

    def margins(self, booster: Any, start: Any, features: Any) -> np.ndarray:
        scores = self.raw_scores(booster, features)
        return scores + np.asarray(start) if self.starts_at_zero else scores


class Stopped(Exception):
    """The caller gave up."""


class BestRound:
    """Scores held-out rows as training goes on, and says when it has gone on too long."""

    def __init__(self, task: Task, objective: Objective) -> None:
        self.task, self.score, self.rounds, self.best = task, scoring(task, objective), 0, -np.inf

    def look(self, number: int, margins: Callable[[], np.ndarray], last: bool) -> bool:
        """Whether training should end after this round, counted from 1."""
        held_out = self.task.held_out
        if held_out is None or (number % self.task.every and not last):
            return last
        reached = self.score(margins(), held_out.labels, held_out.weights)
        if reached > self.best or not self.rounds:
            self.best, self.rounds = reached, number
        return last or number - self.rounds >= self.task.patience


def scoring(task: Task, objective: Objective) -> Score:
    log_loss = Metric(objective, "log_loss").value
    return task.score or (lambda margins, labels, weights: -log_loss(margins, labels, weights))


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


def begun(task: Task, name: str) -> tuple[Any, dict[str, Any]]:
    """The door's objective, and the parameters that go with it."""
    objective = door(name).FocalObjective(**task.objective)
    number = task.classes if task.classes > 2 else None
    return objective, objective.params(task.rows.labels, task.rows.weights, number)


def readable(features: Any) -> Any:
    """LightGBM and CatBoost know SciPy's sparse matrices, but not its sparse arrays, and CatBoost no 64-bit indices."""
    import scipy.sparse

    if not scipy.sparse.issparse(features):
        return features
    parts = features.data, features.indices.astype(np.int32), features.indptr.astype(np.int32)
    return scipy.sparse.csr_matrix(parts, shape=features.shape)


# -- LightGBM


def lightgbm_params(task: Task) -> dict[str, Any]:
    return {
        "objective": "none",
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


def lightgbm_table(rows: Rows, reference: Any, task: Task) -> Any:
    import lightgbm as lgb

    table = lgb.Dataset(
        readable(rows.features),
        rows.labels,
        weight=rows.weights,
        categorical_feature=list(task.categorical),
        reference=reference,
        params=lightgbm_params(task),
    ).construct()
    if all(table.feature_num_bin(place) < 2 for place in range(table.num_feature())):  # and here it would abort too
        raise ValueError("every feature is constant in the rows that are trained on; there is nothing to learn from X")
    return table


def train_lightgbm(task: Task) -> Trained:
    import lightgbm as lgb

    objective, params = begun(task, "lightgbm")
    train, held_out = task.tables or (lightgbm_table(task.rows, None, task), None)
    booster = lgb.Booster({**params, **lightgbm_params(task)}, train)
    if task.held_out is not None:
        booster.add_valid(lightgbm_table(task.held_out, train, task) if held_out is None else held_out, "held_out")
    best = BestRound(task, objective)
    seen: list[np.ndarray] = []

    def gradients(scores: np.ndarray, _: Any) -> Any:
        return objective.terms(scores + objective.start_, task.rows.labels, task.rows.weights)

    def keep(scores: np.ndarray, _: Any) -> tuple[str, float, bool]:
        seen[:] = [scores + objective.start_]
        return "margins", 0.0, True

    def margins() -> np.ndarray:
        """LightGBM keeps the scores of held-out rows up to date, tree by tree, and shows them to metrics."""
        booster.eval_valid(feval=keep)
        return seen[0]

    for number in range(1, task.rounds + 1):
        if task.stop():
            raise Stopped
        finished = booster.update(fobj=gradients)  # no split is left that helps
        if best.look(number, margins, finished or number == task.rounds):
            break
    trees = lgb.Booster(model_str=booster.model_to_string(num_iteration=best.rounds or None))
    return Trained(trees, objective, trees.current_iteration())


def lightgbm_scores(booster: Any, features: Any) -> np.ndarray:
    return np.asarray(booster.predict(readable(features), raw_score=True), dtype=np.float64)


def load_lightgbm(path: Path) -> Any:
    import lightgbm as lgb

    return lgb.Booster(model_str=path.read_text(encoding="utf-8"))


def save_lightgbm(booster: Any, path: Path) -> None:
    path.write_text(booster.model_to_string(), encoding="utf-8", newline="\n")


# -- XGBoost


def in_float32(features: Any) -> Any:
    """XGBoost takes what float32 makes infinite for a mistake; the largest float32 has the same place in the order."""
    if not isinstance(features, np.ndarray):
        return features
    largest = np.finfo(np.float32).max
    return np.clip(features, -largest, largest)


def xgboost_table(rows: Rows, categorical: Sequence[int]) -> Any:
    import xgboost as xgb

    types = ["c" if place in categorical else "q" for place in range(rows.features.shape[1])] if categorical else None
    features, known = in_float32(rows.features), bool(categorical)
    return xgb.DMatrix(features, rows.labels, weight=rows.weights, feature_types=types, enable_categorical=known)


def train_xgboost(task: Task) -> Trained:
    import xgboost as xgb

    objective, params = begun(task, "xgboost")
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
    parts = [rows for rows in (task.rows, task.held_out) if rows is not None]
    tables = [xgboost_table(rows, task.categorical) for rows in parts]
    booster = xgb.Booster(params, tables)  # keeps the margins of these tables up to date, tree by tree
    best = BestRound(task, objective)

    def margins() -> np.ndarray:
        return np.asarray(booster.predict(tables[1], output_margin=True))

    for number in range(1, task.rounds + 1):
        if task.stop():
            raise Stopped
        booster.update(tables[0], number - 1, fobj=objective)
        if best.look(number, margins, number == task.rounds):
            break
    rounds = best.rounds or number
    return Trained(booster[:rounds], objective, rounds)


def xgboost_scores(booster: Any, features: Any) -> np.ndarray:
    import xgboost as xgb

    types = booster.feature_types
    table = xgb.DMatrix(in_float32(features), feature_types=types, enable_categorical=types is not None)
    return np.asarray(booster.predict(table, output_margin=True, validate_features=False), dtype=np.float64)


def xgboost_importances(booster: Any) -> np.ndarray:
    gains = booster.get_score(importance_type="total_gain")
    return np.asarray([gains.get(f"f{k}", 0.0) for k in range(booster.num_features())])


def load_xgboost(path: Path) -> Any:
    import xgboost as xgb

    return xgb.Booster(model_file=str(path))


# -- CatBoost


def catboost_features(features: Any, categorical: Sequence[int]) -> Any:
    """CatBoost takes categories as whole numbers alone, in a frame; missing ones are a category."""
    if not len(categorical):
        return readable(features)
    import pandas as pd

    codes = {place: np.nan_to_num(features[:, place], nan=-1.0).astype(np.int32) for place in categorical}
    return pd.DataFrame({place: codes.get(place, features[:, place]) for place in range(features.shape[1])})


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
        "verbose": 0,
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
    features = catboost_features(features, booster.get_cat_feature_indices())
    return np.asarray(booster.predict(features, prediction_type="RawFormulaVal"), dtype=np.float64)


def load_catboost(path: Path) -> Any:
    import catboost

    return catboost.CatBoost().load_model(str(path))


ENGINES = {
    engine.name: engine
    for engine in (
        Engine(
            "lightgbm",
            train_lightgbm,
            lightgbm_scores,
            starts_at_zero=True,
            importances=lambda booster: np.asarray(booster.feature_importance("gain")),
            file="model.txt",
            load=load_lightgbm,
            save=save_lightgbm,
            features=lambda booster: int(booster.num_feature()),
            table=lightgbm_table,
        ),
        Engine(
            "xgboost",
            train_xgboost,
            xgboost_scores,
            starts_at_zero=False,
            importances=xgboost_importances,
            file="booster.json",
            load=load_xgboost,
            save=lambda booster, path: booster.save_model(str(path)),
            features=lambda booster: int(booster.num_features()),
        ),
        Engine(
            "catboost",
            train_catboost,
            catboost_scores,
            starts_at_zero=True,
            importances=lambda booster: np.asarray(booster.get_feature_importance()),
            file="booster.cbm",
            load=load_catboost,
            save=lambda booster, path: booster.save_model(str(path)),
            features=lambda booster: len(booster.feature_names_),
        ),
    )
}
