"""LightGBM: objective and metric as it calls them, and its training loop.  `parfocal.lightgbm` is public."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from parfocal.boosters import lightgbm_trees
from parfocal.boosters.gradients import Pair
from parfocal.boosters.lightgbm_trees import Trees
from parfocal.boosters.objective import Metric, Objective
from parfocal.boosters.parameters import (
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
from parfocal.boosters.training import BestRound, Engine, Rows, Stopped, Task, Trained, csr_matrix


class FocalObjective(Objective):
    """`params["objective"]` of `lightgbm.train`, or `objective=` of its estimators.  See `parfocal.boosters.Objective`.

    Sample weights are those of the Dataset.  For several labels a row (`multi_label=True`, or shares of classes) give
    them as `labels=`; LightGBM's own may then be anything.

    >>> import lightgbm as lgb
    >>> rows, labels = np.arange(200.0)[:, None], np.arange(200) % 40 == 0
    >>> objective = FocalObjective(gamma=2.0)
    >>> params = {**objective.params(labels), "num_leaves": 4, "verbosity": -1}
    >>> print(round(objective.start_, 3))  # the margin that means 2.5 %
    -1.364
    >>> booster = lgb.train(params, lgb.Dataset(rows, labels), 5)
    >>> objective.posterior(booster.predict(rows, raw_score=True)).shape
    (200,)
    """

    def params(self, labels: Any = None, sample_weight: Any = None, num_class: int | None = None) -> dict[str, Any]:
        """This objective among LightGBM's parameters, once it knows where to start.  LightGBM trains with a copy.

        labels : of the training rows; not needed where the objective has a prior.
        num_class : of a softmax; found from labels with more than two classes.
        """
        start = self.learn_prior(labels, sample_weight, num_class)
        columns = len(start) if start.ndim else 1
        if self.multi_label and not start.ndim:
            if self.labels is None:
                raise ValueError("several labels a row need their matrix, labels=..., or one prior for each of them")
            columns = self.labels.shape[1]
        return {"objective": self, **({"num_class": columns} if columns > 1 else {})}

    def __call__(self, first: Any, second: Any, sample_weight: Any = None) -> Pair:
        """(scores, Dataset), as `lightgbm.train` calls it, or (labels, scores, weights), as its estimators do."""
        scores, labels, sample_weight = unpack_call(first, second, sample_weight)
        return self.terms(scores + self.known_start(), labels if self.labels is None else self.labels, sample_weight)

    def factor(self, classes: int) -> float:
        """LightGBM's own softmax has it too (Friedman 2001)."""
        return classes / (classes - 1)

    def margins(self, scores: Any) -> np.ndarray:
        return super().margins(scores) + self.known_start()


def unpack_call(first: Any, second: Any, sample_weight: Any) -> tuple[np.ndarray, Any, Any]:
    """Scores, labels and weights of either call."""
    import lightgbm as lgb  # LightGBM calls, so it is there

    if isinstance(second, lgb.Dataset):
        continued = getattr(second, "_predictor", None) is not None  # init_model= has put its scores there
        if second.get_init_score() is not None and not continued:
            raise ValueError("the Dataset has an init_score, and the objective adds its own start; leave it out")
        return first, second.get_label(), second.get_weight()
    return second, first, sample_weight


class FocalMetric(Metric):
    """`feval` of `lightgbm.train`, or `eval_metric` of its estimators: smaller is better.

    Where a metric of LightGBM's own is named too, early stopping looks at both.
    See `parfocal.boosters.objective.Metric`.

    >>> metric = FocalMetric(FocalObjective(gamma=2.0, prior=0.5), "log_loss")
    >>> metric(np.asarray([1, 0]), np.asarray([0.0, 0.0]))
    ('posterior_log_loss', 0.6931471805599453, False)
    """

    def __call__(self, first: Any, second: Any, sample_weight: Any = None) -> tuple[str, float, bool]:
        scores, labels, sample_weight = unpack_call(first, second, sample_weight)
        labels = labels if self.labels is None else self.labels
        return self.name, self.value(scores + self.objective.known_start(), labels, sample_weight), False


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


