"""Focal losses as LightGBM's objectives and metrics, for `lightgbm.train` and for its scikit-learn estimators.

alpha is off by default; LightGBM adds up what its rows say, so there is no mean to speak of.  LightGBM starts custom
objectives at 0, stores no init score and returns raw scores, so the objective adds its start to the scores itself, and
its `posterior` turns raw scores into probabilities.
"""

from __future__ import annotations

from typing import Any

import lightgbm as lgb
import numpy as np

from parfocal import objectives
from parfocal.boosting import Pair

__all__ = ["FocalMetric", "FocalObjective"]


class FocalObjective(objectives.Objective):
    """`params["objective"]` of `lightgbm.train`, or `objective=` of its estimators.  See `objectives.Objective`.

    Sample weights are those of the Dataset.  For several labels a row (`multi_label=True`, or shares of classes) give
    them as `labels=`; LightGBM's own may then be anything.

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
        scores, labels, sample_weight = given(first, second, sample_weight)
        return self.terms(scores + self.known_start(), labels if self.labels is None else self.labels, sample_weight)

    def factor(self, classes: int) -> float:
        """LightGBM's own softmax has it too (Friedman 2001)."""
        return classes / (classes - 1)

    def posterior(self, raw_scores: Any) -> np.ndarray:
        """Probabilities from `predict(..., raw_score=True)`: (N,) of label 1, or (N, columns)."""
        return super().posterior(np.asarray(raw_scores) + self.known_start())


def given(first: Any, second: Any, sample_weight: Any) -> tuple[np.ndarray, Any, Any]:
    """Scores, labels and weights of either call."""
    if isinstance(second, lgb.Dataset):
        continued = getattr(second, "_predictor", None) is not None  # init_model= has put its scores there
        if second.get_init_score() is not None and not continued:
            raise ValueError("the Dataset has an init_score, and the objective adds its own start; leave it out")
        return first, second.get_label(), second.get_weight()
    return second, first, sample_weight


class FocalMetric(objectives.Metric):
    """`feval` of `lightgbm.train`, or `eval_metric` of its estimators: smaller is better.

    Give LightGBM `metric="none"` beside it, or early stopping looks at the built-in ones too.  See `objectives.Metric`.

    >>> metric = FocalMetric(FocalObjective(gamma=2.0, prior=0.5), "log_loss")
    >>> metric(np.asarray([1, 0]), np.asarray([0.0, 0.0]))
    ('posterior_log_loss', 0.6931471805599453, False)
    """

    def __call__(self, first: Any, second: Any, sample_weight: Any = None) -> tuple[str, float, bool]:
        scores, labels, sample_weight = given(first, second, sample_weight)
        labels = labels if self.labels is None else self.labels
        return self.name, self.value(scores + self.objective.known_start(), labels, sample_weight), False
