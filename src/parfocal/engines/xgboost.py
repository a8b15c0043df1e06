"""XGBoost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from parfocal.engines.task import BestRound, Engine, Rows, Stopped, Task, Trained, begun


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


ENGINE = Engine(
    "xgboost",
    train_xgboost,
    xgboost_scores,
    starts_at_zero=False,
    importances=xgboost_importances,
    file="booster.json",
    load=load_xgboost,
    save=lambda booster, path: booster.save_model(str(path)),
    features=lambda booster: int(booster.num_features()),
)
