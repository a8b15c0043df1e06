"""Rows of many classes whose sums lose digits where they can, and their terms in NumPy's longdouble.

longdouble has 11 bits more than double; where it is double itself, it still has 29 more than float32.  The reference
is the definition with the largest logit subtracted: `test_wide_softmax.py` holds it to mpmath.
"""

from __future__ import annotations

import itertools

import numpy as np

import parfocal
from parfocal.core import formula

CLASSES = (2, 3, 10, 100, 1000, 100_000)
GAMMAS = (0.0, 2.0, 10.0)

Wide = np.longdouble

SMOOTHING = 0.1

# The margins that targets are put at: from badly wrong to certain.
MARGINS = (-20.0, -3.0, -0.1, 0.7, 2.5, 4.4, 5.9, 7.3)


def rows(classes: int, dtype: type = np.float32) -> tuple[np.ndarray, np.ndarray]:
    """(logits, targets): eight kinds of rows, each with targets at several margins; of 100,000 classes fewer."""
    rng = np.random.default_rng(classes)
    wanted = MARGINS if classes <= 1000 else MARGINS[5:7]
    ones = np.ones((len(wanted), classes))
    one_above = rng.normal(size=ones.shape) - 4
    one_above[:, -1] = 9.1 + np.log(classes)
    kinds = {
        "normal": 3 * rng.normal(size=ones.shape),
        "as far as 100": rng.uniform(-100, 100, ones.shape),
        "as far as 1e4": rng.uniform(-1e4, 1e4, ones.shape),
        "equal others": 1.7 * ones,
        "equal others below one": np.where(np.arange(classes) == classes - 1, 0.4, -0.7) * ones,
        "the target above one other above the rest": one_above,
        "slowly rising": ones * np.linspace(-5, 5, classes),
        "shifted by 9000": 9000 + rng.normal(size=ones.shape),
    }
    logits = np.concatenate(list(kinds.values()))
    targets = rng.integers(0, classes - 1, len(logits))
    for row, target, margin in zip(logits, targets, itertools.cycle(wanted), strict=False):
        others = np.delete(row, target)
        row[target] = margin + others.max() + np.log(np.exp(others - others.max()).sum())
    return logits.astype(dtype), targets


def many_rows(classes: int) -> tuple[np.ndarray, np.ndarray]:
    """(logits, targets) of 120,000 logits in float32, so many that the worst error of a kernel is not a matter of luck.

    Targets are put at margins from -20 to 9.
    """
    rng, shape = np.random.default_rng(classes), (24_000 // classes, classes)
    one_above = rng.normal(size=shape) - 4
    one_above[:, -1] = 9.1 + np.log(classes)
    kinds = [3 * rng.normal(size=shape), rng.uniform(-100, 100, shape), rng.uniform(-1e4, 1e4, shape)]
    logits = np.concatenate([*kinds, one_above, 9000 + rng.normal(size=shape)])
    targets, rows = rng.integers(0, classes - 1, len(logits)), np.arange(len(logits))
    others = logits.copy()
    others[rows, targets] = -np.inf
    top = others.max(axis=1)
    rest = top + np.log(np.exp(others - top[:, None]).sum(axis=1))
    logits[rows, targets] = rest + rng.uniform(-20, 9, len(logits))
    return logits.astype(np.float32), targets


def terms_of(m: np.ndarray, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """The loss and its slope at margins."""
    g, at = Wide(gamma), formula.link(np, m)
    q_to_g = np.exp(g * np.where(np.abs(m) > formula.FAR, np.clip(-m, -1e4, 0), formula.log_q(np, at)[0]))
    return -q_to_g * np.where(m < -formula.FAR, m, at.u), q_to_g * (g * at.p * at.u - at.q)


def exact(logits: np.ndarray, weights: np.ndarray, gamma: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(loss, gradient, the sum of the gradient's absolute terms) of rows, each class with its weight."""
    with np.errstate(all="ignore"):
        z = logits.astype(Wide)
        top = z.max(axis=-1, keepdims=True)
        first = (z == top) & (np.cumsum(z == top, axis=-1) == 1)
        others = np.where(first, 0, np.exp(z - top))
        second = np.where(first, -np.inf, z).max(axis=-1, keepdims=True)
        r_first = np.exp(np.where(first, -np.inf, z) - second)
        total_first = r_first.sum(axis=-1, keepdims=True)
        r_first /= total_first
        # A class below the first has the first one's 1 in its total; the first has its own.
        total = np.where(first, 1, 1 + (others.sum(axis=-1, keepdims=True) - others))
        m = np.where(first, z - second - np.log(total_first), z - top - np.log(total))
        loss, slope = terms_of(m, gamma)
        own = weights * slope
        below = np.where(first, 0, own / total)
        from_below = np.where(first, 1, others) * (below.sum(axis=-1, keepdims=True) - below)
        from_first = (own * first).sum(axis=-1, keepdims=True) * r_first
        return (weights * loss).sum(axis=-1), own - from_below - from_first, -own - from_below - from_first


def loss_of(labels: str, gamma: float, dtype: type) -> parfocal.Loss:
    kind = parfocal.CategoricalFocalCrossentropy if labels == "one-hot" else parfocal.SparseCategoricalFocalCrossentropy
    smoothing = SMOOTHING if labels == "smoothed" else 0.0
    return kind(1.0, gamma, from_logits=True, label_smoothing=smoothing, reduction=None, dtype=np.dtype(dtype).name)


def weights_of(labels: str, targets: np.ndarray, classes: int) -> np.ndarray:
    one_hot = (targets[:, None] == np.arange(classes)).astype(Wide)
    smoothing = Wide(SMOOTHING if labels == "smoothed" else 0.0)
    return one_hot * (1 - smoothing) + smoothing / classes


def worst(got: np.ndarray, exact: np.ndarray, scale: np.ndarray, tiny: float) -> float:
    """The largest error relative to `scale`, where that is a normal number; a result of 0 there has the error 1."""
    assert not np.isnan(got).any()
    normal = scale >= tiny
    return float((np.abs(got - exact)[normal] / scale[normal]).max(initial=0))
