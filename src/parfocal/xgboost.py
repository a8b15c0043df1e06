"""Focal losses as XGBoost's objectives and metrics, for `xgboost.train` and for its scikit-learn estimators.

alpha is off by default; XGBoost adds up what its rows say, so there is no mean to speak of.  XGBoost finds no base
score for a custom objective, so `params` gives it ours; `predict(..., output_margin=True)` then returns whole margins.
"""

from parfocal.boosters.xgboost import FocalMetric, FocalObjective

__all__ = ["FocalMetric", "FocalObjective"]
