"""CatBoost's objective and metric for several labels a row.

CatBoost knows them by the classes that they derive from, so this file imports it.
"""

from __future__ import annotations

from typing import Any

import catboost

from parfocal.boosters.catboost import FocalMetric, FocalObjective
from parfocal.boosters.objective import Metric


class MultiLabelFocalObjective(FocalObjective, catboost.MultiTargetCustomObjective):
    """`FocalObjective` for several labels a row, which CatBoost knows by its class."""

    several_labels = True

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **{**named, "multi_label": True})

    def metric(self) -> Metric:
        return MultiLabelFocalMetric(self)


class MultiLabelFocalMetric(FocalMetric, catboost.MultiTargetCustomMetric):
    """`FocalMetric` beside a `MultiLabelFocalObjective`."""
