"""Focal losses as LightGBM's objectives and metrics, for `lightgbm.train` and for its scikit-learn estimators.

alpha is off by default; LightGBM adds up what its rows say, so there is no mean to speak of.  LightGBM starts custom
objectives at 0, stores no init score and returns raw scores, so the objective adds its start to the scores itself, and
its `posterior` turns raw scores into probabilities.
"""

from parfocal.boosters.lightgbm import FocalMetric, FocalObjective

__all__ = ["FocalMetric", "FocalObjective"]
