"""XGBoost: objective and metric as it calls them, and its training loop.  `parfocal.xgboost` is public."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from parfocal.boosters.gradients import Pair
from parfocal.boosters.objective import Metric, Objective
from parfocal.boosters.parameters import (
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
from parfocal.boosters.training import BestRound, Engine, Rows, Stopped, Task, Trained


class FocalObjective(Objective):
    """`obj=` of `xgboost.train`, or `objective=` of its estimators.  See `parfocal.boosters.Objective`.

    Sample weights are those of the DMatrix, and so are several labels a row (`multi_label=True`).

    >>> import xgboost as xgb
    >>> rows, labels = np.arange(200.0)[:, None], np.arange(200) % 40 == 0
    >>> objective, table = FocalObjective(gamma=2.0), xgb.DMatrix(rows, labels)
    >>> booster = xgb.train({**objective.params(labels), "max_depth": 2}, table, 5, obj=objective)
    >>> objective.posterior(booster.predict(table, output_margin=True)).shape
    (200,)
    """

    def params(self, labels: Any = None, sample_weight: Any = None, num_class: int | None = None) -> dict[str, Any]:
        """What XGBoost must be told beside `obj`: the link of its own predictions, and where to start.

        XGBoost's estimators take the objective in place of the link: `{**objective.params(y), "objective": objective}`.

        labels : of the training rows; not needed where the objective has a prior.
        num_class : of a softmax; found from labels with more than two classes.

        XGBoost's own predictions then are raw focal scores: sigmoid or softmax of the margins.
        """
        start = self.learn_prior(labels, sample_weight, num_class)
        if start.ndim and not self.multi_label:
            return {"objective": "multi:softprob", "num_class": len(start), "base_score": start.tolist()}
        return {"objective": "binary:logistic", "base_score": (1 / (1 + np.exp(-start))).tolist()}

    def __call__(self, first: Any, second: Any, sample_weight: Any = None) -> Pair:
        """(margins, DMatrix), as `xgboost.train` calls it, or (labels, margins, weights), as its estimators do."""
        self.known_start()
        return self.terms(*unpack_call(first, second, sample_weight, self.labels))

    def factor(self, classes: int) -> float:
        """XGBoost's own softmax has it too."""
        return 2.0


def unpack_call(first: Any, second: Any, sample_weight: Any, own_labels: Any) -> tuple[np.ndarray, Any, Any]:
    """Margins, labels and weights of either call."""
    import xgboost as xgb  # XGBoost calls, so it is there

    margins, labels = second, first
    if isinstance(second, xgb.DMatrix):
        margins, labels, sample_weight = first, second.get_label(), second.get_weight()
        sample_weight = sample_weight if len(sample_weight) else None
    labels = labels if own_labels is None else own_labels
    if margins.ndim == 2 and np.size(labels) == margins.size:  # labels of several columns come in one row
        labels = np.reshape(labels, margins.shape)
    return margins, labels, sample_weight


class FocalMetric(Metric):
    """`custom_metric=` of `xgboost.train`, or `eval_metric=` of its estimators: smaller is better.

    Give XGBoost `disable_default_eval_metric=1` beside it.  Where several workers train it is the mean over the rows of
    all, so every worker must call it, as XGBoost does.  See `parfocal.boosters.objective.Metric`.

    >>> import xgboost as xgb
    >>> metric = FocalMetric(FocalObjective(gamma=2.0, prior=0.5), "log_loss")
    >>> metric(np.zeros(2), xgb.DMatrix(np.zeros((2, 1)), [1, 0]))
    ('posterior_log_loss', 0.6931471805599453)
    """

    @property
    def __name__(self) -> str:  # XGBoost's estimators ask for it
        return self.name

    def __call__(self, first: Any, second: Any, sample_weight: Any = None) -> Any:
        """(name, value) of (margins, DMatrix), as `xgboost.train` calls it; of (labels, margins), the value alone."""
        import xgboost as xgb

        margins, labels, weight = unpack_call(first, second, sample_weight, self.labels)
        rows = len(margins) if weight is None else float(np.sum(weight))
        value = over_workers(self.value(margins, labels, weight), rows)
        return (self.name, value) if isinstance(second, xgb.DMatrix) else value


def over_workers(value: float, weight: float) -> float:
    """The weighted mean of every worker's value, where there are several.

    XGBoost would take their plain mean, in which a worker with few rows counts as much as one with many, and one with
    none counts as a loss of 0.
    """
    from xgboost import collective

    if not collective.is_distributed():
        return value
    total, weights = collective.allreduce(np.asarray([weight * value, weight]), collective.Op.SUM)
    return float(total / weights)


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


