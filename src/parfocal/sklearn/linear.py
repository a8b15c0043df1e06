"""Logistic regression with a focal loss."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from parfocal.boosters import Objective, focal_loss
from parfocal.core import validation
from parfocal.core.hosts import counted
from parfocal.core.parameters import GammaSchedule
from parfocal.sklearn import features
from parfocal.sklearn.classifier import FocalClassifierMixin, with_class_weights
from parfocal.sklearn.solvers import SOLVERS, Problem

# What features may be.
FEATURES: dict[str, Any] = {"accept_sparse": "csr", "dtype": np.float64}


class FocalLogisticRegression(FocalClassifierMixin, BaseEstimator):
    """Logistic regression with a focal loss, binary or multinomial, and probabilities in spite of it.

    With a focal loss of gamma and alpha, it minimises over the coefficients and intercepts

        C * (sum over the samples of weight * loss) + |coef|^2 / 2

    which at gamma 0 is the objective of `sklearn.linear_model.LogisticRegression` with the same C.  A focal score is
    not a probability: `predict_proba` returns the posterior that the score stands for.

    Parameters
    ----------
    gamma : >= 0, by default 2; 0 is cross-entropy.  Two classes: one number, or a pair (classes_[0], classes_[1]).
        More: one number, or one per class in the order of classes_.
    alpha : None (default), no weights.  Two classes: the weight of classes_[1], strictly between 0 and 1; classes_[0]
        has 1 - alpha.  More: a number, a constant factor, or one per class in the order of classes_, each > 0.
    C : > 0, by default 1, the inverse strength of the penalty; math.inf for none.  Intercepts are not penalised.
    fit_intercept : whether there are intercepts.
    class_weight : None (default), "balanced" or a dict from class to a weight > 0: how much a mistake on each class
        costs.  It multiplies the sample weights in training, and counts in `predict`; the probabilities do without.
    label_smoothing : s in [0, 1), by default 0, moves each label towards 1 / classes; probabilities do without it too.
    solver : "lbfgs" (default), or "newton" for two classes and few features: it builds and factors a matrix of
        (features + 1)^2 at each step.
    max_iter : steps at most, by default 100.
    tol : stop where no component of the gradient is larger, by default 1e-4.  The gradient is that of the mean loss,
        scaled so that the same tol is as strict as for cross-entropy.

    Attributes
    ----------
    classes_ : (K,) the sorted labels.
    coef_, intercept_ : (1, F) and (1,) for two classes, else (K, F) and (K,); float64.
    n_iter_ : steps taken.
    loss_ : the parfocal loss of the margins.
    class_weight_ : (K,) the class weights.
    n_features_in_, feature_names_in_ : as in every estimator.

    Raises
    ------
    ValueError at fit for parameters out of range, labels of one class, classes without weight, and columns that are not
    numbers, such as text and dates, by name.
    ConvergenceWarning where the solver gave up before the gradient was small.

    Notes
    -----
    A focal loss is not convex in the margins: it bends down where a sample is very wrong (p_t < 0.058 at gamma 2).  So
    for gamma > 0 what is found is a stationary point, not surely the least of all minima.  It is reached by descent
    from one fixed start, coefficients 0 and the best constant intercept, so the same data gives the same model, never
    worse than that constant.  At gamma 0 it is the global minimum.

    A sample_weight says how often a sample occurs, so it stays in the probabilities.  float32 features are computed
    in float64, in a copy.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.repeat([[0.0], [1.0]], 50, axis=0)
    >>> y = np.repeat(["kept", "cancelled", "kept", "cancelled"], [5, 45, 40, 10])
    >>> model = FocalLogisticRegression(gamma=2.0, C=1e6, tol=1e-8).fit(X, y)
    >>> print(model.classes_, model.predict([[0.0], [1.0]]))
    ['cancelled' 'kept'] ['cancelled' 'kept']

    The probabilities are the shares of the sample, 45 and 10 of 50; the scores that were trained are not:

    >>> print(model.predict_proba([[0.0], [1.0]])[:, 0].round(3))
    [0.9 0.2]
    >>> print(model.raw_focal_scores([[0.0], [1.0]])[:, 0].round(3))
    [0.694 0.373]
    """

    def __init__(
        self,
        gamma: Any = 2.0,
        alpha: Any = None,
        *,
        C: float = 1.0,
        fit_intercept: bool = True,
        class_weight: Any = None,
        label_smoothing: float = 0.0,
        solver: str = "lbfgs",
        max_iter: int = 100,
        tol: float = 1e-4,
    ) -> None:
        self.gamma = gamma
        self.alpha = alpha
        self.C = C
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> FocalLogisticRegression:
        """Train on rows X (N, F), an array, a data frame or a sparse matrix, and labels y (N,).

        sample_weight : (N,) not negative, or None.
        """
        self._check_parameters()
        X, y = features.validated_for_fit(self, features.Table(X), y, features.LINEAR_CURES, FEATURES, {})
        check_classification_targets(y)
        names, labels = np.unique(y, return_inverse=True)
        classes = len(names)
        if classes < 2:
            raise ValueError(f"y needs samples of at least 2 classes; it has one class only, {names.tolist()}")
        if self.solver == "newton" and classes > 2:
            raise ValueError(f"solver='newton' is for 2 classes, and y has {classes}; use solver='lbfgs'")
        smoothing: dict[str, Any] = {"from_logits": True, "label_smoothing": self.label_smoothing}
        loss = focal_loss(classes, self.gamma, self.alpha, reduction="sum", **smoothing)
        weights = self._sample_weights(X, names, labels, sample_weight)
        class_weight, weights = with_class_weights(self.class_weight, names, labels, weights)
        shares = np.bincount(labels, weights=weights)
        shares = shares / shares.sum()
        objective = Objective(
            self.gamma,
            self.alpha,
            label_smoothing=self.label_smoothing,
            curvature="exact",
            prior=shares[1] if classes == 2 else shares,
        )
        # A softmax leaves a constant free; the penalty keeps the coefficients' sum at 0 too.
        start = np.atleast_1d(objective.start_)
        start = start - start.mean() if classes > 2 else start
        problem = Problem(
            loss,
            X,
            labels,
            weights,
            classes=classes,
            fit_intercept=bool(self.fit_intercept),
            penalty=1 / self.C,
            scale=objective.scale_,
        )
        solution = SOLVERS[self.solver](problem, problem.start(start), int(self.max_iter), float(self.tol))
        if solution.failure:
            warnings.warn(
                f"{type(self).__name__} stopped after {counted(solution.iterations, 'step')} of "
                f"solver={self.solver!r} with max_iter={self.max_iter} and tol={self.tol}: {solution.failure}. Scale "
                "the features (sklearn.preprocessing.StandardScaler), or raise max_iter or tol.",
                ConvergenceWarning,
                stacklevel=2,
            )
        self.classes_, self.class_weight_, self.loss_ = names, class_weight, loss
        self.coef_, self.intercept_ = problem.unpacked(solution.parameters)
        self.n_iter_ = solution.iterations
        return self

    def _check_parameters(self) -> None:
        """Those that the loss does not check."""
        validation.one_of("solver", self.solver, tuple(SOLVERS))
        validation.flag("fit_intercept", self.fit_intercept)
        if isinstance(self.gamma, GammaSchedule):
            raise ValueError(
                f"gamma={self.gamma!r} has jumps, where no solver finds a minimum; give a number, or one per class"
            )
        if not isinstance(self.C, Real) or not self.C > 0:
            raise ValueError(f"C must be a number > 0, the inverse strength of the penalty; got {self.C!r}")
        if not isinstance(self.tol, Real) or not 0 <= self.tol < math.inf:
            raise ValueError(f"tol must be a number >= 0; got {self.tol!r}")
        if validation.whole_number("max_iter", self.max_iter) < 1:
            raise ValueError(f"max_iter must be at least 1; got {self.max_iter!r}")
        validation.smoothing_below_one(validation.label_smoothing(self.label_smoothing))
        known = self.class_weight is None or isinstance(self.class_weight, Mapping)
        if not known and not (isinstance(self.class_weight, str) and self.class_weight == "balanced"):
            raise ValueError(
                f"class_weight must be None, 'balanced', or a dict from class to weight; got {self.class_weight!r}"
            )

    def _sample_weights(self, X: Any, names: np.ndarray, labels: np.ndarray, sample_weight: Any) -> np.ndarray | None:
        """One weight per sample, or None.  Every class needs some."""
        if sample_weight is None:
            return None
        weights = np.asarray(_check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True))
        empty = np.bincount(labels, weights=weights) == 0
        if empty.any():
            raise ValueError(
                f"sample_weight is 0 for all samples of the class(es) {names[empty].tolist()}; leave these samples "
                "out, or give some of them a weight above 0"
            )
        return weights

    def decision_function(self, X: Any) -> np.ndarray:
        """The margins: (N,) for two classes, high for the second, else (N, K)."""
        check_is_fitted(self, "coef_")
        X = features.validated(self, X, features.LINEAR_CURES, FEATURES, {})
        margins = X @ self.coef_.T + self.intercept_
        return margins[:, 0] if len(self.classes_) == 2 else margins

    def _loss_of(self, margins: np.ndarray) -> Any:
        return self.loss_
