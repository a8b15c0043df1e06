"""Fits a temperature T and class biases b to the logits of a posterior, with NumPy alone.

For N held-out samples with log-odds s_i or log-probabilities s_ik, labels y and weights w, it minimises F over
a = 1/T >= 0 and b:

    binary    F(a, b) = sum_i w_i [log(1 + e^t_i) - y_i t_i]                       t_i = a s_i + b
                        + prior_weight / 2 [(a - 1)^2 + b^2 / 2]
    softmax   F(a, b) = sum_i w_i sum_k y_ik [log(sum_j e^t_ij) - t_ik]            t_ik = a s_ik + b_k
                        + prior_weight / 2 [(a - 1)^2 + sum_k b_k^2]               sum_k b_k = 0

The first line of each is the summed log loss.  So a sample of weight 2 counts like two samples, and the more samples
there are, the less the prior matters.  A binary posterior is a softmax of two classes with the biases -b/2 and b/2:
hence b^2 / 2.

F is convex: t is linear in (a, b), and log(sum exp) of it is convex.  So Newton's method with a line search finds the
minimum.  The bound a >= 0 needs one check: if dF/da >= 0 at the best b for a = 0, the minimum lies there; otherwise it
lies at a > 0, where the bound does not matter.

Binary: Platt 1999 ("Probabilistic outputs for support vector machines"), with log-odds in place of margins.
Temperature alone: Guo et al. 2017 (arXiv:1706.04599).  Temperature and bias: Alexandari et al. 2020 (arXiv:1901.06852).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

BLOCK = 1 << 14  # elements that are computed at a time, few enough for the cache

# With 4 times as many elements or more, the search starts at the minimum for a part of about this size: 3 passes over
# 10 million log-odds instead of 7.
SAMPLE = 1 << 20

# Sizes of relative steps.  Each Newton step squares the error, so after a step below FINE only rounding is left.  Below
# CLOSE the change of F is smaller than its rounding, and a line search would compare noise.
FINE, CLOSE = 1e-8, 1e-5
MOST_STEPS = 200
LOST = 1e-14  # a prior_weight below this share of the samples' weight is lost in the rounding of a softmax's gradient
ENOUGH = 1e-4  # the share of the decrease predicted by the slope with which a step is accepted (Armijo)


class Fit(NamedTuple):
    """The result: a = 1/T, and the bias b, one number or one per class."""

    slope: float
    bias: float | tuple[float, ...]


class Terms(NamedTuple):
    """F, its gradient and its second derivative at (a, b)."""

    value: float
    gradient: np.ndarray
    hessian: np.ndarray


class Problem(Protocol):
    """F as a function of x = (a, b), and facts about its data that the fit needs."""

    size: int  # of x
    elements: int  # of the scores
    lost_prior: float  # a prior_weight up to this size is lost in rounding

    def terms(self, x: np.ndarray) -> Terms: ...

    def at_slope_0(self) -> Problem:
        """The same F at a = 0, where all samples have the same t, as a problem of one sample."""

    def slope_at_0(self, b: np.ndarray) -> float:
        """dF/da at a = 0."""

    def part(self, every: int) -> Problem:
        """The problem of one in `every` samples, with a prior_weight of at least 1."""

    def absent(self) -> list[int]:
        """Classes without labels."""

    def separable(self, bias: bool) -> bool:
        """Whether the log loss never increases along some direction with a > 0."""

    def result(self, x: np.ndarray) -> Fit: ...


def fit(problem: Problem, bias: bool, prior_weight: float) -> Fit:
    """The minimum of F; with b = 0 if `bias` is False.

    Raises ValueError where F has no minimum or several, which happens without a prior or with one too weak to matter.
    """
    if prior_weight <= problem.lost_prior:
        check_that_there_is_a_minimum(problem, bias, prior_weight)
    try:
        return minimum(problem, bias)
    except (NotConvergedError, np.linalg.LinAlgError):
        check_that_there_is_a_minimum(problem, bias, prior_weight)
        raise


def minimum(problem: Problem, bias: bool) -> Fit:
    free = np.arange(problem.size if bias else 1)
    zero, one = np.zeros(problem.size), np.eye(1, problem.size)[0]
    of_zero = problem.at_slope_0()
    if bias:
        zero = newton(of_zero, zero, free[1:])
    if problem.slope_at_0(zero[1:]) >= 0:
        return problem.result(zero)
    start = one
    if problem.elements >= 4 * SAMPLE:
        start = newton(problem.part(problem.elements // SAMPLE), start, free)
    terms = problem.terms(start)
    if terms.value > of_zero.terms(zero).value:
        start, terms = zero, problem.terms(zero)
    return problem.result(newton(problem, start, free, terms))


def check_that_there_is_a_minimum(problem: Problem, bias: bool, prior_weight: float) -> None:
    """Raises ValueError where T and b are finite only with a prior, and prior_weight is 0 or too small."""
    remedy = "a prior_weight above 0 gives a finite answer"
    if prior_weight:
        remedy = f"prior_weight={prior_weight:g} is too weak beside these samples; a larger one gives a finite answer"
    if bias and (absent := problem.absent()):
        raise ValueError(
            f"y_true has no label of class {absent[0]}, so its best bias is -infinity; {remedy}, and bias=False fits "
            "the temperature alone"
        )
    if problem.separable(bias):
        raise ValueError(
            "the scores separate the classes of y_true without a mistake, or are all the same, so there is no best "
            f"temperature: with prior_weight=0 it goes to 0; {remedy}, and so do more samples"
        )


# -- Newton's method


class NotConvergedError(RuntimeError):
    """Newton's method found no minimum."""


