"""CatBoost: objective and metric as it calls them, and its training loop.  `parfocal.catboost` is public."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from parfocal.boosters.objective import Metric, Objective
from parfocal.boosters.parameters import (
    CATEGORICAL,
    CLASS_WEIGHT,
    ELSEWHERE,
    LOSS,
    METRIC,
    START,
    STOPPING,
    refused,
)
from parfocal.boosters.training import Engine, Rows, Score, Stopped, Task, Trained, csr_matrix, scoring


class FocalObjective(Objective):
    """`loss_function` of CatBoost.  See `parfocal.boosters.Objective`; sample weights are those of the Pool.

    >>> import catboost
    >>> rows, labels = np.arange(200.0)[:, None], np.arange(200) % 40 == 0
    >>> objective = FocalObjective(gamma=2.0)
    >>> few = {"iterations": 5, "verbose": 0, "allow_writing_files": False}
    >>> model = catboost.CatBoost({**objective.params(labels), **few}).fit(rows, labels)
    >>> objective.posterior(model.predict(rows)).shape
    (200,)
    """

    no_jit = True  # CatBoost would hand it to numba, which does not know our kernels
    several_labels = False  # CatBoost calls its own kind of class then

    def __init__(self, *arguments: Any, **named: Any) -> None:
        if named.get("labels") is not None:
            raise ValueError(
                "CatBoost asks for a few rows at a time, so labels must lie in the Pool; leave labels= out"
            )
        if named.get("multi_label") and not self.several_labels:
            raise ValueError("for several labels a row take MultiLabelFocalObjective: CatBoost knows them by the class")
        super().__init__(*arguments, **named)

    def params(self, labels: Any = None, sample_weight: Any = None, num_class: int | None = None) -> dict[str, Any]:
        """This objective and its metric among CatBoost's parameters, once it knows where to start.

        labels : of the training rows; not needed where the objective has a prior.
        num_class : of a softmax; found from labels with more than two classes.
        """
        start = self.learn_prior(labels, sample_weight, num_class)
        softmax = {"classes_count": len(start)} if start.ndim and not self.multi_label else {}
        return {"loss_function": self, "eval_metric": self.metric(), **softmax}

    def metric(self) -> Metric:
        return FocalMetric(self)

    @property
    def built_in(self) -> str | None:
        """CatBoost's own name of this loss, or None where it has none.  It starts at 0: give the Pool `baseline`.

        >>> FocalObjective(gamma=2.0, alpha=0.25, curvature="exact").built_in
        'Focal:focal_alpha=0.25;focal_gamma=2.0'
        """
        plain = not (self.multi_label or self.label_smoothing or isinstance(self.alpha, tuple) or self.alpha is None)
        if not plain or isinstance(self.gamma, tuple) or self.gamma == 0 or self.curvature != "exact":
            return None
        return f"Focal:focal_alpha={self.alpha};focal_gamma={self.gamma}"

    def calc_ders_range(self, scores: Any, labels: Any, sample_weight: Any) -> np.ndarray:
        """First and second derivatives of minus the loss, as CatBoost asks for a block of rows."""
        margins = np.asarray(scores) + self.known_start()
        gradient, curvature = self.terms(margins, np.asarray(labels), sample_weight, np.float64)
        return -np.stack([gradient, curvature], axis=1)

    def calc_ders_multi(self, scores: Any, label: Any, sample_weight: float) -> tuple[np.ndarray, np.ndarray]:
        """The same for a row with one score per class; of the second derivatives the diagonal."""
        margins = (np.asarray(scores) + self.known_start())[None]
        labels = np.atleast_1d(label) if not self.multi_label else np.atleast_2d(label)
        gradient, curvature = self.terms(margins, labels, np.atleast_1d(sample_weight), np.float64)
        return -gradient[0], np.diag(-curvature[0])

    def margins(self, scores: Any) -> np.ndarray:
        return super().margins(scores) + self.known_start()


class CatBoostMetric:
    """What CatBoost asks of every metric."""

    no_jit = True  # CatBoost would hand it to numba

    def get_final_error(self, error: float, weight: float) -> float:
        return error / (weight or 1.0)


def whole_margins(scores: Any, start: Any) -> np.ndarray:
    """Margins, one row a sample, from scores with one row a column and without the start."""
    margins = np.stack([np.asarray(column) for column in scores], axis=1) + start
    return margins[:, 0] if margins.shape[1] == 1 else margins


class FocalMetric(CatBoostMetric, Metric):
    """`eval_metric` of CatBoost: smaller is better.  See `parfocal.boosters.objective.Metric`."""

    def is_max_optimal(self) -> bool:
        return False

    def evaluate(self, scores: Any, labels: Any, sample_weight: Any) -> tuple[float, float]:
        """(The weighted sum, the sum of the weights), of scores with one row a column."""
        margins = whole_margins(scores, self.objective.known_start())
        labels = np.asarray(labels).T if self.labels is None else self.labels
        weight = np.ones(len(margins)) if sample_weight is None else np.asarray(sample_weight)
        total = float(weight.sum())
        return self.value(margins, labels, weight) * total, total


class HeldOutScore(CatBoostMetric):
    """A `Score` as CatBoost's eval_metric: larger is better."""

    def __init__(self, score: Score, start: Any, held_out: Rows | None) -> None:
        self.score, self.start, self.rows = score, start, len(held_out.labels) if held_out else -1

    def is_max_optimal(self) -> bool:
        return True

    def evaluate(self, scores: Any, labels: Any, weights: Any) -> tuple[float, float]:
        if len(labels) != self.rows:  # CatBoost asks for training rows too, whose score nobody reads
            return 0.0, 1.0
        margins = whole_margins(scores, self.start)
        return self.score(margins, np.asarray(labels), None if weights is None else np.asarray(weights)), 1.0


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