class LightGBM(Engine):
    name = "lightgbm"
    file = "model.txt"
    starts_at_zero = True
    shares_tables = True
    rounds = "num_iterations"
    refused = REFUSED
    focal_objective = FocalObjective

    def check_library(self) -> None:
        if lightgbm_trees.library() is None:
            self.library()

    def parameter_names(self) -> tuple[dict[str, str], bool]:
        return parameter_names()

    def impossible(self, params: Mapping[str, Any], early_stopping: bool) -> str:
        boosting = params.get("boosting")
        if boosting in ("rf", "random_forest"):
            return f"boosting={boosting!r} takes no loss but LightGBM's own; leave it out"
        if boosting == "dart" and early_stopping:
            return (
                "boosting='dart' rescales earlier trees, so there is no going back to the best round; leave it out, or "
                "set early_stopping_rounds=None"
            )
        return ""

    def params(self, task: Task) -> dict[str, Any]:
        return {
            "objective": "none",
            "learning_rate": task.learning_rate,
            "num_leaves": task.max_leaf_nodes,
            "max_delta_step": task.max_delta_step,
            "num_threads": task.threads,
            "seed": task.seed,
            "deterministic": True,
            "force_col_wise": not task.engine_params.get("force_row_wise"),
            "feature_pre_filter": False,  # LightGBM aborts if it filters all features out, as in tables of 40 rows
            "verbosity": -1,
            "metric": "none",
            **task.engine_params,
        }

    def table(self, task: Task) -> Any:
        return self.binned(task.rows, task, None)

    def binned(self, rows: Rows, task: Task, reference: Any) -> Any:
        """Rows in bins of their own, or in those of another table."""
        table = (
            self.library()
            .Dataset(
                csr_matrix(rows.features),
                rows.labels,
                weight=rows.weights,
                categorical_feature=list(rows.categorical),
                reference=reference,
                params=self.params(task),
            )
            .construct()
        )
        if all(table.feature_num_bin(place) < 2 for place in range(table.num_feature())):  # LightGBM would abort
            raise ValueError(
                "every feature is constant in the rows that are trained on; there is nothing to learn from X"
            )
        return table

    def part(self, table: Any, rows: np.ndarray) -> Any:
        """Its bins are those of the whole table, so parts fit together."""
        return table.subset(rows).construct()

    def train(self, task: Task) -> Trained:
        lgb, rows = self.library(), task.rows
        objective, params = self.begin(task)
        del params["objective"]  # it is handed over at each round
        if task.tables is not None:
            train, held_out = task.tables
        else:
            train = self.table(task)
            held_out = None if task.held_out is None else self.binned(task.held_out, task, train)
        booster = lgb.Booster({**params, **self.params(task)}, train)
        if task.held_out is not None:
            booster.add_valid(held_out, "held_out")
        best = BestRound(task, objective)
        seen: list[np.ndarray] = []

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
            # True: no split is left that helps
            finished = booster.update(fobj=lambda scores, _: objective(rows.labels, scores, rows.weights))
            if best.after_round(number, margins, finished or number == task.rounds):
                break
        trees = lgb.Booster(model_str=booster.model_to_string(num_iteration=best.rounds or None))
        return Trained(trees, objective, trees.current_iteration(), best.margins)

    def scores(self, booster: Any, features: Any) -> np.ndarray:
        if isinstance(booster, Trees):
            return booster.scores(features)
        return np.asarray(booster.predict(csr_matrix(features), raw_score=True), dtype=np.float64)

    def contributions(self, booster: Any, features: np.ndarray) -> np.ndarray:
        width = features.shape[1] + 1
        if isinstance(booster, Trees):
            found = booster.contributions(features)
        else:
            found = np.asarray(booster.predict(features, pred_contrib=True), dtype=np.float64)
        by_class = np.moveaxis(found.reshape(len(features), found.shape[1] // width, width), 1, 2)
        return by_class[..., 0] if by_class.shape[2] == 1 else by_class

    def importances(self, booster: Any) -> np.ndarray:
        return np.asarray(self.whole(booster).feature_importance("gain"))

    def features(self, booster: Any) -> int:
        return booster.features if isinstance(booster, Trees) else int(booster.num_feature())

    def named(self, booster: Any, names: Sequence[str]) -> Any:
        """LightGBM takes names with a table alone, so they go into the line of its text that has them."""
        head, line, trees = self.whole(booster).model_to_string().partition("\nfeature_names=")
        return self.library().Booster(model_str=f"{head}{line}{' '.join(names)}\n{trees.partition(chr(10))[2]}")

    def dump(self, booster: Any) -> bytes:
        return bytes(self.whole(booster).model_to_string().encode())

    def load(self, data: bytes) -> Any:
        """Without LightGBM's package, where its C library can be opened."""
        return self.library().Booster(model_str=data.decode()) if lightgbm_trees.library() is None else Trees(data)

    def whole(self, booster: Any) -> Any:
        """As LightGBM's package has it, with all that it can do."""
        return booster.booster if isinstance(booster, Trees) else booster


@cache
def parameter_names() -> tuple[dict[str, str], bool]:
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