def newton(problem: Problem, x: np.ndarray, free: np.ndarray, terms: Terms | None = None) -> np.ndarray:
    """The minimum of F over the `free` entries of x.  The search starts at x, where F's terms are `terms`."""
    terms = terms or problem.terms(x)
    for _ in range(MOST_STEPS):
        step = np.zeros_like(x)
        step[free] = solution(terms.hessian[np.ix_(free, free)], -terms.gradient[free])
        relative = float(np.max(np.abs(step) / (1 + np.abs(x))))
        if relative < FINE:
            return x + step
        predicted, share = float(terms.gradient @ step), 1.0
        new = problem.terms(x + step)
        while not new.value <= terms.value + ENOUGH * share * predicted and share * relative > CLOSE:
            share /= 2
            new = problem.terms(x + share * step)
        x, terms = x + share * step, new
    raise NotConvergedError(f"the calibration took more than {MOST_STEPS} steps; it stopped at {x.tolist()}")


def solution(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """matrix^-1 right, for a positive definite matrix whose rows may differ in size by orders of magnitude."""
    scale = 1 / np.sqrt(np.maximum(np.diag(matrix), np.finfo(np.float64).tiny))
    return scale * np.linalg.solve(matrix * scale * scale[:, None], scale * right)


def blocks(rows: int, columns: int = 1) -> Iterator[slice]:
    """Slices of rows.  A slice has at least as many rows as columns: otherwise adding up the columns x columns matrices
    would take longer than computing them."""
    size = max(BLOCK // columns, columns)
    for start in range(0, rows, size):
        yield slice(start, start + size)


# -- two classes with one score


class Binary:
    """F of log-odds s (N,), labels y (N,) in [0, 1] and weights (N,), or None for 1; x = (a, b)."""

    size, lost_prior = 2, 0.0

    def __init__(self, s: np.ndarray, y: np.ndarray, w: np.ndarray | None, prior_weight: float) -> None:
        self.s, self.y, self.w, self.elements, self.prior_weight = s, y, w, len(s), prior_weight
        self.center, self.precision = np.array([1.0, 0.0]), prior_weight * np.array([1.0, 0.5])

    def terms(self, x: np.ndarray) -> Terms:
        a, b = x
        sums = np.zeros(6)
        for block in blocks(len(self.s)):
            s, y = self.s[block], self.y[block].astype(np.float64)
            t = a * s + b
            e = np.exp(-np.abs(t))
            large = 1 / (1 + e)
            small = e * large
            positive = t >= 0
            loss = np.log1p(e) + np.maximum(t, 0) - y * t
            slope = (1 - y) * np.where(positive, large, small) - y * np.where(positive, small, large)
            curvature = small * large
            if self.w is not None:
                loss, slope, curvature = (self.w[block] * term for term in (loss, slope, curvature))
            sums += loss.sum(), slope @ s, slope.sum(), (curvature * s) @ s, curvature @ s, curvature.sum()
        value, g_a, g_b, h_aa, h_ab, h_bb = sums
        offset = x - self.center
        return Terms(
            float(value + self.precision @ (offset * offset) / 2),
            np.array([g_a, g_b]) + self.precision * offset,
            np.array([[h_aa, h_ab], [h_ab, h_bb]]) + np.diag(self.precision),
        )

    def total(self) -> tuple[float, float]:
        """The total weight of all labels, and of label 1."""
        if self.w is None:
            return float(len(self.y)), float(self.y.sum(dtype=np.float64))
        return float(self.w.sum()), float(self.w @ self.y)

    def at_slope_0(self) -> Binary:
        total, positive = self.total()
        return Binary(np.zeros(1), np.array([positive / total]), np.array([total]), self.prior_weight)

    def slope_at_0(self, b: np.ndarray) -> float:
        residual = 1 / (1 + np.exp(-b[0])) - self.y
        weighted = residual if self.w is None else residual * self.w
        return float(weighted @ self.s) - self.prior_weight

    def part(self, every: int) -> Binary:
        w = None if self.w is None else self.w[::every]
        return Binary(self.s[::every].copy(), self.y[::every], w, max(self.prior_weight, 1.0))

    def absent(self) -> list[int]:
        return [k for k, there in enumerate(((self.y < 1).any(), (self.y > 0).any())) if not there]

    def separable(self, bias: bool) -> bool:
        lowest_1 = np.min(self.s, initial=np.inf, where=self.y > 0)
        highest_0 = np.max(self.s, initial=-np.inf, where=self.y < 1)
        return bool(lowest_1 >= highest_0 if bias else lowest_1 >= 0 >= highest_0)

    def result(self, x: np.ndarray) -> Fit:
        return Fit(max(0.0, float(x[0])), float(x[1]))


# -- a softmax


class Softmax:
    """F of log-probabilities s (N, K), labels and weights; x = (a, b_1 ... b_K).

    Labels are class indices (N,) or numbers in [0, 1] (N, K).  Only sums over them enter F.
    """

    def __init__(self, s: np.ndarray, y: np.ndarray, w: np.ndarray | None, prior_weight: float) -> None:
        self.s, self.y, self.elements, self.prior_weight = s, y, s.size, prior_weight
        self.classes = s.shape[1]
        self.size = 1 + self.classes
        self.weights = weights = np.ones(len(s)) if w is None else w
        self.lost_prior = LOST * float(weights.sum())
        if y.ndim == 1:
            self.w = weights
            self.counts = np.bincount(y, weights=weights, minlength=self.classes)
            self.score_sum = float(weights @ np.take_along_axis(s, y[:, None], axis=1)[:, 0])
        else:
            self.w = weights * y.sum(axis=1)
            self.counts = weights @ y
            self.score_sum = float(weights @ np.einsum("ik,ik->i", y, s))

    def terms(self, x: np.ndarray) -> Terms:
        a, b = x[0], x[1:]
        value, g_a, h_aa = 0.0, -self.score_sum, 0.0
        p_sum, h_ab, products = np.zeros(self.classes), np.zeros(self.classes), np.zeros((self.classes, self.classes))
        for block in blocks(*self.s.shape):
            s, w = self.s[block], self.w[block]
            p = a * s + b
            top = p.max(axis=1, keepdims=True)
            p -= top
            np.exp(p, out=p)
            total = p.sum(axis=1, keepdims=True)
            p /= total
            value += float(w @ (top + np.log(total))[:, 0])
            mean = np.einsum("ik,ik->i", p, s)
            g_a += float(w @ mean)
            weighted = p * w[:, None]
            p_sum += weighted.sum(axis=0)
            root = p * np.sqrt(w)[:, None]
            products += root.T @ root  # NumPy sees that it is symmetric, which takes half the time
            deviation = s - mean[:, None]
            weighted *= deviation
            h_ab += weighted.sum(axis=0)
            h_aa += float(np.einsum("ik,ik->", weighted, deviation))
        value -= a * self.score_sum + float(b @ self.counts)
        offset = x - np.eye(1, len(x))[0]
        hessian = np.empty((len(x), len(x)))
        hessian[0, 0], hessian[0, 1:], hessian[1:, 0] = h_aa, h_ab, h_ab
        hessian[1:, 1:] = np.diag(p_sum) - products
        hessian[np.diag_indices(len(x))] += self.prior_weight
        # Adding one number to every b changes no probability, so without a prior the matrix is singular.  This term
        # makes it invertible.  The gradient has no part in that direction, so a step's change of b still sums to 0.
        hessian[1:, 1:] += p_sum.mean() / self.classes
        return Terms(
            value + self.prior_weight * float(offset @ offset) / 2,
            np.array([g_a, *(p_sum - self.counts)]) + self.prior_weight * offset,
            hessian,
        )

    def at_slope_0(self) -> Softmax:
        total = self.counts.sum()
        shares = self.counts[None] / total
        return Softmax(np.zeros((1, self.classes)), shares, np.array([total]), self.prior_weight)

    def slope_at_0(self, b: np.ndarray) -> float:
        p = np.exp(b - b.max())
        return float((self.w @ self.s) @ (p / p.sum())) - self.score_sum - self.prior_weight

    def part(self, every: int) -> Softmax:
        w = self.weights[::every]
        return Softmax(self.s[::every], self.y[::every], w, max(self.prior_weight, 1.0))

    def absent(self) -> list[int]:
        return np.flatnonzero(self.counts == 0).tolist()

    def separable(self, bias: bool) -> bool:
        """Whether there are biases with which every label's score is the largest of its row.

        They need b_j <= b_k + gap_kj for all k and j, where gap_kj is the smallest lead of class k over j in rows of
        class k.  Such biases exist unless the gaps form a cycle of negative length (Bellman and Ford).
        """
        gaps = np.full((self.classes, self.classes), np.inf)
        for k in range(self.classes):
            rows = self.s[self.y == k if self.y.ndim == 1 else self.y[:, k] > 0]
            if len(rows):
                gaps[k] = (rows[:, k : k + 1] - rows).min(axis=0)
        if not bias:
            return bool((gaps >= 0).all())
        gaps += 1e-12 * np.max(
            np.abs(gaps), initial=0.0, where=np.isfinite(gaps)
        )  # so that rounding makes no cycle negative
        b = np.zeros(self.classes)
        for _ in range(self.classes):
            lower = np.minimum(b, (b[:, None] + gaps).min(axis=0))
            if (lower == b).all():
                return True
            b = lower
        return False

    def result(self, x: np.ndarray) -> Fit:
        return Fit(max(0.0, float(x[0])), tuple((x[1:] - x[1:].mean()).tolist()))
