"""LightGBM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from parfocal.engines.task import BestRound, Engine, Rows, Stopped, Task, Trained, begun, readable


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


def lightgbm_tables(task: Task) -> tuple[Any, Any]:
    """Rows to train with and, where there are any, to stop by, in the same bins."""
    table = lightgbm_table(task.rows, None, task)
    return table, None if task.held_out is None else lightgbm_table(task.held_out, table, task)


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
    train, held_out = task.tables or lightgbm_tables(task)
    booster = lgb.Booster({**params, **lightgbm_params(task)}, train)
    if task.held_out is not None:
        booster.add_valid(held_out, "held_out")
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


ENGINE = Engine(
    "lightgbm",
    train_lightgbm,
    lightgbm_scores,
    starts_at_zero=True,
    importances=lambda booster: np.asarray(booster.feature_importance("gain")),
    file="model.txt",
    load=load_lightgbm,
    save=save_lightgbm,
    features=lambda booster: int(booster.num_feature()),
    tables=lightgbm_tables,
)
