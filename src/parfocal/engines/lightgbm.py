"""LightGBM."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from parfocal.engines.parameters import (
    ALPHA,
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
from parfocal.engines.task import BestRound, Engine, Parameters, Rows, Stopped, Task, Trained, begun, readable

REFUSED = {
    **refused(LOSS, "objective num_class"),
    **refused(START, "boost_from_average"),
    **refused(CLASS_WEIGHT, "is_unbalance scale_pos_weight"),
    # LightGBM asks its own objective how many positives there are; with another one it samples all rows alike.
    **refused(f"{CLASS_WEIGHT}, or bagging_fraction", "pos_bagging_fraction neg_bagging_fraction"),
    **refused(ALPHA, "alpha"),
    **refused(STOPPING, "early_stopping_round early_stopping_min_delta first_metric_only"),
    **refused(METRIC, "metric metric_freq is_provide_training_metric eval_at multi_error_top_k auc_mu_weights"),
    **refused(CATEGORICAL, "categorical_feature"),
    **refused(OTHER_LOSS, "sigmoid reg_sqrt fair_c poisson_max_delta_step tweedie_variance_power label_gain"),
    **refused(OTHER_LOSS, "lambdarank_truncation_level lambdarank_norm lambdarank_position_bias_regularization"),
    **refused(OTHER_LOSS, "objective_seed bagging_by_query"),
    # its command line, its files, its clusters, its predictions
    **refused(ELSEWHERE, "config task data valid input_model output_model output_result snapshot_freq save_binary"),
    **refused(ELSEWHERE, "header label_column weight_column group_column ignore_column two_round parser_config_file"),
    **refused(ELSEWHERE, "precise_float_parser convert_model convert_model_language refit_decay_rate"),
    **refused(ELSEWHERE, "num_machines machines machine_list_filename local_listen_port time_out pre_partition"),
    **refused(ELSEWHERE, "start_iteration_predict num_iteration_predict predict_raw_score predict_leaf_index"),
    **refused(ELSEWHERE, "predict_contrib predict_disable_shape_check pred_early_stop pred_early_stop_freq"),
    **refused(ELSEWHERE, "pred_early_stop_margin"),
}

# Used only where LightGBM does not tell its aliases: those of parameters that we set, and the most common refused ones.
FEW_ALIASES = {
    "num_iterations": "num_iteration n_iter num_tree num_trees num_round num_rounds nrounds num_boost_round "
    "n_estimators max_iter",
    "learning_rate": "shrinkage_rate eta",
    "num_leaves": "num_leaf max_leaves max_leaf max_leaf_nodes",
    "max_delta_step": "max_tree_output max_leaf_output",
    "num_threads": "num_thread nthread nthreads n_jobs",
    "seed": "random_seed random_state",
    "verbosity": "verbose",
    "boosting": "boosting_type boost",
    "force_row_wise": "",
    "objective": "objective_type app application loss",
    "num_class": "num_classes",
    "is_unbalance": "unbalance unbalanced_sets",
    "early_stopping_round": "early_stopping_rounds early_stopping n_iter_no_change",
    "metric": "metrics metric_types",
    "categorical_feature": "cat_feature categorical_column cat_column categorical_features",
}


@cache
def lightgbm_names() -> tuple[dict[str, str], bool]:
    """From the installed library: its C API dumps all names, but only a private class of its package calls that."""
    try:
        from lightgbm.basic import _ConfigAliases

        groups = dict(_ConfigAliases._get_all_param_aliases())
        complete = "num_iterations" in groups and len(groups) > 100
    except Exception:  # the private class has changed
        groups, complete = {}, False
    if not complete:
        groups = {name: others.split() for name, others in FEW_ALIASES.items()}
    return {other: name for name, others in groups.items() for other in (*others, name)}, complete


def lightgbm_impossible(given: dict[str, Any], early_stopping: bool) -> str:
    boosting = given.get("boosting")
    if boosting in ("rf", "random_forest"):
        return f"boosting={boosting!r} takes no loss but LightGBM's own; leave it out"
    if boosting == "dart" and early_stopping:
        return (
            "boosting='dart' rescales earlier trees, so there is no going back to the best round; leave it out, or set "
            "early_stopping_rounds=None"
        )
    return ""


def lightgbm_params(task: Task) -> dict[str, Any]:
    return {
        "objective": "none",
        "learning_rate": task.learning_rate,
        "num_leaves": task.max_leaf_nodes,
        "max_delta_step": task.longest_step,
        "num_threads": task.threads,
        "seed": task.seed,
        "deterministic": True,
        "force_col_wise": not task.more.get("force_row_wise"),
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


def lightgbm_part(table: Any, rows: np.ndarray) -> Any:
    """Its bins are those of the whole table, so parts fit together."""
    return table.subset(rows).construct()


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
    return Trained(trees, objective, trees.current_iteration(), best.margins)


def lightgbm_scores(booster: Any, features: Any) -> np.ndarray:
    return np.asarray(booster.predict(readable(features), raw_score=True), dtype=np.float64)


def load_lightgbm(data: bytes) -> Any:
    import lightgbm as lgb

    return lgb.Booster(model_str=data.decode())


def named_lightgbm(booster: Any, names: Sequence[str]) -> Any:
    """LightGBM takes names with a table alone, so they go into the line of its text that has them."""
    import lightgbm as lgb

    head, line, trees = booster.model_to_string().partition("\nfeature_names=")
    return lgb.Booster(model_str=f"{head}{line}{' '.join(names)}\n{trees.partition(chr(10))[2]}")


ENGINE = Engine(
    "lightgbm",
    train_lightgbm,
    lightgbm_scores,
    starts_at_zero=True,
    importances=lambda booster: np.asarray(booster.feature_importance("gain")),
    file="model.txt",
    load=load_lightgbm,
    dump=lambda booster: booster.model_to_string().encode(),
    features=lambda booster: int(booster.num_feature()),
    named=named_lightgbm,
    parameters=Parameters(lightgbm_names, REFUSED, "num_iterations", lightgbm_impossible),
    table=lambda task: lightgbm_table(task.rows, None, task),
    part=lightgbm_part,
)
