"""One function for every mistake a caller can make.  Each says what was given, what is allowed and how to fix it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import pairwise
from typing import Any

import numpy as np

from parfocal.core.formula import Schedule
from parfocal.core.hosts import KERAS, Host, be, counted, have, hold

# q^g is computed from a pair of floats that hold g v; beyond this the pair overflows; the loss underflowed to 0 long
# before.
LARGEST_GAMMA = 1e30


# -- parameters, at construction

TRAINED = ("alpha", "gamma")  # that some of the adapters differentiate with respect to


def number_or_list(name: str, value: Any) -> float | tuple[float, ...]:
    """A number, or one number per class, as Python floats."""
    number = isinstance(value, int | float)  # torch.compile knows no attributes of a number that it traces
    if not number and (getattr(value, "requires_grad", False) or getattr(value, "trainable", False)):
        raise TypeError(
            f"{name} asks for a gradient, and is a constant here; "
            + ("parfocal.torch and parfocal.jax differentiate with respect to it. Otherwise " * (name in TRAINED))
            + "pass its numbers without the gradient"
        )
    try:
        if isinstance(value, str | bytes | Mapping | Set):
            raise TypeError  # a set has no order, and the numbers of a mapping are not what iterating it gives
        if isinstance(value, Iterable) and getattr(value, "ndim", 1) != 0:
            return tuple(float(item) for item in value)
        return float(value)
    except (TypeError, ValueError, OverflowError):
        if hasattr(value, "aval"):  # a JAX tracer
            remedy = (
                f"parfocal.jax takes a traced {name}, and differentiates with respect to it"
                if name in TRAINED
                else "call this outside of jit, or give it numbers that are known there"
            )
            raise TypeError(f"{name} is traced, and is a constant here; {remedy}") from None
        raise TypeError(f"{name} must be a number or a list of numbers, one per class; got {value!r}") from None


def gamma(value: Any, classes: int | None = None) -> float | tuple[float, ...] | Schedule:
    """gamma >= 0: a number, one per class, or a schedule; `classes` is set where their number is known at once."""
    if isinstance(value, Schedule):
        return value
    gammas = number_or_list("gamma", value)
    at_least_one("gamma", gammas)
    for item in gammas if isinstance(gammas, tuple) else (gammas,):
        if not 0 <= item <= LARGEST_GAMMA:
            raise ValueError(
                f"gamma must be a number from 0 (plain cross-entropy) to {LARGEST_GAMMA:g}; got {value!r}. "
                "Lin et al. 2017 use 2."
            )
    if classes is not None and isinstance(gammas, tuple):
        if len(gammas) != classes:
            raise ValueError(
                f"gamma must be one number or a pair (negatives, positives); got "
                f"{counted(len(gammas), 'number')}: {value!r}"
            )
        if len(set(gammas)) == 1:
            return gammas[0]
    return gammas


def schedule(thresholds: Any, gammas: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """A table of gammas by the probability of the true class."""
    bounds, values = number_or_list("thresholds", thresholds), number_or_list("gammas", gammas)
    bounds = bounds if isinstance(bounds, tuple) else (bounds,)
    if not isinstance(values, tuple) or len(values) != len(bounds) + 1:
        raise ValueError(
            f"a schedule has one gamma more than thresholds, gammas[i] holding below thresholds[i] and the last one "
            f"above all; got thresholds {thresholds!r} and gammas {gammas!r}"
        )
    for value in values:
        gamma(value)
    if not bounds or not all(0 < bound < 1 for bound in bounds) or any(a >= b for a, b in pairwise(bounds)):
        raise ValueError(f"thresholds must be probabilities in (0, 1), each above the one before; got {thresholds!r}")
    if list(values) not in (sorted(values), sorted(values, reverse=True)):
        raise ValueError(f"the gammas of a schedule must only rise or only fall; got {gammas!r}")
    return bounds, values


def at_least_one(name: str, values: float | tuple[float, ...]) -> None:
    if values == ():
        raise ValueError(f"{name} is an empty list; give one number, or one per class")


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_) and (not isinstance(value, int) or value not in (0, 1)):
        raise TypeError(f"{name} must be True or False; got {value!r}")
    return bool(value)


def binary_alpha(value: Any) -> float:
    alpha = number_or_list("alpha", value)
    if isinstance(alpha, tuple) or not 0 <= alpha <= 1:
        raise ValueError(
            f"alpha must be one number in [0, 1], the weight of label 1 (label 0 has 1 - alpha); got {value!r}"
        )
    return alpha


def categorical_alpha(value: Any) -> float | tuple[float, ...]:
    alphas = number_or_list("alpha", value)
    at_least_one("alpha", alphas)
    for item in alphas if isinstance(alphas, tuple) else (alphas,):
        if not 0 <= item < math.inf:
            raise ValueError(f"alpha must be a number >= 0, or a list of them, one per class; got {value!r}")
    return alphas


def label_smoothing(value: Any) -> float:
    smoothing = number_or_list("label_smoothing", value)
    if isinstance(smoothing, tuple) or not 0 <= smoothing <= 1:
        raise ValueError(f"label_smoothing must be one number in [0, 1]; got {value!r}")
    return smoothing


def one_of(name: str, value: Any, allowed: Sequence[Any]) -> Any:
    if not (value is None or isinstance(value, str)) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}")
    return value


def whole_number(name: str, value: Any) -> int:
    try:
        if int(value) == value:
            return int(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{name} must be a whole number; got {value!r}")


SMALLEST = 1e-100  # of a price, or of F-beta's beta: squares and products stay finite


def above_zero(name: str, value: Any) -> float:
    number = number_or_list(name, value)
    if isinstance(number, tuple) or not 0 < number < math.inf:
        raise ValueError(f"{name} must be a number above 0; got {value!r}")
    if not SMALLEST <= number <= 1 / SMALLEST:
        raise ValueError(f"{name} must be between {SMALLEST:g} and {1 / SMALLEST:g}; got {value!r}")
    return number


def share(name: str, value: Any, one: bool = True) -> float:
    """A number in (0, 1], or in (0, 1)."""
    number = number_or_list(name, value)
    if isinstance(number, tuple) or not (0 < number < 1 or (one and number == 1)):
        raise ValueError(f"{name} must be in (0, 1{']' if one else ')'}; got {value!r}")
    return number


def gamma_pair_with_soft_labels(soft_labels: str, gammas: Any) -> None:
    """The rule "linear" has one exponent for both classes."""
    if isinstance(gammas, tuple) and soft_labels == "linear":
        raise ValueError(
            f"a gamma pair {gammas} with labels between 0 and 1 (or label_smoothing) needs soft_labels='expected'; "
            "with soft_labels='linear' gamma must be one number"
        )


# -- arrays, at each call


# What needs no second look.
USUAL = frozenset(np.dtype(name) for name in ("bool", "int32", "int64", "uint8", "float16", "float32", "float64"))


def as_array(name: str, values: Any) -> np.ndarray:
    """`values` as a NumPy array of real numbers; nothing is copied that need not be."""
    if type(values) is np.ndarray and values.dtype in USUAL:
        return values
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; leave samples out with sample_weight=0, or with ignore_class")
    try:
        array = np.asarray(values)
    except ValueError as error:  # lists of different lengths
        raise ValueError(f"{name} is not a rectangular array: {error}") from None
    is_real(name, array)
    return array


def is_real(name: str, array: np.ndarray) -> None:
    kind = array.dtype
    if (kind.kind in "biuf" and kind.itemsize <= 8) or kind.name == "bfloat16":
        return
    raise TypeError(
        f"{name} must hold real numbers (bool, integers, float16, bfloat16, float32 or float64); got dtype {kind}"
    )


def first_bad(bad: np.ndarray, values: np.ndarray) -> str:
    """Where the first bad value stands, and what it is."""
    position = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))
    count = int(bad.sum())
    others = f" ({count} such values in all)" if count > 1 else ""
    where = f" at position {position if len(position) != 1 else position[0]}" if position else ""
    return f"{values[position]!s}{where}{others}"


def axis_in_range(axis: int, ndim: int, name: str, scores: str = "y_pred") -> int:
    """`axis` counted from 0."""
    if not -ndim <= axis < ndim:
        needed = axis + 1 if axis >= 0 else -axis
        raise ValueError(
            f"axis {axis} is out of range for {scores} with {counted(ndim, 'dimension')}; {name} needs at least "
            f"{'one' if needed == 1 else needed}"
        )
    return axis % ndim


Shape = tuple[int | None, ...]  # None: not known while a graph is built


def one_shape(labels: Shape, scores: Shape, function: str, hint: str = "", host: Host = KERAS) -> None:
    if not fits(labels, scores):
        raise ValueError(
            f"{function} needs {host.labels} and {host.scores} of one shape; got {host.labels} {labels} and "
            f"{host.scores} {scores}.{hint}"
        )


def fits(given: Shape, wanted: Shape) -> bool:
    """Whether two shapes can be one."""
    if given == wanted:
        return True
    return len(given) == len(wanted) and all(
        a is None or b is None or a == b for a, b in zip(given, wanted, strict=True)
    )


def without(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], *shape[axis + 1 :])


def class_axis(parameters: Any, shape: Shape, function: str, host: Host = KERAS) -> int:
    """The class axis of the scores counted from 0, once there are classes, and lists that fit them."""
    axis = axis_in_range(parameters.axis, len(shape), function, host.scores)
    classes = shape[axis]
    if classes is None:
        raise ValueError(f"{function} must know the number of classes, axis {axis} of {host.scores} with shape {shape}")
    if classes < 2:
        raise ValueError(
            f"{function} needs at least 2 classes along axis {axis}; {host.scores} {have(host.scores)} shape {shape}. "
            f"For one score per sample use {host.binary}."
        )
    if type(parameters.alpha) is tuple or type(parameters.gamma) is tuple:
        one_per_class("alpha", parameters.alpha, classes, host)
        one_per_class("gamma", parameters.gamma, classes, host)
    return axis


def binary_labels(labels: Shape, scores: Shape, host: Host = KERAS) -> None:
    one_class_a_row = len(scores) > 1 and fits(labels, scores[:-1])
    one_shape(labels, scores, host.binary, f" For class indices use {host.sparse}." * one_class_a_row, host)


def dense_labels(labels: Shape, scores: Shape, axis: int, host: Host = KERAS) -> None:
    """One-hot or soft labels."""
    hint = f" Class indices have the shape {without(scores, axis)}." if host.sparse == host.dense else ""
    if len(labels) == len(scores) - 1 or fits(labels, (*scores[:axis], 1, *scores[axis + 1 :])):
        hint = hint or f" For class indices use {host.sparse}."
    one_shape(labels, scores, host.dense, hint, host)


def sparse_labels(labels: Shape, scores: Shape, axis: int, host: Host = KERAS) -> int | None:
    """Class indices: the axis of length 1 in their shape that has to go, or None."""
    rows = without(scores, axis)
    if fits(labels, rows):
        return None
    if fits(labels, (*scores[:axis], 1, *scores[axis + 1 :])):
        return axis
    if fits(labels, (*rows, 1)):
        return len(rows)
    hint = ""
    if fits(labels, scores) and len(scores) == 1:
        hint = f" {one_sample(host)}."
    elif fits(labels, scores):
        indices = f"give their class indices, {host.labels}.argmax({axis})"
        hint = f" For one-hot labels {indices if host.sparse == host.dense else f'use {host.dense}'}."
    raise ValueError(
        f"{host.sparse} needs one class index for each row of {host.scores}, so {host.labels} of shape "
        f"{rows} for {host.scores} {scores} with the classes on axis {axis}; got {host.labels} {labels}.{hint}"
    )


def one_per_class(name: str, values: Any, classes: int, host: Host = KERAS) -> None:
    if isinstance(values, tuple) and len(values) != classes:
        raise ValueError(
            f"{name} has {counted(len(values), 'number')} and {host.scores} {have(host.scores)} "
            f"{counted(classes, 'class')}; give one per class"
        )


def one_sample(host: Host, consequence: str = "") -> str:
    """What to say of scores (C,) where N samples were probably meant."""
    return (
        f"{host.scores} of one dimension {be(host.scores)} one sample with C classes"
        f"{' (the rule of PyTorch)' * host.one_sample}{consequence}; for N samples give {host.scores} (N, C)"
    )


def labels_in_unit_interval(labels: np.ndarray, host: Host = KERAS, binary: bool = False) -> None:
    bad = ~((labels >= 0) & (labels <= 1))
    if not bad.any():
        return
    labels, bad, hint = (labels[0], bad[0], "") if host.one_sample else (labels, bad, "")
    if not binary and labels.ndim == 1:
        hint = ". " + one_sample(host, f", so {host.labels} {labels.shape} {be(host.labels)} read as its probabilities")
    elif binary and (np.abs(labels) == 1).all():
        hint = f". Labels -1 and 1? Use ({host.labels} + 1) / 2"
    elif binary and ((labels[bad] > 1) & (labels[bad] == np.floor(labels[bad]))).all():
        hint = f". For class indices use {host.sparse}"
    raise ValueError(
        f"labels must be numbers in [0, 1]; {host.labels} {hold(host.labels)} {first_bad(bad, labels)}{hint}"
    )


def probabilities_in_unit_interval(probabilities: np.ndarray, host: Host = KERAS) -> None:
    bad = (probabilities < 0) | (probabilities > 1)
    if bad.any():
        raise ValueError(
            f"with from_logits=False {host.scores} must hold probabilities in [0, 1]; it holds "
            f"{first_bad(bad, probabilities)}. For raw scores pass from_logits=True."
        )


def rows_have_a_sum(sums: np.ndarray) -> None:
    """Class scores are divided by their sum."""
    if (sums == 0).any():
        raise ValueError(
            "with from_logits=False the class probabilities of a sample are divided by their sum, which is "
            f"{first_bad(sums == 0, sums)}"
        )


class ClassIndexError(ValueError, IndexError):
    """An invalid class index: a ValueError, and an IndexError to users of PyTorch."""


def class_indices(labels: np.ndarray, classes: int, ignore_class: int | None, host: Host = KERAS) -> None:
    bad = ~((labels >= 0) & (labels < classes) & (labels == np.floor(labels)))
    if ignore_class is not None:
        bad &= labels != ignore_class
    if bad.any():
        ignored = "" if ignore_class is None else f" or {host.ignored}={ignore_class}"
        # With a 0 among them they are not counted from 1: then scores are missing.
        from_1 = (labels[bad] == classes).all() and not (labels == 0).any()
        raise ClassIndexError(
            f"{host.indices} must be whole numbers from 0 to {classes - 1}{ignored}; "
            f"{host.labels} {hold(host.labels)} {first_bad(bad, labels)}"
            + f". Labels from 1 to {classes}? Subtract 1"
            * bool(from_1)
        )


def weight_shape(weights: Shape, losses: Shape, elements: Shape | None, host: Host = KERAS) -> None:
    full = f", or {elements}, one weight for each element" if elements not in (None, losses) else ""
    raise ValueError(
        f"{host.weight} of shape {weights} does not fit: it must broadcast to {losses}, one weight for each loss"
        f"{full}. A weight per row of a longer array is written weight[:, None]."
    )


def class_weight_values(values: Sequence[float], what: str) -> None:
    """Weights that multiplied the loss of a class: a class with weight 0 leaves no trace in the scores."""
    if any(not 0 < value < math.inf for value in values):
        raise ValueError(
            f"the posterior needs every class to have a weight above 0, finite; got {what} = {tuple(values)}. "
            "A class with weight 0 had no influence on training, so its probability cannot be recovered."
        )


def class_weight_keys(keys: Iterable[Any], classes: int) -> None:
    unknown = [key for key in keys if key not in range(classes)]
    if unknown:
        raise ValueError(f"class_weight must have class indices from 0 to {classes - 1} as keys; got {unknown}")


def smoothing_below_one(smoothing: float) -> None:
    if smoothing > 1 - 1e-12:  # closer to 1, what is left of the labels is rounding
        raise ValueError(
            f"label_smoothing={smoothing!r} trains on labels without information, so there is no posterior to recover"
        )


def prior_inside(prior: np.ndarray, binary: bool) -> None:
    """The share of label 1, or of each class."""
    bad = ~((prior > 0) & (prior < 1))
    if not bad.any():
        return
    hint = ""
    if (prior > 1).any():
        hint = (
            ". Here it is the share of label 1: labels.mean(), or of counts by label counts[1] / counts.sum()"
            if binary
            else ". Divide counts by their sum: counts / counts.sum()"
        )
    elif (prior[bad] >= 0).all():  # 0 and 1, no NaN
        smoothed = "(counts[1] + 0.5) / (counts.sum() + 1)" if binary else "(counts + 0.5) / (counts + 0.5).sum()"
        hint = f". A class without samples? Count half a sample more of each class: {smoothed}"
    raise ValueError(
        f"a prior is a probability strictly between 0 and 1; got {first_bad(bad, prior)}{hint}"
        + " (docs/howto/bias.md)" * bool(hint)
    )
