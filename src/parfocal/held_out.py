"""Held-out labels, scores and weights of any library, checked, as NumPy arrays for a Calibrator's fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from parfocal import backends
from parfocal.backends.numpy import NUMPY
from parfocal.core import validation
from parfocal.core.batch import weight_per_loss
from parfocal.core.hosts import OBJECTS, Host
from parfocal.core.parameters import Binary, Categorical, SparseCategorical

Parameters = Binary | Categorical


class Samples(NamedTuple):
    """The held-out samples that count: one per row, classes on the last axis."""

    scores: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None


def binary_samples(parameters: Binary, y_true: Any, y_pred: Any, sample_weight: Any, host: Host = OBJECTS) -> Samples:
    """The held-out samples of a binary loss, one for each label."""
    batch = NUMPY.batch(parameters, host_array("y_true", y_true), host_array("y_pred", y_pred), host=host)
    labels, scores, axis = batch.labels, batch.scores, batch.axis
    counted = weights = None
    if sample_weight is not None:
        weights, per_element = host_weights(sample_weight, scores, axis, scores.shape)
        weights = np.broadcast_to(weights if per_element else np.expand_dims(weights, axis), scores.shape)
        counted = weights > 0
    looked_at = scores if counted is None else np.where(counted, scores, scores.dtype.type(0))
    read = labels if counted is None else np.where(counted, labels, labels.dtype.type(0))
    validation.labels_in_unit_interval(read, host, binary=True)
    check_scores(parameters, looked_at)
    check_infinite(parameters, looked_at, lambda: np.where(looked_at > 0, labels < 1, labels > 0))
    if counted is None or weights is None:
        return Samples(scores.reshape(-1), labels.reshape(-1), None)
    return Samples(scores[counted], labels[counted], weights[counted])


def rows(parameters: Categorical, y_true: Any, y_pred: Any, sample_weight: Any, host: Host = OBJECTS) -> Samples:
    """The held-out samples of a categorical loss, with the classes on the last axis of the scores."""
    y_pred = host_array("y_pred", y_pred)
    if y_pred.ndim < 2:
        raise ValueError(
            f"y_pred must be (N, C), one score for each class; got {y_pred.shape}. For one score per sample fit a "
            f"Calibrator of {host.binary} (docs/howto/calibrate.md)"
        )
    batch = NUMPY.batch(parameters, host_array("y_true", y_true), y_pred, host=host)
    labels, scores, axis, valid = batch.labels, batch.scores, batch.axis, batch.valid
    scores, weights, counted = np.moveaxis(scores, axis, -1), None, valid
    if sample_weight is not None:
        weights, _ = host_weights(sample_weight, scores, scores.ndim - 1, None)
        counted = weights > 0 if valid is None else valid & (weights > 0)
    sparse = isinstance(parameters, SparseCategorical)
    labels = labels if sparse else np.moveaxis(labels, axis, -1)
    looked_at, read = scores, labels
    if counted is not None:
        looked_at = np.where(counted[..., None], scores, scores.dtype.type(1))
        read = np.where(counted if sparse else counted[..., None], labels, labels.dtype.type(0))
    if isinstance(parameters, SparseCategorical):
        validation.class_indices(read, scores.shape[-1], parameters.ignore_class, host)
    else:
        validation.labels_in_unit_interval(read, host)
    check_scores(parameters, np.moveaxis(looked_at, -1, axis))

    def wrong() -> np.ndarray:
        """Where an infinite score is wrong: in samples with a class of y_true below the largest score."""
        seen = read[..., None] == np.arange(scores.shape[-1]) if sparse else read > 0
        behind = (seen & (looked_at < looked_at.max(axis=-1, keepdims=True))).any(axis=-1, keepdims=True)
        return np.moveaxis(behind & ((looked_at > 0) | seen), -1, axis)

    check_infinite(parameters, np.moveaxis(looked_at, -1, axis), wrong)
    if not parameters.from_logits:
        validation.rows_have_a_sum(looked_at.sum(axis=-1, keepdims=True))
    counted = np.ones(scores.shape[:-1], bool) if counted is None else counted
    return Samples(
        scores[counted],
        labels[counted].astype(np.int64 if sparse else np.float64),
        None if weights is None else weights[counted],
    )


def check_scores(parameters: Parameters, scores: np.ndarray) -> None:
    bad = np.isnan(scores)
    if bad.any():
        raise ValueError(
            f"y_pred holds {validation.first_bad(bad, scores)}, from which nothing can be fitted; leave such "
            "samples out, or give them sample_weight=0"
        )
    if not parameters.from_logits:
        validation.probabilities_in_unit_interval(scores)


def check_infinite(parameters: Parameters, scores: np.ndarray, wrong: Callable[[], np.ndarray]) -> None:
    """Raises for infinite logits that y_true contradicts, unless smoothing or probabilities bound the loss."""
    if not parameters.from_logits or parameters.label_smoothing:
        return
    infinite = np.isinf(scores)
    bad = infinite & wrong() if infinite.any() else infinite
    if bad.any():
        # An error, not a bound: such a sample would dominate the fit, and the bound would decide the result.
        raise ValueError(
            f"y_pred holds {validation.first_bad(bad, scores)}, which y_true contradicts: the loss of that sample "
            "is infinite at every finite temperature. Leave such samples out, give them sample_weight=0, or clip "
            "y_pred to finite scores"
        )


def host_array(name: str, values: Any, function: str = "fit") -> np.ndarray:
    """An array of any library as a NumPy array."""
    library = backends.library_of(values)
    try:
        if library == "torch":
            values = values.detach().cpu()
            values = (values.float() if values.dtype.itemsize == 2 and values.is_floating_point() else values).numpy()
        elif library == "tensorflow":
            values = values.numpy()
        elif library != "numpy":
            values = np.asarray(values)
    except (TypeError, AttributeError, NotImplementedError, RuntimeError) as error:
        raise TypeError(
            f"{function} needs the numbers in {name}, and a traced array of {library} does not hold "
            f"any; call {function} outside of jit, tf.function and torch.compile"
        ) from error
    return validation.as_array(name, values)


def host_weights(
    sample_weight: Any, scores: np.ndarray, axis: int, elements: tuple[int, ...] | None
) -> tuple[np.ndarray, bool]:
    """sample_weight, with one weight for each loss or, if the second result is True, for each element."""
    weights = NUMPY.weights(host_array("sample_weight", sample_weight), scores)
    bad = ~((weights >= 0) & (weights < np.inf))
    if bad.any():
        raise ValueError(f"a sample_weight must be finite and >= 0 here; got {validation.first_bad(bad, weights)}")
    lengths = NUMPY.lengths_without(scores, axis)
    return weight_per_loss(NUMPY, weights, lengths, lengths, elements)
