"""What the booster doors share: a focal loss as an objective and as a metric, where training starts, and the way back.

(a) Boosters start custom objectives at 0.  The best constant margin of the training prior is where we start.
(b) Gradient and curvature are divided by one number, so that the curvature at the start is on average cross-entropy's.
    That changes no minimum, and limits such as min_child_weight and lambda mean what they mean for log loss.  At gamma
    0 without alpha it is 1.
(c) An objective is for one model: its `posterior` needs the start that the model was trained from.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from parfocal.boosting import CURVATURES, Loss, Pair, derivatives
from parfocal.core import validation
from parfocal.losses import (
    BinaryFocalCrossentropy,
    CategoricalFocalCrossentropy,
    SparseCategoricalFocalCrossentropy,
)

# Posterior log-odds and log-probabilities end here in a metric's log loss, where float64's 1 - p does: under label
# smoothing a posterior may be 0, and one such row would make the mean infinite.
FARTHEST = 36.04


def focal_loss(classes: int | None, gamma: Any, alpha: Any, soft_labels: str = "expected", **config: Any) -> Loss:
    """The binary loss (None), or the softmax's of a number of classes, in float64; alpha None weighs no class."""
    if classes is None:
        balanced = alpha is not None
        return BinaryFocalCrossentropy(
            balanced, alpha if balanced else 0.25, gamma, dtype="float64", soft_labels=soft_labels, **config
        )
    loss = SparseCategoricalFocalCrossentropy(1.0 if alpha is None else alpha, gamma, dtype="float64", **config)
    for name, values in (("alpha", loss.alpha), ("gamma", loss.gamma)):
        if isinstance(values, tuple) and len(values) != classes:
            raise ValueError(
                f"{name} has {validation.counted(len(values), 'number')}, and there are "
                f"{validation.counted(classes, 'class')}; give one number, or one for each class in sorted order"
            )
    return loss


