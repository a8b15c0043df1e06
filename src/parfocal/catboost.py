"""Focal losses as CatBoost's objectives and metrics.

alpha is off by default; CatBoost adds up what its rows say, so there is no mean to speak of.  CatBoost starts custom
objectives at 0, so the objective adds its start to the scores itself, and its `posterior` turns raw scores into
probabilities.

Two classes come in blocks of 1000 rows.  With more, and with several labels a row, CatBoost calls Python once for every
row of every tree: LightGBM and XGBoost don't.
"""

from __future__ import annotations

from typing import Any

import catboost
import numpy as np

from parfocal import objectives

__all__ = ["FocalMetric", "FocalObjective", "MultiLabelFocalMetric", "MultiLabelFocalObjective"]


class FocalObjective(objectives.Objective):
    """`loss_function` of CatBoost.  See `objectives.Objective`; sample weights are those of the Pool.

    >>> rows, labels = np.arange(200.0)[:, None], np.arange(200) % 40 == 0
    >>> objective = FocalObjective(gamma=2.0)
    >>> few = {"iterations": 5, "verbose": 0, "allow_writing_files": False}
    >>> model = catboost.CatBoost({**objective.params(labels), **few}).fit(rows, labels)
    >>> objective.posterior(model.predict(rows)).shape
    (200,)
    """

    no_jit = True  # CatBoost would hand it to numba, which knows no kernels of ours

    def __init__(self, *arguments: Any, **named: Any) -> None:
        if named.get("labels") is not None:
            raise ValueError(
                "CatBoost asks for a few rows at a time, so labels must lie in the Pool; leave labels= out"
            )
        if named.get("multi_label") and not isinstance(self, catboost.MultiTargetCustomObjective):
            raise ValueError("for several labels a row take MultiLabelFocalObjective: CatBoost knows them by the class")
        super().__init__(*arguments, **named)

    def params(self, labels: Any = None, sample_weight: Any = None, num_class: int | None = None) -> dict[str, Any]:
        """This objective and its metric among CatBoost's parameters, once it knows where to start.

        labels : of the training rows; not needed where the objective has a prior.
        num_class : of a softmax; found from labels with more than two classes.
        """
        start = self.learn_prior(labels, sample_weight, num_class)
        softmax = {"classes_count": len(start)} if start.ndim and not self.multi_label else {}
        metric = MultiLabelFocalMetric if self.multi_label else FocalMetric
        return {"loss_function": self, "eval_metric": metric(self), **softmax}

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

    def posterior(self, raw_scores: Any) -> np.ndarray:
        """Probabilities from `predict(..., prediction_type="RawFormulaVal")`: (N,) of label 1, or (N, columns)."""
        return super().posterior(np.asarray(raw_scores) + self.known_start())


class MultiLabelFocalObjective(FocalObjective, catboost.MultiTargetCustomObjective):
    """`FocalObjective` for several labels a row, which CatBoost knows by its class."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **{**named, "multi_label": True})


class FocalMetric(objectives.Metric):
    """`eval_metric` of CatBoost: smaller is better.  See `objectives.Metric`."""

    no_jit = True

    def is_max_optimal(self) -> bool:
        return False

    def evaluate(self, scores: Any, labels: Any, sample_weight: Any) -> tuple[float, float]:
        """(The weighted sum, the sum of the weights), of scores with one row a column."""
        margins = np.stack([np.asarray(column) for column in scores], axis=1) + self.objective.known_start()
        labels = np.asarray(labels).T if self.labels is None else self.labels
        margins = margins[:, 0] if margins.shape[1] == 1 else margins
        weight = np.ones(len(margins)) if sample_weight is None else np.asarray(sample_weight)
        total = float(weight.sum())
        return self.value(margins, labels, weight) * total, total

    def get_final_error(self, error: float, weight: float) -> float:
        return error / (weight or 1.0)


class MultiLabelFocalMetric(FocalMetric, catboost.MultiTargetCustomMetric):
    """`FocalMetric` beside a `MultiLabelFocalObjective`."""
