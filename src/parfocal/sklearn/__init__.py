"""Focal losses as scikit-learn classifiers, whose `predict_proba` returns probabilities: the posteriors.

alpha is off by default.  Losses are summed, as scikit-learn's own linear models and the boosters do.
"""

from parfocal.sklearn.boosting import FocalBoostingClassifier

__all__ = ["FocalBoostingClassifier"]
