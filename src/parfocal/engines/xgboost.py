"""XGBoost."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np

from parfocal.engines.parameters import (
    CATEGORICAL,
    CLASS_WEIGHT,
    ELSEWHERE,
    LOSS,
    METRIC,
    OTHER_LOSS,
    START,
    STOPPING,
    refused,
)
from parfocal.engines.task import BestRound, Engine, Parameters, Rows, Stopped, Task, Trained, begun

REFUSED = {
    **refused(LOSS, "objective num_class num_target base_score"),
    **refused(START, "boost_from_average"),
    **refused(CLASS_WEIGHT, "scale_pos_weight"),
    **refused(STOPPING, "early_stopping_rounds callbacks evals evals_result"),
    **refused(METRIC, "eval_metric custom_metric feval maximize disable_default_eval_metric verbose_eval"),
    **refused(CATEGORICAL, "enable_categorical feature_types"),
    **refused(OTHER_LOSS, "tweedie_variance_power huber_slope quantile_alpha expectile_alpha ndcg_exp_gain"),
    **refused(OTHER_LOSS, "aft_loss_distribution aft_loss_distribution_scale lambdarank_pair_method"),
    **refused(OTHER_LOSS, "lambdarank_num_pair_per_sample lambdarank_normalization lambdarank_score_normalization"),
    **refused(OTHER_LOSS, "lambdarank_unbiased lambdarank_bias_norm"),
    **refused("missing values are NaN", "missing"),
    **refused("feature_importances_ are gains", "importance_type"),
    **refused(ELSEWHERE, "feature_weights xgb_model"),
}
ALIASES = {
    "learning_rate": "eta",
    "reg_lambda": "lambda",
    "reg_alpha": "alpha",
    "min_split_loss": "gamma",
    "n_jobs": "nthread",
    "random_state": "seed",
    "num_boost_round": "n_estimators",
    "obj": "objective",
}


@cache
def xgboost_names() -> tuple[dict[str, str], bool]:
    """From the installed library: the settings that boosters of each kind show, and the estimators' arguments."""
    import xgboost as xgb

    arguments = {*inspect.signature(xgb.XGBModel).parameters, *inspect.signature(xgb.train).parameters}
    names = arguments - {"kwargs", "params", "dtrain"} | set(ALIASES) | set(ALIASES.values()) | set(REFUSED)
    table = xgb.DMatrix(np.zeros((2, 1)), [0, 1])
    kinds: list[dict[str, Any]] = [{}, {"booster": "dart"}, {"booster": "gblinear", "updater": "coord_descent"}]
    for kind in kinds:
        names |= set(settings(json.loads(xgb.Booster({**kind, "verbosity": 0}, [table]).save_config())))
    return {name: ALIASES.get(name, name) for name in names}, True


def settings(config: Any, within: str = "") -> Iterator[str]:
    """The names below "..._param" in a booster's configuration, but for what describes the model."""
    for name, value in config.items() if isinstance(config, dict) else ():
        if isinstance(value, list):
            for part in value:
                yield from settings(part)
        elif isinstance(value, dict):
            yield from settings(value, name)
        elif (within.endswith("_param") and not within.endswith("model_param")) or name == "num_parallel_tree":
            yield name


def xgboost_impossible(given: dict[str, Any], early_stopping: bool) -> str:
    booster = given.get("booster")
    if booster == "gblinear":
        return "booster='gblinear' has no trees; for a linear model take FocalLogisticRegression"
    if booster == "dart" and early_stopping:
        return (
            "booster='dart' rescales earlier trees, so there is no going back to the best round; leave it out, or set "
            "early_stopping_rounds=None"
        )
    return ""


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

    exact = task.more.get("tree_method") == "exact" or "grow_colmaker" in str(task.more.get("updater"))
    objective, params = begun(task, "xgboost")
    params |= {
        "eta": task.learning_rate,
        "max_leaves": task.max_leaf_nodes,
        "max_delta_step": task.longest_step,
        # The exact method grows level by level, to a depth that must be limited.
        **({} if exact else {"max_depth": 0, "grow_policy": "lossguide"}),
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
        try:
            booster.update(tables[0], number - 1, fobj=objective)
        except xgb.core.XGBoostError as error:
            refuse_categories(task, error)
            raise
        if best.look(number, margins, number == task.rounds):
            break
    rounds = best.rounds or number
    return Trained(booster[:rounds], objective, rounds, best.margins)


def refuse_categories(task: Task, error: Exception) -> None:
    """Names what XGBoost cannot do with categories, which depends on its version."""
    chosen = {name: task.more[name] for name in ("tree_method", "updater", "multi_strategy") if name in task.more}
    if task.categorical and chosen and "categorical" in str(error).lower():
        given = " and ".join(f"{name}={value!r}" for name, value in chosen.items())
        raise ValueError(
            f"XGBoost cannot train with {given} in engine_params on columns of categories; leave "
            f"{'it' if len(chosen) == 1 else 'them'} out (tree_method='hist' and 'approx' know categories), or make "
            "numbers of the categories, with sklearn.preprocessing.OrdinalEncoder or OneHotEncoder"
        ) from error


def xgboost_scores(booster: Any, features: Any) -> np.ndarray:
    import xgboost as xgb

    types = booster.feature_types
    table = xgb.DMatrix(in_float32(features), feature_types=types, enable_categorical=types is not None)
    return np.asarray(booster.predict(table, output_margin=True, validate_features=False), dtype=np.float64)


def xgboost_importances(booster: Any) -> np.ndarray:
    gains = booster.get_score(importance_type="total_gain")
    names = booster.feature_names or [f"f{k}" for k in range(booster.num_features())]
    return np.asarray([gains.get(name, 0.0) for name in names])


def named_xgboost(booster: Any, names: Sequence[str]) -> Any:
    booster = booster.copy()
    booster.feature_names = list(names)
    return booster


def load_xgboost(data: bytes) -> Any:
    import xgboost as xgb

    return xgb.Booster(model_file=bytearray(data))


ENGINE = Engine(
    "xgboost",
    train_xgboost,
    xgboost_scores,
    starts_at_zero=False,
    importances=xgboost_importances,
    file="booster.json",
    load=load_xgboost,
    dump=lambda booster: bytes(booster.save_raw("json")),
    features=lambda booster: int(booster.num_features()),
    named=named_xgboost,
    parameters=Parameters(xgboost_names, REFUSED, "n_estimators", xgboost_impossible),
)
