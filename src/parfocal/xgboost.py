"""Focal losses as XGBoost's objectives and metrics, for `xgboost.train` and for its scikit-learn estimators.

alpha is off by default; XGBoost adds up what its rows say, so there is no mean to speak of.  XGBoost finds no base
score for a custom objective, so `params` gives it ours; `predict(..., output_margin=True)` then returns whole margins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xgboost as xgb
from xgboost import collective

from parfocal import objectives
from parfocal.boosting import Pair

__all__ = ["FocalMetric", "FocalObjective"]


class FocalObjective(objectives.Objective):
    """`obj=` of `xgboost.train`, or `objective=` of its estimators.  See `objectives.Objective`.

    Sample weights are those of the DMatrix, and so are several labels a row (`multi_label=True`).

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
        return self.terms(*given(first, second, sample_weight, self.labels))

    def factor(self, classes: int) -> float:
        """XGBoost's own softmax has it too."""
        return 2.0


def given(first: Any, second: Any, sample_weight: Any, own_labels: Any) -> tuple[np.ndarray, Any, Any]:
    """Margins, labels and weights of either call."""
    margins, labels = second, first
    if isinstance(second, xgb.DMatrix):
        margins, labels, sample_weight = first, second.get_label(), second.get_weight()
        sample_weight = sample_weight if len(sample_weight) else None
    labels = labels if own_labels is None else own_labels
    if margins.ndim == 2 and np.size(labels) == margins.size:  # labels of several columns come in one row
        labels = np.reshape(labels, margins.shape)
    return margins, labels, sample_weight


class FocalMetric(objectives.Metric):
    """`custom_metric=` of `xgboost.train`, or `eval_metric=` of its estimators: smaller is better.

    Give XGBoost `disable_default_eval_metric=1` beside it.  Where several workers train it is the mean over the rows of
    all, so every worker must call it, as XGBoost does.  See `objectives.Metric`.

    >>> metric = FocalMetric(FocalObjective(gamma=2.0, prior=0.5), "log_loss")
    >>> metric(np.zeros(2), xgb.DMatrix(np.zeros((2, 1)), [1, 0]))
    ('posterior_log_loss', 0.6931471805599453)
    """

    @property
    def __name__(self) -> str:  # XGBoost's estimators ask for it
        return self.name

    def __call__(self, first: Any, second: Any, sample_weight: Any = None) -> Any:
        """(name, value) of (margins, DMatrix), as `xgboost.train` calls it; of (labels, margins), the value alone."""
        margins, labels, weight = given(first, second, sample_weight, self.labels)
        value = self.value(margins, labels, weight)
        if collective.is_distributed():
            value = over_workers(value, len(margins) if weight is None else float(np.sum(weight)))
        return (self.name, value) if isinstance(second, xgb.DMatrix) else value


def over_workers(value: float, weight: float) -> float:
    """The weighted mean of every worker's value.

    XGBoost would take their plain mean, in which a worker with few rows counts as much as one with many, and one with
    none counts as a loss of 0.
    """
    total, weights = collective.allreduce(np.asarray([weight * value, weight]), collective.Op.SUM)
    return float(total / weights)