class Objective:
    """A focal loss as a booster's objective.

    Margins (N,) make it the binary loss, margins (N, classes) the softmax one, and with `multi_label` a binary loss of
    every column.

    Parameters
    ----------
    gamma : >= 0, one number; for the binary loss also a pair (negatives, positives), for a softmax one per class.
    alpha : None, no weights.  Binary: the weight of label 1, in [0, 1], label 0 has 1 - alpha.  Softmax: one number, a
        constant factor, or one weight per class.
    multi_label : the columns of the margins are labels of their own, each 0 or 1.
    label_smoothing : in [0, 1): labels move towards 1/2, or towards 1/classes.
    soft_labels : what labels between 0 and 1 mean, as in `parfocal.binary_focal_crossentropy`; "expected" is right for
        smoothing and for label noise.
    curvature : what the booster divides by, see `gradient_and_curvature`.
    prior : the share of label 1, one share per class, or one per column; None: that of the labels given to `params`.
    labels : of the training rows, where the booster's own table has no room for them (several columns).

    Attributes
    ----------
    start_ : the best constant margin of the prior, a number or one per column; None until the prior is known.

    Raises
    ------
    ValueError for parameters out of range; at a call for labels that are none, or in another number than the margins.
    """

    def __init__(
        self,
        gamma: Any = 2.0,
        alpha: Any = None,
        *,
        multi_label: bool = False,
        label_smoothing: float = 0.0,
        soft_labels: str = "expected",
        curvature: str = "positive",
        prior: Any = None,
        labels: Any = None,
    ) -> None:
        self.gamma = validation.gamma(gamma)
        self.alpha = None if alpha is None else validation.categorical_alpha(alpha)
        self.multi_label = validation.flag("multi_label", multi_label)
        self.label_smoothing = validation.label_smoothing(label_smoothing)
        validation.smoothing_below_one(self.label_smoothing)
        self.soft_labels = soft_labels
        self.curvature = validation.one_of("curvature", curvature, CURVATURES)
        self.prior = None if prior is None else np.asarray(prior, dtype=np.float64)
        self.labels = None if labels is None else np.asarray(validation.as_array("labels", labels))
        self._losses: dict[Any, Loss] = {}
        self.start_: Any = None
        self.scale_ = 1.0
        if self.multi_label or (self.labels is None and isinstance(self.gamma, float) and self.alpha is None):
            self.loss(None)  # its errors now rather than in the first round
        if self.prior is not None:
            self.begin(self.prior)

    def loss(self, classes: int | None, smoothed: bool = True) -> Loss:
        """The loss of one column of margins, or of a softmax of several; its `posterior` is the way back."""
        key = None if self.multi_label else classes, smoothed
        if key not in self._losses:
            smoothing = self.label_smoothing if smoothed else 0.0
            self._losses[key] = focal_loss(
                key[0],
                self.gamma,
                self.alpha,
                self.soft_labels,
                from_logits=True,
                label_smoothing=smoothing,
            )
        return self._losses[key]

    # -- where training starts

    def learn_prior(self, labels: Any, sample_weight: Any, num_class: int | None) -> np.ndarray:
        """Find the prior in labels, unless it was given, and return the start of every column."""
        if self.prior is not None:
            return np.asarray(self.start_)
        labels = self.labels if labels is None else labels
        if labels is None:
            raise ValueError("give the labels of the training rows to params, or the objective a prior")
        labels = np.asarray(validation.as_array("labels", labels))
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if num_class is None and labels.ndim == 1 and labels.size and np.nanmax(labels) > 1:
            validation.class_indices(labels, int(np.nanmax(labels)) + 1, None)
            num_class = int(labels.max()) + 1
        before = self.start_, self.scale_
        now = self.begin_with(labels, sample_weight, num_class)
        if before[0] is not None and not np.array_equal(before[0], now):
            self.start_, self.scale_ = before
            raise ValueError(
                "this objective has started another model, whose posterior needs that start; make a new objective for "
                "each model"
            )
        return np.asarray(now)

    def known_start(self) -> Any:
        if self.start_ is None:
            raise ValueError(
                "the objective does not know where to start: have **objective.params(labels) among the parameters, or "
                "give it a prior"
            )
        return self.start_

    def begin(self, prior: Any) -> Any:
        """Set `start_` and the unit of gradient and curvature, by a prior."""
        prior = np.asarray(prior, dtype=np.float64)
        classes = None if self.multi_label or not prior.ndim else len(prior)
        self.start_ = self.loss(classes).optimal_logit(prior)
        unit, of_cross_entropy = (
            float(np.mean(objective.expected_curvature(prior)))
            for objective in (self, type(self)(0.0, multi_label=self.multi_label))
        )
        if not unit > np.finfo(np.float64).tiny:
            raise ValueError(
                f"nothing would be learned: at the prior {prior} the curvature of this loss is {unit:.1e}; use a "
                "smaller gamma"
            )
        self.scale_ = of_cross_entropy / unit
        return self.start_

    def begin_with(self, labels: Any, sample_weight: Any = None, classes: int | None = None) -> Any:
        """`begin`, with the prior of labels; where all are of one class, half a sample is of another."""
        labels = np.asarray(validation.as_array("labels", labels), dtype=np.float64)
        if not labels.size:
            raise ValueError("there are no labels to find the prior of; give the objective a prior")
        weight = weights_of(labels, sample_weight)
        if classes is None or labels.ndim == 2:
            validation.labels_in_unit_interval(labels)
            prior = np.average(labels, axis=0, weights=weight)
        else:
            validation.class_indices(labels, classes, None)
            prior = np.bincount(labels.astype(np.int64), weights=weight, minlength=classes) / weight.sum()
            if not prior.all():
                warnings.warn(
                    f"class {int(np.argmin(prior))} of {classes} has no row; classes are counted from 0, so "
                    "labels 1 and 2 must become 0 and 1",
                    stacklevel=4,
                )
        least = 0.5 / len(labels)
        prior = np.clip(prior, least, 1 - least)
        return self.begin(prior if classes is None or self.multi_label else prior / prior.sum())

    def expected_curvature(self, prior: np.ndarray) -> np.ndarray:
        """The mean curvature of each margin where all are at their best constant."""
        if self.multi_label and prior.ndim:
            return np.asarray([self.expected_curvature(share) for share in prior])
        if not prior.ndim:
            start = self.loss(None).optimal_logit(prior)
            curvature = self.terms_at(np.full(2, start), np.asarray([0.0, 1.0]), None)[1]
            return np.asarray((1 - prior) * curvature[0] + prior * curvature[1])
        margins = np.tile(self.loss(len(prior)).optimal_logit(prior), (len(prior), 1))
        return prior @ self.terms_at(margins, np.arange(len(prior)), None)[1]

    # -- a round

    def terms(self, margins: np.ndarray, labels: Any, sample_weight: Any = None, dtype: Any = np.float32) -> Pair:
        """Gradient and curvature of whole margins, in the unit of cross-entropy."""
        return self.terms_at(margins, labels, sample_weight, dtype, 1 / self.scale_)

    def terms_at(
        self, margins: np.ndarray, labels: Any, sample_weight: Any, dtype: Any = np.float64, by: float = 1.0
    ) -> Pair:
        """The loss's own terms, divided by `by`."""
        if margins.ndim == 1:
            return derivatives(self.loss(None), margins, labels, sample_weight, self.curvature, dtype, by)
        labels = np.asarray(labels)
        if self.multi_label:
            validation.one_shape(labels.shape, margins.shape, type(self).__name__)
            each = None if sample_weight is None else np.repeat(np.asarray(sample_weight), margins.shape[1])
            loss = self.loss(None)
            flat = derivatives(loss, margins.ravel(), labels.ravel(), each, self.curvature, dtype, by)
            return flat[0].reshape(margins.shape), flat[1].reshape(margins.shape)
        gradient, curvature = self.softmax_terms(margins, labels, sample_weight, dtype, by)
        factor = self.factor(margins.shape[1])
        if factor != 1.0:
            curvature *= curvature.dtype.type(factor)
        return gradient, curvature

    def softmax_terms(self, margins: np.ndarray, labels: np.ndarray, sample_weight: Any, dtype: Any, by: float) -> Pair:
        """One class a row in one pass; labels that are shares, or smoothed, as the sum over the classes."""
        classes, smoothing = margins.shape[1], self.label_smoothing
        hard = self.loss(classes, smoothed=False)
        if labels.ndim == 1 and not smoothing:
            return derivatives(hard, margins, labels, sample_weight, self.curvature, dtype, by)
        if labels.ndim == 1:
            validation.class_indices(labels, classes, None)
            labels = np.eye(classes)[labels.astype(np.int64)]
        validation.dense_labels(labels.shape, margins.shape, 1)
        shares = labels * (1 - smoothing) + smoothing / classes
        weight = shares if sample_weight is None else shares * np.asarray(sample_weight)[:, None]
        gradient, curvature = np.zeros_like(margins, np.float64), np.zeros_like(margins, np.float64)
        for k in range(classes):
            rows = np.full(len(margins), k)
            more = derivatives(hard, margins, rows, weight[:, k], self.curvature, np.float64, by)
            gradient += more[0]
            curvature += more[1]
        return gradient.astype(dtype), curvature.astype(dtype)

    def factor(self, classes: int) -> float:
        """What the booster's own softmax multiplies its curvature by, so that gamma 0 is that objective."""
        return 1.0

    # -- after training

    def posterior(self, margins: Any) -> np.ndarray:
        """Whole margins as probabilities: (N,) of label 1, or (N, columns)."""
        margins, start = np.asarray(margins, dtype=np.float64), np.shape(self.start_)
        if self.start_ is not None and margins.shape[1:] != start and not self.multi_label:
            raise ValueError(f"scores must have the shape {('N', *start)}, as in training; got {margins.shape}")
        return np.asarray(self.loss(margins.shape[1] if margins.ndim > 1 else None).posterior(margins))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(gamma={self.gamma}, alpha={self.alpha}, curvature={self.curvature!r})"