class CatBoost(Engine):
    name = "catboost"
    file = "booster.cbm"
    starts_at_zero = True
    rounds = "iterations"
    refused = REFUSED
    focal_objective = FocalObjective

    def parameter_names(self) -> tuple[dict[str, str], bool]:
        return parameter_names()

    def params(self, task: Task) -> dict[str, Any]:
        given = task.engine_params
        params = {
            "iterations": task.rounds,
            "learning_rate": task.learning_rate,
            "thread_count": task.threads,
            "random_seed": task.seed,
            **({} if given.keys() & {"silent", "logging_level"} else {"verbose": 0}),  # CatBoost takes one of them
            "allow_writing_files": False,
            "leaf_estimation_method": "Newton",
            **given,
        }
        if task.held_out is not None:
            params |= {"early_stopping_rounds": task.early_stopping_rounds, "use_best_model": True}
        return params

    def train(self, task: Task) -> Trained:
        catboost = self.library()
        objective, params = self.begin(task)
        built_in = objective.built_in  # the same loss, in C++
        start, baseline = objective.start_, None
        if built_in is not None:
            # The start goes into the Pools, and scores are whole margins.
            params, start, baseline = {"loss_function": built_in}, 0.0, objective.start_
        params["eval_metric"] = HeldOutScore(scoring(task, objective), start, task.held_out)
        held_out = None if task.held_out is None else self.pool(task.held_out, baseline)
        watch = StopAsked(task.stop)
        model = catboost.CatBoost({**params, **self.params(task)})
        model.fit(self.pool(task.rows, baseline), eval_set=held_out, callbacks=[watch])
        if watch.stopped:
            raise Stopped
        return Trained(self.load(model._serialize_model()), objective, model.tree_count_)

    def pool(self, rows: Rows, baseline: Any) -> Any:
        return self.library().Pool(
            feature_table(rows.features, rows.categorical),
            rows.labels,
            cat_features=list(rows.categorical) or None,
            weight=rows.weights,
            baseline=None if baseline is None else np.full(len(rows.labels), baseline),
        )

    def scores(self, booster: Any, features: Any) -> np.ndarray:
        features = feature_table(features, booster.get_cat_feature_indices(), booster.feature_names_)
        return np.asarray(booster.predict(features, prediction_type="RawFormulaVal"), dtype=np.float64)

    def contributions(self, booster: Any, features: np.ndarray) -> np.ndarray:
        categorical = booster.get_cat_feature_indices()
        table = self.library().Pool(
            feature_table(features, categorical, booster.feature_names_), cat_features=list(categorical) or None
        )
        found = np.asarray(booster.get_feature_importance(table, type="ShapValues"), dtype=np.float64)
        return found if found.ndim == 2 else np.moveaxis(found, 1, 2)

    def importances(self, booster: Any) -> np.ndarray:
        return np.asarray(booster.get_feature_importance())

    def features(self, booster: Any) -> int:
        return len(booster.feature_names_)

    def named(self, booster: Any, names: Sequence[str]) -> Any:
        named = booster.copy()
        named.set_feature_names(list(names))
        return named

    def dump(self, booster: Any) -> bytes:
        return bytes(booster._serialize_model())

    def load(self, data: bytes) -> Any:
        return self.library().CatBoost().load_model(blob=data)


def feature_table(features: Any, categorical: Sequence[int], names: Sequence[str] | None = None) -> Any:
    """CatBoost takes categories as whole numbers alone, in a frame with its names; missing ones are a category."""
    if not len(categorical):
        return csr_matrix(features)
    import pandas as pd

    codes = {place: np.nan_to_num(features[:, place], nan=-1.0).astype(np.int32) for place in categorical}
    frame = pd.DataFrame({place: codes.get(place, features[:, place]) for place in range(features.shape[1])})
    return frame if names is None else frame.set_axis(list(names), axis="columns")


class StopAsked:
    """A callback that is asked after each round."""

    def __init__(self, stop: Callable[[], bool]) -> None:
        self.stop, self.stopped = stop, False

    def after_iteration(self, _: Any) -> bool:
        self.stopped = self.stop()
        return not self.stopped


@cache
def parameter_names() -> tuple[dict[str, str], bool]:
    """From the installed library: what its estimators take."""
    import catboost

    estimators = catboost.CatBoostClassifier, catboost.CatBoostRegressor, catboost.CatBoostRanker
    names = {name for estimator in estimators for name in inspect.signature(estimator).parameters}
    return {name: SYNONYMS.get(name, name) for name in names | set(SYNONYMS) | set(SYNONYMS.values())}, True
