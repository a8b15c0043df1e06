"""Focal losses for scikit-learn: estimators and scores whose probabilities are probabilities.

    FocalBoostingClassifier     gradient boosting on LightGBM, XGBoost or CatBoost
    FocalLogisticRegression     a linear classifier; of both `predict_proba` gives posteriors, `raw_focal_scores` scores
    focal_loss_score            the focal loss of probabilities, called as `sklearn.metrics.log_loss`
    focal_loss_scorer           the same for `scoring=` in cross-validation and searches

What alpha is by default: None, off; no class is weighted.

What a mean divides by.  `focal_loss_score`: the sum of the sample weights, as every scikit-learn metric does.
The estimators have no mean: they add up the weighted losses, as LogisticRegression and the boosters do.
"""

from parfocal.sklearn.boosting import FocalBoostingClassifier
from parfocal.sklearn.linear import FocalLogisticRegression
from parfocal.sklearn.metrics import focal_loss_score, focal_loss_scorer

__all__ = ["FocalBoostingClassifier", "FocalLogisticRegression", "focal_loss_score", "focal_loss_scorer"]
