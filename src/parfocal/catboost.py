"""Focal losses as CatBoost's objectives and metrics.

alpha is off by default; CatBoost adds up what its rows say, so there is no mean to speak of.  CatBoost starts custom
objectives at 0, so the objective adds its start to the scores itself, and its `posterior` turns raw scores into
probabilities.

Two classes come in blocks of 1000 rows.  With more, and with several labels a row, CatBoost calls Python once for every
row of every tree: LightGBM and XGBoost don't.
"""

from parfocal.boosters.catboost import FocalMetric, FocalObjective
from parfocal.boosters.catboost_labels import MultiLabelFocalMetric, MultiLabelFocalObjective

__all__ = ["FocalMetric", "FocalObjective", "MultiLabelFocalMetric", "MultiLabelFocalObjective"]
