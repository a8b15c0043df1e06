"""Class weights from how often each class was seen."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from parfocal.core import validation
from parfocal.core.hosts import counted

SCHEMES = ("inverse_frequency", "effective_number")

# Names of the result of `value_counts` in pandas and polars; and of the column of counts that grouping adds to a table.
COUNT_NAMES = ("count", "proportion")
COUNT_COLUMNS = (*COUNT_NAMES, "len", "size")


class MissingLabelError(ValueError, TypeError):
    """A label is missing: a ValueError like other bad values, and a TypeError, which None among labels used to be."""


def class_weights(labels_or_counts: Any, scheme: str = "inverse_frequency", beta: float | None = None) -> np.ndarray:
    """One weight per class, in sorted order of the classes: larger for rarer classes.

    Parameters
    ----------
    labels_or_counts : either of
        labels  one per sample, (N,): numbers, strings or booleans in a list, a NumPy array, a pandas or polars Series
                of any such type (also categorical and nullable ones), or a tensor that NumPy can read
        counts  a mapping from class to count, such as a `dict` or a `collections.Counter`; or the result of
                `value_counts()` of pandas or polars, whose index or first column holds the classes.  The inverse
                frequency takes shares as well as counts.
    scheme : with N samples in K classes, of which n_k in class k,
        "inverse_frequency"  N / (K n_k), as scikit-learn's `compute_class_weight("balanced")`
        "effective_number"   (1 - beta) / (1 - beta^n_k), scaled to sum to K (Cui et al. 2019, arXiv:1901.05555)
    beta : in [0, 1), for the effective number only; by default (N - 1) / N, as the paper relates beta to N.
        0 gives equal weights; beta near 1 approaches the inverse frequency.

    Returns
    -------
    float64 array of shape (K,).  A class with count 0 has weight 0: there are no samples to weight.

    Raises
    ------
    ValueError for an unknown scheme; a beta outside [0, 1); counts that are negative, not finite, too large or too far
    apart; no samples at all; shares with the effective number; a missing label or class (with its position); or numbers
    that could be counts as well as labels.
    TypeError for anything else that is not a list of labels or a mapping.

    Notes
    -----
    A plain list of numbers is never read as counts.  Numbers that look like the counts of `np.bincount` are an error:
    pass `dict(enumerate(counts))`, or, if they are labels, `collections.Counter(labels)`.  N numbers with K different
    values, of which m is the largest, are accepted as labels if

    - one is negative, or
    - they are every whole number from 0 to K - 1, or all are 1, or
    - they are every whole number from 1 to K, and N >= 5 K, or
    - they are whole numbers with 0.7 m <= K, N >= 2 K and N >= 100, so that few codes are missing, or
    - N >= 20 K > 20, and N >= 5 m K, or N >= 1000 and K <= 100, or N >= 200 K: sparse codes in many samples.

    Counts of hundreds of classes with few samples each may pass as labels too; a mapping is never ambiguous.

    A pandas Series called "count" or "proportion" that has its own index is read as labels if it holds a 0, and as
    counts if its numbers are all different or all equal, never increase, or sum to 1, as in the result of
    value_counts().  Otherwise it is an error.

    >>> class_weights(["no"] * 90 + ["yes"] * 10)
    array([0.55555556, 5.        ])
    >>> class_weights({"no": 10**9, "yes": 10}, "effective_number", beta=0.999)
    array([0.01971398, 1.98028602])
    >>> class_weights(dict(enumerate(np.bincount([0] * 90 + [1] * 10))))
    array([0.55555556, 5.        ])
    """
    validation.one_of("scheme", scheme, SCHEMES)
    if beta is not None and (scheme != "effective_number" or not isinstance(beta, Real) or not 0 <= beta < 1):
        raise ValueError(f"beta must be a number in [0, 1), with scheme='effective_number'; got {beta!r}, {scheme!r}")
    counts = count_classes(labels_or_counts)
    if not (counts > 0).any():
        raise ValueError("class_weights needs at least one sample")
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        weights = by_inverse_frequency(counts) if scheme == "inverse_frequency" else by_effective_number(counts, beta)
    if not np.isfinite(weights).all():
        raise ValueError(
            f"counts from {counts[counts > 0].min():g} to {counts.max():g} are so far apart that a weight is beyond "
            "float64; leave out the classes that almost never occur"
        )
    return weights


def by_inverse_frequency(counts: np.ndarray) -> np.ndarray:
    weights, seen = np.zeros(len(counts)), counts > 0
    weights[seen] = counts.sum() / (len(counts) * counts[seen])
    return weights


def by_effective_number(counts: np.ndarray, beta: float | None) -> np.ndarray:
    weights, seen, total = np.zeros(len(counts)), counts > 0, counts.sum()
    if math.isclose(total, 1) and (counts != np.floor(counts)).any():
        raise ValueError(
            "the effective number depends on how many samples there are, which shares that sum to 1 do not say; give "
            "counts, or scheme='inverse_frequency'"
        )
    # 1 - b^n = -expm1(n log b), which is accurate from n = 1 to n = 1e9.
    log_beta = -math.inf
    if beta is None and total > 1:
        log_beta = math.log1p(-1 / total)
    elif beta:
        log_beta = math.log(beta)
    weights[seen] = 1 / -np.expm1(counts[seen] * log_beta)
    return weights * (len(counts) / weights.sum())


def count_classes(labels_or_counts: Any) -> np.ndarray:
    """The number of samples of each class, in sorted order of the classes, as float64."""
    counts = labels_or_counts if isinstance(labels_or_counts, Mapping) else counted_by_frame(labels_or_counts)
    if counts is not None:
        return sorted_counts(counts)
    labels = labels_as_array(labels_or_counts)
    if labels.dtype.kind == "O":
        return sorted_counts(Counter(labels.tolist()))
    classes, samples = np.unique(labels, return_counts=True)
    if labels.dtype.kind in "iuf" and could_be_counts(classes, len(labels)):
        raise ValueError(ambiguous(labels_or_counts, labels))
    return samples.astype(np.float64)


# -- counts


def sorted_counts(counts: Mapping[Any, Any]) -> np.ndarray:
    for place, label in enumerate(counts):
        if is_missing(label):
            raise MissingLabelError(
                f"class {place} of the counts is missing ({label!r}); leave out the samples without a label, or give "
                "them a class of their own"
            )
    try:
        given = [as_count(counts[label]) for label in sorted(counts)]
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"counts must be a mapping from classes of one type to numbers; got {dict(counts)!r}") from None
    numbers = np.asarray(given, dtype=np.float64)
    if not (np.isfinite(numbers) & (numbers >= 0)).all():
        raise ValueError(f"counts must be finite and not negative; got {dict(counts)!r}")
    with np.errstate(over="ignore"):
        if len(numbers) * numbers.sum() == np.inf:
            raise ValueError(
                f"counts are too large: float64 cannot hold their sum for each class; got {dict(counts)!r}"
            )
    return numbers


def as_count(value: Any) -> float:
    if isinstance(value, str | bytes) or np.ndim(value):
        raise TypeError
    return float(value)


def counted_by_frame(given: Any) -> dict[Any, Any] | None:
    """Counts by class if `given` came from `value_counts`: a Series in pandas, a table of two columns in polars."""
    pandas, polars = sys.modules.get("pandas"), sys.modules.get("polars")
    if pandas is not None and isinstance(given, pandas.Series):
        index, name = given.index, given.name
        # Labels in a column called "count" have row numbers as their index.
        if not isinstance(name, str) or name not in COUNT_NAMES or isinstance(index, pandas.RangeIndex):
            return None
        if not index.is_unique or pandas.api.types.is_bool_dtype(given) or given.dtype.kind not in "iuf":
            return None
        values = given.to_numpy(dtype=np.float64, na_value=np.nan)
        classes = np.unique(values)
        if 0 in classes and not isinstance(index.dtype, pandas.CategoricalDtype):
            return None  # value_counts() has no zeros, except for categories
        many = len(values) >= 5 * len(classes) and not could_be_counts(classes, len(values))
        if many or not look_counted(values, classes):
            raise ValueError(
                f"the Series {name!r} could be labels or the result of value_counts(); for counts pass .to_dict(), "
                "for labels .to_numpy()"
            )
        return dict(zip(index.tolist(), given.tolist(), strict=True))
    for library in (pandas, polars):
        if library is not None and isinstance(given, library.DataFrame):
            names = list(given.columns)
            if len(names) == 2 and names[1] in COUNT_COLUMNS and names[0] != names[1]:
                counts = dict(zip(*(list(given[name]) for name in names), strict=True))
                if len(counts) == len(given):
                    return counts
            raise TypeError(
                f"labels must be one column, and this is a table with the columns {names}; pass table[name]. Counts "
                "are given as a mapping: dict(zip(table[classes], table[counts]))"
            )
    return None


def look_counted(values: np.ndarray, classes: np.ndarray) -> bool:
    """Whether numbers, whose different values are `classes`, look like counts: all different, or in order of size."""
    if len(classes) in (1, len(values)) or math.isclose(values.sum(), 1):
        return True
    return bool((np.diff(values) <= 0).all())


def could_be_counts(classes: np.ndarray, samples: int) -> bool:
    """Whether numbers, whose different values are `classes`, may be counts.  `class_weights` states the rule.

    It was tried on the counts of long-tailed, stepped and balanced versions of CIFAR, ImageNet and iNaturalist, and on
    labels with missing, sparse and shifted codes: tests/test_weights.py.
    """
    if not len(classes) or classes[0] < 0:
        return False
    different, largest = len(classes), float(classes[-1])
    if (classes == np.floor(classes)).all():
        if largest == different - 1 or (different == 1 and largest == 1):
            return False
        if largest == different and classes[0] == 1 and samples >= 5 * different:
            return False
        if 0.7 * largest <= different > 1 and samples >= max(100, 2 * different):
            return False
    if different == 1 or samples < 20 * different:
        return True
    many = samples >= 200 * different or (samples >= 1000 and different <= 100)
    return not (many or samples >= 5 * largest * different)


def ambiguous(given: Any, numbers: np.ndarray) -> str:
    if hasattr(given, "to_dict"):  # a Series of pandas, whose index may hold the classes
        remedy = "class_weights(counts.to_dict()), with the classes in the index"
    else:
        example = dict(enumerate(numbers.tolist())) if len(numbers) <= 6 else {0: 990, 1: 10}
        remedy = f"class_weights({example}) or class_weights(dict(enumerate(counts)))"
    labels = "labels.tolist()" if hasattr(given, "tolist") else "labels"
    numbers_given = counted(len(numbers), "number")
    return (
        f"{numbers_given}, {len(np.unique(numbers))} of them different, could be counts or labels. If these are "
        f"counts, pass them as a mapping from class to count, e.g. {remedy}; if they are labels, "
        f"class_weights(collections.Counter({labels}))"
    )


# -- labels


def labels_as_array(given: Any) -> np.ndarray:
    """One label per sample, none missing: numbers, strings or booleans; an object array unless all are numbers."""
    if isinstance(given, np.ma.MaskedArray) and np.ma.getmaskarray(given).any():
        raise_missing(np.ma.getmaskarray(given), given)
    try:
        labels = np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"labels must be one list of numbers, strings or booleans; {error}") from error
    if labels.ndim != 1 or labels.dtype.kind not in "biufUSTO":
        hint = ""
        if labels.ndim == 2:
            hint = ". A single column is labels[:, 0]; one-hot rows are labels.argmax(axis=1)"
        raise TypeError(
            "labels must be one list of numbers, strings or booleans, one per sample; "
            f"got {type(given).__name__} of shape {labels.shape} and dtype {labels.dtype}{hint}"
        )
    if labels.dtype.kind in "OT" or (labels.dtype.kind in "US" and isinstance(given, Sequence)):
        # NumPy turns everything in a list with strings into strings: NaN would become a class called "nan".
        return labels_of_objects(list(given) if isinstance(given, Sequence) else labels.tolist())
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        if np.isnan(labels).any():
            raise_missing(np.isnan(labels), labels)
        raise ValueError(f"labels must not be infinite; got {validation.first_bad(np.isinf(labels), labels)}")
    return labels


def labels_of_objects(labels: list[Any]) -> np.ndarray:
    kinds = {kind: label_kind(kind) for kind in set(map(type, labels))}
    if not all(issubclass(kind, str | bytes | int) for kind in kinds):  # these types are never missing
        where = np.fromiter(map(is_missing, labels), dtype=bool, count=len(labels))
        if where.any():
            raise_missing(where, labels)
    if set(kinds.values()) == {"number"}:
        numbers = np.asarray(labels)
        if numbers.dtype.kind != "f" or np.isfinite(numbers).all():
            return numbers
        raise ValueError(f"labels must not be infinite; got {validation.first_bad(np.isinf(numbers), numbers)}")
    if len(set(kinds.values())) <= 1 and None not in kinds.values():
        return np.asarray(labels, dtype=object)
    first = kinds[type(labels[0])]
    odd = next(place for place, label in enumerate(labels) if first is None or kinds[type(label)] != first)
    raise TypeError(
        "labels must be one list of numbers, strings or booleans, one per sample and all of one kind; position "
        f"{odd} holds {labels[odd]!r} of type {type(labels[odd]).__name__}"
    )


def label_kind(kind: type) -> str | None:
    if issubclass(kind, str | bytes):
        return "string" if issubclass(kind, str) else "bytes"
    return "number" if issubclass(kind, Real | np.bool_) else None


def is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, or pandas's NA or NaT.  Those are recognised by name, without importing pandas."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and bool(value != value)


def raise_missing(where: np.ndarray, labels: Any) -> None:
    first, count = int(np.argmax(where)), int(np.count_nonzero(where))
    others = f" ({count} missing labels in all)" if count > 1 else ""
    raise MissingLabelError(
        f"labels must be one list without missing values (None, NaN, NA); position {first} holds "
        f"{labels[first]!s}{others}. Leave these samples out, or give them a class of their own"
    )