class XGBoost(Engine):
    name = "xgboost"
    file = "booster.json"
    starts_at_zero = False
    rounds = "n_estimators"
    refused = REFUSED
    focal_objective = FocalObjective

    def parameter_names(self) -> tuple[dict[str, str], bool]:
        return parameter_names()

    def impossible(self, params: Mapping[str, Any], early_stopping: bool) -> str:
        booster = params.get("booster")
        if booster == "gblinear":
            return "booster='gblinear' has no trees; for a linear model take FocalLogisticRegression"
        if booster == "dart" and early_stopping:
            return (
                "booster='dart' rescales earlier trees, so there is no going back to the best round; leave it out, or "
                "set early_stopping_rounds=None"
            )
        return ""

    def params(self, task: Task) -> dict[str, Any]:
        given = task.engine_params
        exact = given.get("tree_method") == "exact" or "grow_colmaker" in str(given.get("updater"))
        return {
            "eta": task.learning_rate,
            "max_leaves": task.max_leaf_nodes,
            "max_delta_step": task.max_delta_step,
            # The exact method grows level by level, to a depth that must be limited.
            **({} if exact else {"max_depth": 0, "grow_policy": "lossguide"}),
            "tree_method": "hist",
            "nthread": task.threads,
            "seed": task.seed,
            "disable_default_eval_metric": 1,
            "verbosity": 0,
            **given,
        }

    def matrix(self, rows: Rows) -> Any:
        types = None
        if rows.categorical:
            types = ["c" if place in rows.categorical else "q" for place in range(rows.features.shape[1])]
        return self.library().DMatrix(
            in_float32(rows.features),
            rows.labels,
            weight=rows.weights,
            feature_types=types,
            enable_categorical=bool(rows.categorical),
        )

    def train(self, task: Task) -> Trained:
        xgb = self.library()
        objective, params = self.begin(task)
        tables = [self.matrix(rows) for rows in (task.rows, task.held_out) if rows is not None]
        # It keeps the margins of these tables up to date, tree by tree.
        booster = xgb.Booster({**params, **self.params(task)}, tables)
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
            if best.after_round(number, margins, number == task.rounds):
                break
        rounds = best.rounds or number
        return Trained(booster[:rounds], objective, rounds, best.margins)

    def table_for(self, booster: Any, features: Any) -> Any:
        types = booster.feature_types
        return self.library().DMatrix(in_float32(features), feature_types=types, enable_categorical=types is not None)

    def scores(self, booster: Any, features: Any) -> np.ndarray:
        table = self.table_for(booster, features)
        return np.asarray(booster.predict(table, output_margin=True, validate_features=False), dtype=np.float64)

    def contributions(self, booster: Any, features: np.ndarray) -> np.ndarray:
        """XGBoost adds them up in float32."""
        table = self.table_for(booster, features)
        found = np.asarray(booster.predict(table, pred_contribs=True, validate_features=False), dtype=np.float64)
        return found if found.ndim == 2 else np.moveaxis(found, 1, 2)

    def importances(self, booster: Any) -> np.ndarray:
        gains = booster.get_score(importance_type="total_gain")
        names = booster.feature_names or [f"f{k}" for k in range(booster.num_features())]
        return np.asarray([gains.get(name, 0.0) for name in names])

    def features(self, booster: Any) -> int:
        return int(booster.num_features())

    def named(self, booster: Any, names: Sequence[str]) -> Any:
        booster = booster.copy()
        booster.feature_names = list(names)
        return booster

    def dump(self, booster: Any) -> bytes:
        return bytes(booster.save_raw("json"))

    def load(self, data: bytes) -> Any:
        return self.library().Booster(model_file=bytearray(data))


def in_float32(features: Any) -> Any:
    """XGBoost takes what float32 makes infinite for a mistake; the largest float32 has the same place in the order."""
    if not isinstance(features, np.ndarray):
        return features
    largest = np.finfo(np.float32).max
    return np.clip(features, -largest, largest)


def refuse_categories(task: Task, error: Exception) -> None:
    """Names what XGBoost cannot do with categories, which depends on its version."""
    chosen = {
        name: task.engine_params[name]
        for name in ("tree_method", "updater", "multi_strategy")
        if name in task.engine_params
    }
    if task.rows.categorical and chosen and "categorical" in str(error).lower():
        given = " and ".join(f"{name}={value!r}" for name, value in chosen.items())
        raise ValueError(
            f"XGBoost cannot train with {given} in engine_params on columns of categories; leave "
            f"{'it' if len(chosen) == 1 else 'them'} out (tree_method='hist' and 'approx' know categories), or make "
            "numbers of the categories, with sklearn.preprocessing.OrdinalEncoder or OneHotEncoder"
        ) from error


@cache
def parameter_names() -> tuple[dict[str, str], bool]:
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