class Metric:
    """How well whole margins do: the mean focal loss, or the mean log loss of the recovered posterior.

    Parameters
    ----------
    objective : the one that trains.
    of : "focal_loss" or "log_loss".
    labels : as the objective's, of the rows that are evaluated.
    """

    NAMES = ("focal_loss", "log_loss")

    def __init__(self, objective: Objective, of: str = "focal_loss", *, labels: Any = None) -> None:
        self.objective, self.of = objective, validation.one_of("of", of, self.NAMES)
        if labels is None and objective.labels is not None:
            raise ValueError("the objective has labels of its own, so the metric needs those of its rows: labels=...")
        self.labels = None if labels is None else np.asarray(labels)

    @property
    def name(self) -> str:
        return "focal_loss" if self.of == "focal_loss" else "posterior_log_loss"

    def value(self, margins: np.ndarray, labels: Any, sample_weight: Any = None) -> float:
        """The weighted mean over the rows, and over the labels of a row."""
        margins = np.asarray(margins, dtype=np.float64)
        classes = None if margins.ndim == 1 or self.objective.multi_label else margins.shape[1]
        loss: Any = self.objective.loss(classes)
        if self.of == "log_loss":
            # the posterior's own log loss: cross-entropy of its logits, with no gamma, alpha or smoothing
            margins = np.clip(np.asarray(loss.posterior_logit(margins)), -FARTHEST, FARTHEST)
            loss = Objective(0.0, soft_labels=self.objective.soft_labels).loss(classes)
        config = {**loss.get_config(), "reduction": "mean_with_sample_weight"}
        labels = np.asarray(labels)
        if classes is not None and labels.ndim == 2:
            config = {name: value for name, value in config.items() if name != "ignore_class"}
            return float(
                CategoricalFocalCrossentropy.from_config({**config, "name": None})(labels, margins, sample_weight)
            )
        return float(type(loss).from_config(config)(labels, margins, sample_weight))


def weights_of(labels: np.ndarray, sample_weight: Any) -> np.ndarray:
    """One weight for each row."""
    if sample_weight is None:
        return np.ones(len(labels))
    weight = np.asarray(validation.as_array("sample_weight", sample_weight), dtype=np.float64)
    if weight.shape != labels.shape[:1]:
        raise ValueError(f"sample_weight must have the shape {labels.shape[:1]}, one for each row; got {weight.shape}")
    if not (weight >= 0).all() or not 0 < weight.sum() < np.inf:
        raise ValueError("sample_weight must hold numbers >= 0, at least one of them above 0")
    return weight
