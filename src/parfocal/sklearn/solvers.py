"""The penalised focal loss of a linear model, and two ways down it.

(a) What is minimised is scikit-learn's logistic objective with another loss: C * sum of weighted losses + |coef|^2 / 2.
(b) It is divided by C * sum of weights, so that `tol` does not depend on the number of samples, and multiplied by
    `scale`, after which the mean curvature at the start is cross-entropy's (an `Objective` knows it): a focal loss is
    flatter, and `tol` would stop it earlier.  Neither moves a minimum.
(c) Loss, gradient and curvature are the loss object's; here they are only carried to the coefficients.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import linalg, optimize, sparse

from parfocal.boosters.gradients import gradient_and_curvature

EPSILON = float(np.finfo(np.float64).eps)
SUFFICIENT = 1e-4  # of the decrease that the slope promises: Nocedal and Wright 2006, section 3.1
HALVINGS = 50  # of a Newton step, after which it is shorter than its own rounding


class Solution(NamedTuple):
    """Where a solver stopped."""

    parameters: np.ndarray
    iterations: int
    failure: str | None  # None: it found what it looked for


class Problem:
    """The objective as a function of one flat vector: the coefficients row by row, then the intercepts.

    Parameters
    ----------
    loss : of logits, with reduction="sum"; binary for two classes.
    X : (N, F) array or sparse matrix of float64.
    labels : (N,) class indices.
    weights : (N,) or None.
    classes : their number; two have one row of coefficients.
    fit_intercept : whether there are intercepts.
    penalty : 1 / C.
    scale : of the whole objective.
    """

    def __init__(
        self,
        loss: Any,
        X: Any,
        labels: np.ndarray,
        weights: np.ndarray | None,
        *,
        classes: int,
        fit_intercept: bool,
        penalty: float,
        scale: float,
    ) -> None:
        self.loss, self.X, self.weights = loss, X, weights
        self.rows, self.features = 1 if classes == 2 else classes, X.shape[1]
        self.fit_intercept, self.penalty = fit_intercept, penalty
        self.factor = scale / (len(labels) if weights is None else float(weights.sum()))
        # (N, 1) for two classes: a binary loss is the mean over its last axis.
        self.labels = labels[:, None] if classes == 2 else labels

    def start(self, intercept: np.ndarray) -> np.ndarray:
        """No feature says anything, and the intercept is the best constant."""
        coefficients = np.zeros(self.rows * self.features)
        return np.concatenate([coefficients, intercept]) if self.fit_intercept else coefficients

    def unpacked(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients (rows, F) and intercepts (rows,)."""
        size = self.rows * self.features
        intercept = parameters[size:] if self.fit_intercept else np.zeros(self.rows)
        return parameters[:size].reshape(self.rows, self.features), intercept

    def margins(self, parameters: np.ndarray) -> np.ndarray:
        coefficients, intercept = self.unpacked(parameters)
        return self.X @ coefficients.T + intercept

    def value_and_gradient(self, parameters: np.ndarray) -> tuple[float, np.ndarray]:
        coefficients, _ = self.unpacked(parameters)
        value, slopes = self.loss.value_and_grad(self.labels, self.margins(parameters), self.weights)
        gradient = ((self.X.T @ slopes).T + self.penalty * coefficients).ravel()
        if self.fit_intercept:
            gradient = np.concatenate([gradient, slopes.sum(axis=0)])
        value = float(value) + self.penalty / 2 * float(np.vdot(coefficients, coefficients))
        return self.factor * value, self.factor * gradient

    def curvature(self, parameters: np.ndarray, kind: str) -> np.ndarray:
        """The second derivative for two classes, by a curvature of `gradient_and_curvature`."""
        margins, labels = self.margins(parameters)[:, 0], self.labels[:, 0]
        of_margins = gradient_and_curvature(self.loss, margins, labels, self.weights, curvature=kind)[1]
        if sparse.issparse(self.X):
            product = (self.X.T @ self.X.multiply(of_margins[:, None]).tocsr()).toarray()
        else:
            product = self.X.T @ (self.X * of_margins[:, None])
        product[np.diag_indices(self.features)] += self.penalty
        if self.fit_intercept:
            edge = self.X.T @ of_margins
            product = np.block([[product, edge[:, None]], [edge, of_margins.sum()]])
        return self.factor * product


def lbfgs(problem: Problem, start: np.ndarray, max_iter: int, tol: float) -> Solution:
    """scipy's L-BFGS-B, with the settings of scikit-learn's LogisticRegression."""
    result = optimize.minimize(
        problem.value_and_gradient,
        start,
        method="L-BFGS-B",
        jac=True,
        options={"maxiter": max_iter, "maxls": 50, "gtol": tol, "ftol": 64 * EPSILON},
    )
    failure = None if result.status == 0 else f"L-BFGS-B says {result.message!r}"
    return Solution(result.x, int(result.nit), failure)


def newton(problem: Problem, start: np.ndarray, max_iter: int, tol: float) -> Solution:
    """Newton's steps, halved until the objective itself falls enough."""
    parameters, iterations = start, 0
    value, gradient = problem.value_and_gradient(parameters)
    while np.abs(gradient).max() > tol:
        if iterations == max_iter:
            return Solution(parameters, iterations, "the gradient is still larger than tol")
        step = newton_step(problem, parameters, gradient)
        slope, length = float(gradient @ step), 1.0
        for _ in range(HALVINGS):
            reached = problem.value_and_gradient(parameters + length * step)
            if reached[0] <= value + SUFFICIENT * length * slope + 4 * EPSILON * abs(value):  # NaN is not a step down
                break
            length /= 2
        else:
            return Solution(parameters, iterations, "no part of Newton's step lowers the objective")
        parameters, iterations = parameters + length * step, iterations + 1
        value, gradient = reached
    return Solution(parameters, iterations, None)


def newton_step(problem: Problem, parameters: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """With the exact curvature where it is positive definite, as near a minimum; with the positive one elsewhere.

    To a gradient of 1e-8 that took 5 to 7 steps; the positive one alone 8 to 14 (gamma 0.5 to 5, up to 30 features).
    """
    try:
        return -linalg.cho_solve(linalg.cho_factor(problem.curvature(parameters, "exact")), gradient)
    except linalg.LinAlgError:
        matrix = problem.curvature(parameters, "positive")
    # Without a penalty it may be singular: then the diagonal grows until it is not, and the step remains one downhill.
    damping = 0.0
    while True:
        try:
            return -linalg.cho_solve(linalg.cho_factor(matrix + damping * np.eye(len(matrix))), gradient)
        except linalg.LinAlgError:
            damping = max(10 * damping, EPSILON * float(np.trace(matrix)), EPSILON)


SOLVERS = {"lbfgs": lbfgs, "newton": newton}
