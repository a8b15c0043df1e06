"""What the booster doors share: gradient and curvature as a booster asks for them, where it starts, and the way back.

(a) A booster divides by the curvature, and the exact one of a focal loss is below 0 for badly wrong samples: boosters
    take that in silence.  `CURVATURES` are the answers to it; docs/boosting.md has the experiment that chose the first.
(b) Boosters start custom objectives at 0.  The best constant margin of the training prior is where we start.
(c) Gradient and curvature are divided by one number, so that the curvature at the start is on average cross-entropy's.
    That changes no minimum, and limits such as min_child_weight and lambda mean what they mean for log loss.  At gamma
    0 without alpha it is 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from parfocal import checks
from parfocal.backends import numpy
from parfocal.losses import (
    BinaryFocalCrossentropy,
    CategoricalFocalCrossentropy,
    SparseCategoricalFocalCrossentropy,
)
from parfocal.reduction import broadcast_weight

Loss = BinaryFocalCrossentropy | SparseCategoricalFocalCrossentropy
Pair = tuple[np.ndarray, np.ndarray]

CURVATURES = ("positive", "exact", "absolute", "cross_entropy")


def gradient_and_curvature(
    loss: Loss,
    margins: Any,
    labels: Any,
    sample_weight: Any = None,
    *,
    curvature: str = "positive",
    dtype: Any = np.float64,
) -> Pair:
    """First and second derivative of every sample's loss with respect to its margins, for one round of boosting.

    The gradient is the loss's own.  At gamma 0 both are exactly those of cross-entropy.

    Parameters
    ----------
    loss : built with `from_logits=True`; its gamma, alpha and label smoothing count, its reduction does not.
    margins : (N,) raw scores for the binary loss, (N, classes) for the sparse categorical one, the init score
        (`loss.optimal_logit(prior)`) included.  Columns that lie together (LightGBM's order) are read as they are.
    labels : (N,) of 0 and 1, or class indices.  With soft labels or label smoothing the positive curvature of the
        binary loss is the mean of both labels' own; the categorical loss takes no smoothing here.
    sample_weight : (N,), multiplies both.
    curvature : "positive", the exact one without its negative term, 0 only where it underflows; "exact", below 0 for
        badly wrong samples; "absolute", the exact one's size; "cross_entropy", that of gamma 0.
    dtype : of the results.

    Returns
    -------
    (gradient, curvature), in the shape and memory order of `margins`.

    Raises
    ------
    ValueError for a loss that takes probabilities, for shapes that differ, and for labels that are none.
    TypeError for another loss, and for arrays that hold no real numbers.

    >>> loss = BinaryFocalCrossentropy(gamma=2.0, from_logits=True)
    >>> gradient, curvature = gradient_and_curvature(loss, [-4.0, 0.0, 4.0], [1, 1, 1])
    >>> print(gradient.round(3), curvature.round(3))
    [-1.086 -0.298 -0.   ] [0.09  0.486 0.   ]
    """
    return derivatives(loss, margins, labels, sample_weight, checks.one_of("curvature", curvature, CURVATURES), dtype)


def derivatives(
    loss: Loss, margins: Any, labels: Any, sample_weight: Any, curvature: str, dtype: Any, by: float = 1.0
) -> Pair:
    """`gradient_and_curvature`, divided by `by`."""
    margins = np.asarray(numpy.as_array("margins", margins), dtype=np.float64)
    labels = numpy.as_array("labels", labels)
    check(loss, margins, labels)
    weights, samples = None, margins.shape[:1]
    if sample_weight is not None:
        weights, _ = broadcast_weight(numpy, numpy.weights(sample_weight, margins), samples, samples)

    def terms(loss: Loss, positive: bool) -> Pair:
        rows = labels if isinstance(loss, BinaryFocalCrossentropy) else numpy.rows(loss.parameters, labels, margins)
        compute: Any = numpy.binary if isinstance(loss, BinaryFocalCrossentropy) else numpy.categorical
        named = {"by": by, "total": True, "dtype": np.dtype(dtype), "positive": positive}
        _, gradient, second = compute(loss.parameters, rows, margins, 2, weights, **named)
        if margins.flags.f_contiguous and not margins.flags.c_contiguous:
            return np.asfortranarray(gradient), np.asfortranarray(second)
        return gradient, second

    gradient, second = terms(loss, curvature == "positive")
    if curvature == "cross_entropy":
        second = terms(without_gamma(loss), True)[1]
    return gradient, (np.abs(second) if curvature == "absolute" else second)


def without_gamma(loss: Loss) -> Loss:
    return type(loss).from_config({**loss.get_config(), "gamma": 0.0})


def check(loss: Any, margins: np.ndarray, labels: np.ndarray) -> None:
    if not isinstance(loss, BinaryFocalCrossentropy | SparseCategoricalFocalCrossentropy):
        raise TypeError(
            "gradient_and_curvature takes a BinaryFocalCrossentropy or a SparseCategoricalFocalCrossentropy; "
            f"got {loss!r}"
        )
    if not loss.parameters.from_logits:
        raise ValueError("a booster's margins are logits; build the loss with from_logits=True")
    if isinstance(loss, BinaryFocalCrossentropy):
        if margins.ndim != 1:
            raise ValueError(f"margins must have one axis, one margin per sample; got shape {margins.shape}")
        checks.one_shape(labels.shape, margins.shape, "gradient_and_curvature")
    elif margins.ndim != 2:
        raise ValueError(f"margins must have the shape (samples, classes); got {margins.shape}")
    elif loss.parameters.axis not in (-1, 1):
        raise ValueError(f"margins have their classes on axis 1; the loss has axis={loss.parameters.axis}")
    elif loss.parameters.label_smoothing:
        raise ValueError("label_smoothing has no positive curvature for a softmax; build the loss without it")


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
        self.gamma = checks.gamma(gamma)
        self.alpha = None if alpha is None else checks.categorical_alpha(alpha)
        self.multi_label = checks.flag("multi_label", multi_label)
        self.label_smoothing = checks.label_smoothing(label_smoothing)
        checks.smoothing_below_one(self.label_smoothing)
        self.soft_labels = soft_labels
        self.curvature = checks.one_of("curvature", curvature, CURVATURES)
        self.prior = None if prior is None else np.asarray(prior, dtype=np.float64)
        self.labels = None if labels is None else np.asarray(numpy.as_array("labels", labels))
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
            self._losses[key] = self.built(*key)
        return self._losses[key]

    def built(self, classes: int | None, smoothed: bool) -> Loss:
        smoothing = self.label_smoothing if smoothed else 0.0
        if classes is None:
            return BinaryFocalCrossentropy(
                self.alpha is not None,
                0.25 if self.alpha is None else self.alpha,  # type: ignore[arg-type]  # a list is its error
                self.gamma,
                from_logits=True,
                label_smoothing=smoothing,
                soft_labels=self.soft_labels,
                dtype="float64",
            )
        alpha = 1.0 if self.alpha is None else self.alpha
        loss = SparseCategoricalFocalCrossentropy(alpha, self.gamma, True, smoothing, dtype="float64")
        for name, values in (("alpha", loss.alpha), ("gamma", loss.gamma)):
            checks.one_per_class(name, values, classes)
        return loss

    # -- where training starts

    def learn_prior(self, labels: Any, sample_weight: Any, num_class: int | None) -> np.ndarray:
        """Find the prior in labels, unless it was given, and return the start of every column."""
        if self.prior is None:
            labels = self.labels if labels is None else labels
            if labels is None:
                raise ValueError("give the labels of the training rows to params, or the objective a prior")
            labels = np.asarray(numpy.as_array("labels", labels))
            if num_class is None and labels.ndim == 1 and labels.size and labels.max() > 1:
                num_class = int(labels.max()) + 1
            self.begin_with(labels, sample_weight, num_class)
        return np.asarray(self.start_)

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
        labels = np.asarray(numpy.as_array("labels", labels), dtype=np.float64)
        if not labels.size:
            raise ValueError("there are no labels to find the prior of; give the objective a prior")
        if classes is None or labels.ndim == 2:
            prior = np.average(labels, axis=0, weights=sample_weight)
        else:
            checks.class_indices(labels, classes, None)
            prior = np.bincount(labels.astype(np.int64), weights=sample_weight, minlength=classes).astype(np.float64)
            prior /= prior.sum()
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
            checks.one_shape(labels.shape, margins.shape, type(self).__name__)
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
            checks.class_indices(labels, classes, None)
            labels = np.eye(classes)[labels.astype(np.int64)]
        checks.dense_labels(labels.shape, margins.shape, 1)
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
        margins = np.asarray(margins, dtype=np.float64)
        classes = margins.shape[1] if margins.ndim > 1 else None
        return np.asarray(self.loss(classes).posterior(margins))

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
        self.objective, self.of = objective, checks.one_of("of", of, self.NAMES)
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
            margins = np.asarray(loss.posterior_logit(margins))
            loss = Objective(0.0, soft_labels=self.objective.soft_labels).loss(classes)
        config = {**loss.get_config(), "reduction": "mean_with_sample_weight"}
        labels = np.asarray(labels)
        if classes is not None and labels.ndim == 2:
            config = {name: value for name, value in config.items() if name != "ignore_class"}
            return float(
                CategoricalFocalCrossentropy.from_config({**config, "name": None})(labels, margins, sample_weight)
            )
        return float(type(loss).from_config(config)(labels, margins, sample_weight))
