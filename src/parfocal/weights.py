"""Class weights from how often each class was seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from parfocal import checks

SCHEMES = ("inverse_frequency", "effective_number")


def class_weights(labels_or_counts: Any, scheme: str = "inverse_frequency", beta: float | None = None) -> np.ndarray:
    """One weight per class, larger for rarer classes, in the order of the sorted classes.

    Parameters
    ----------
    labels_or_counts : labels (any array or list of numbers, strings or booleans, one per sample), or a mapping from
        class to count, such as a `dict` or a `collections.Counter`.
    scheme : with n_k samples of class k among N in K classes,
        "inverse_frequency"  N / (K n_k), as scikit-learn's `compute_class_weight("balanced")`
        "effective_number"   (1 - beta) / (1 - beta^n_k), scaled to sum to K (Cui et al. 2019, arXiv:1901.05555)
    beta : in [0, 1), for the effective number only; by default (N - 1) / N, the paper's link of beta to N.
        0 gives equal weights, beta towards 1 the inverse frequency.

    Returns
    -------
    float64 array of shape (K,).  A class with count 0 has weight 0: it has no sample to weigh.

    Raises
    ------
    ValueError for an unknown scheme, a beta outside [0, 1), counts that are negative or not finite, no samples at
    all, or numbers that all differ and are larger than their list is long: those are counts, not labels, and
    counts are given as a mapping.
    TypeError for anything that is no list of labels and no mapping.

    >>> class_weights(["no"] * 90 + ["yes"] * 10)
    array([0.55555556, 5.        ])
    >>> class_weights({"no": 10**9, "yes": 10}, "effective_number", beta=0.999)
    array([0.01971398, 1.98028602])
    """
    checks.one_of("scheme", scheme, SCHEMES)
    if beta is not None and (scheme != "effective_number" or not 0 <= beta < 1):
        raise ValueError(f"beta must be a number in [0, 1), with scheme='effective_number'; got {beta!r}, {scheme!r}")
    counts = count_classes(labels_or_counts)
    total, classes = counts.sum(), len(counts)
    if not total > 0:
        raise ValueError("class_weights needs at least one sample")
    seen = counts > 0
    weights = np.zeros(classes)
    if scheme == "inverse_frequency":
        weights[seen] = total / (classes * counts[seen])
        return weights
    # 1 - b^n = -expm1(n log b), which keeps its digits at n = 1 as well as at n = 1e9.
    log_beta = -math.inf
    if beta is None and total > 1:
        log_beta = math.log1p(-1 / total)
    elif beta:
        log_beta = math.log(beta)
    weights[seen] = 1 / -np.expm1(counts[seen] * log_beta)
    return weights * (classes / weights.sum())


def count_classes(labels_or_counts: Any) -> np.ndarray:
    """Samples per class as float64, classes sorted."""
    if isinstance(labels_or_counts, Mapping):
        try:
            given = [float(labels_or_counts[label]) for label in sorted(labels_or_counts)]
        except (TypeError, ValueError, OverflowError):
            raise TypeError(
                f"counts must be a mapping from classes of one type to numbers; got {dict(labels_or_counts)!r}"
            ) from None
        counts = np.asarray(given, dtype=np.float64)
        if not (np.isfinite(counts) & (counts >= 0)).all():
            raise ValueError(f"counts must be finite and not negative; got {dict(labels_or_counts)!r}")
        return counts
    labels = np.asarray(labels_or_counts)
    if labels.ndim != 1 or labels.dtype.kind not in "biufUS":
        raise TypeError(
            "labels must be one list of numbers, strings or booleans, one per sample; "
            f"got {type(labels_or_counts).__name__} of shape {labels.shape} and dtype {labels.dtype}"
        )
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise ValueError("labels must not be NaN or infinite")
    samples = np.unique(labels, return_counts=True)[1]
    if len(samples) > 1 and labels.dtype.kind in "iuf" and samples.max() == 1 and labels.max() > len(labels):
        raise ValueError(
            f"every one of the {len(samples)} labels differs. If these are counts, pass them as a mapping from class "
            "to count, e.g. class_weights({0: 990, 1: 10}) or class_weights(dict(enumerate(counts)))"
        )
    return samples.astype(np.float64)
