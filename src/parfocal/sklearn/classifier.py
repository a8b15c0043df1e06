"""What both classifiers do after training: probabilities and decisions from the margins of a focal loss."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special
from sklearn.base import ClassifierMixin
from sklearn.utils import compute_class_weight

from parfocal.core import validation


class FocalClassifierMixin(ClassifierMixin):
    """The methods of a classifier whose `decision_function` gives margins.

    Margins are (N,) for two classes, high for the second, and (N, K) for more.  They are focal scores: with alpha, a
    gamma for each class, or class weights, neither their sign nor the largest of them decides.
    """

    classes_: np.ndarray
    class_weight_: np.ndarray

    def decision_function(self, X: Any) -> np.ndarray:
        raise NotImplementedError

    def _loss_of(self, margins: np.ndarray) -> Any:
        """The loss that was trained."""
        raise NotImplementedError

    def predict(self, X: Any) -> np.ndarray:
        """The class with the largest probability times class weight, (N,); of equal ones the first."""
        margins = self.decision_function(X)
        logits = np.asarray(self._loss_of(margins).posterior_logit(margins))  # with the class weights still in it
        return self.classes_[(logits > 0).astype(np.intp) if logits.ndim == 1 else logits.argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class, (N, K): the posteriors of the margins, without class weights."""
        logits = self._posterior_logit(self.decision_function(X))
        return of_both(special.expit, logits) if logits.ndim == 1 else np.exp(logits)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """The logarithms of the probabilities, (N, K), with all digits where a probability rounds to 0 or 1."""
        logits = self._posterior_logit(self.decision_function(X))
        return of_both(special.log_expit, logits) if logits.ndim == 1 else logits

    def raw_focal_scores(self, X: Any) -> np.ndarray:
        """Sigmoid or softmax of the margins, (N, K): what others return as probabilities."""
        margins = self.decision_function(X)
        return of_both(special.expit, margins) if margins.ndim == 1 else special.softmax(margins, axis=1)

    def _posterior_logit(self, margins: np.ndarray) -> np.ndarray:
        """Log-odds (N,), or log-probabilities (N, K), without class weights."""
        return np.asarray(self._loss_of(margins).posterior_logit(margins, class_weight=self.class_weight_.tolist()))


def of_both(function: Any, logits: np.ndarray) -> np.ndarray:
    """A function of minus and plus the logits, (N, 2): 1 - p would lose digits."""
    return np.stack([function(-logits), function(logits)], axis=1)


def with_class_weights(
    class_weight: Any, classes: np.ndarray, labels: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """One weight per class; and one per sample, or None where all count alike."""
    of_classes = compute_class_weight(class_weight, classes=classes, y=classes[labels], sample_weight=weights)
    validation.class_weight_values(of_classes.tolist(), "class_weight")
    if class_weight is not None:
        weights = of_classes[labels] * (1.0 if weights is None else weights)
    return of_classes, weights
