"""A focal loss as a booster's objective and metric, whatever the booster: where training starts, and its posterior.

(a) Boosters start custom objectives at 0.  We start at the best constant margin of the training prior.
(b) Gradient and curvature are divided by one number, so that the curvature at the start is on average cross-entropy's.
    That changes no minimum, and limits such as min_child_weight and lambda mean what they mean for log loss.  At gamma
    0 without alpha it is 1.
(c) An objective is for one model: its `posterior` needs the start that the model was trained from.
"""

from __future__ import annotations

import inspect
import re
import warnings
from typing import Any

import numpy as np

from parfocal.boosters.gradients import BOOSTERS, CURVATURES, BoostingLoss, Pair, derivatives
from parfocal.core import validation
from parfocal.core.hosts import counted
from parfocal.losses import (
    BinaryFocalCrossentropy,
    CategoricalFocalCrossentropy,
    SparseCategoricalFocalCrossentropy,
)

# Posterior log-odds and log-probabilities are clipped here in a metric's log loss, where float64's 1 - p ends: under
# label smoothing a posterior may be 0, and one such row would make the mean infinite.
LARGEST_LOGIT = 36.04

WORDS = BOOSTERS._replace(sparse="labels (N,), without multi_label")


SEE = re.compile(r" *See `parfocal\.boosters(?:\.objective)?\.\w+`[.;]?")


def with_parameters_of(base: type, text: str | None) -> str | None:
    """The docstring of a class whose parameters are its base's, with these before the example."""
    if not text or not base.__doc__ or not SEE.search(text):
        return text
    own, mark, example = inspect.cleandoc(SEE.sub("", text)).partition("\n>>> ")
    return "\n\n".join([own.rstrip(), inspect.cleandoc(base.__doc__), (mark + example).strip()])


def focal_loss(classes: int, gamma: Any, alpha: Any, **config: Any) -> BoostingLoss:
    """The loss of two classes, which have one margin, or of more, which have one each; alpha None weights no class."""
    return binary_loss(gamma, alpha, **config) if classes == 2 else softmax_loss(classes, gamma, alpha, **config)


def binary_loss(gamma: Any, alpha: Any, soft_labels: str = "expected", **config: Any) -> BinaryFocalCrossentropy:
    """The loss of one margin, in float64."""
    balanced = alpha is not None
    return BinaryFocalCrossentropy(
        balanced, alpha if balanced else 0.25, gamma, dtype="float64", soft_labels=soft_labels, **config
    )


def softmax_loss(classes: int, gamma: Any, alpha: Any, **config: Any) -> SparseCategoricalFocalCrossentropy:
    """The loss of one margin for each class, in float64."""
    loss = SparseCategoricalFocalCrossentropy(1.0 if alpha is None else alpha, gamma, dtype="float64", **config)
    for name, values in (("alpha", loss.alpha), ("gamma", loss.gamma)):
        if isinstance(values, tuple) and len(values) != classes:
            raise ValueError(
                f"{name} has {counted(len(values), 'number')}, and there are "
                f"{counted(classes, 'class')}; give one number, or one for each class in sorted order"
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
    prior_ : the prior that training starts from; None until it is known.
    start_ : the best constant margin of the prior, a number or one per column; None until the prior is known.
    scale_ : what gradient and curvature are multiplied by.

    Raises
    ------
    ValueError for parameters out of range; at a call for invalid labels, or another number of them than margins.
    """

    prior_: Any = None  # here, because objectives that were pickled earlier have none

    def __init_subclass__(cls) -> None:
        cls.__doc__ = with_parameters_of(Objective, cls.__doc__)

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
        self._losses: dict[Any, BoostingLoss] = {}
        self.start_: Any = None
        self.scale_ = 1.0
        if self.multi_label or (self.labels is None and isinstance(self.gamma, float) and self.alpha is None):
            self.loss()  # its errors now rather than in the first round
        if self.prior is not None:
            self.begin(self.prior)

    def loss(self, classes: int | None = None, *, smoothed: bool = True) -> BoostingLoss:
        """The softmax loss of so many margins a row, or the binary loss of one; it recovers their posterior."""
        key = None if self.multi_label else classes, smoothed
        if key not in self._losses:
            config = {"from_logits": True, "label_smoothing": self.label_smoothing if smoothed else 0.0}
            self._losses[key] = (
                binary_loss(self.gamma, self.alpha, self.soft_labels, **config)
                if key[0] is None
                else softmax_loss(key[0], self.gamma, self.alpha, **config)
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
            validation.class_indices(labels, int(np.nanmax(labels)) + 1, None, WORDS)
            num_class = int(labels.max()) + 1
        before = self.start_, self.scale_, self.prior_
        self.begin(self.prior_of(labels, sample_weight, num_class))
        if before[0] is not None and not np.array_equal(before[0], self.start_):
            self.start_, self.scale_, self.prior_ = before
            raise ValueError(
                "this objective has started another model, whose posterior needs that start; make a new objective for "
                "each model"
            )
        return np.asarray(self.start_)

    def prior_of(self, labels: np.ndarray, sample_weight: Any, num_class: int | None) -> np.ndarray:
        """The share of label 1, of each column or of each class; never 0, as if half a row more were of it."""
        labels = np.asarray(labels, dtype=np.float64)
        if not labels.size:
            raise ValueError("there are no labels to find the prior of; give the objective a prior")
        weight = row_weights(labels, sample_weight)
        if num_class is None or labels.ndim == 2:
            validation.labels_in_unit_interval(labels, WORDS, binary=True)
            prior = np.asarray(np.average(labels, axis=0, weights=weight))
        else:
            validation.class_indices(labels, num_class, None, WORDS)
            prior = np.bincount(labels.astype(np.int64), weights=weight, minlength=num_class) / weight.sum()
            if not prior.all():
                warnings.warn(
                    f"class {int(np.argmin(prior))} of {num_class} has no row; classes are counted from 0, so "
                    "labels 1 and 2 must become 0 and 1",
                    stacklevel=4,
                )
        least = 0.5 / len(labels)
        prior = np.clip(prior, least, 1 - least)
        return prior if num_class is None or self.multi_label else prior / prior.sum()

    def begin(self, prior: np.ndarray) -> None:
        """Set `start_` and `scale_` by a prior.  Nothing is solved again for the same one."""
        if np.array_equal(prior, self.prior_):
            return
        start = self.loss(*prior.shape[:1]).optimal_logit(prior)
        curvature = self.mean_curvature(prior, start)
        if not curvature > np.finfo(np.float64).tiny:
            raise ValueError(
                f"nothing would be learned: at the prior {prior} the curvature of this loss is {curvature:.1e}; use a "
                "smaller gamma"
            )
        cross_entropy = type(self)(0.0, multi_label=self.multi_label)
        of_cross_entropy = cross_entropy.loss(*prior.shape[:1]).optimal_logit(prior)  # in closed form
        self.scale_ = cross_entropy.mean_curvature(prior, of_cross_entropy) / curvature
        self.prior_, self.start_ = prior, start

    def known_start(self) -> Any:
        if self.start_ is None:
            raise ValueError(
                "the objective does not know where to start: have **objective.params(labels) among the parameters, or "
                "give it a prior"
            )
        return self.start_

    def mean_curvature(self, prior: np.ndarray, start: Any) -> float:
        """The mean over the margins, where those of all rows are `start`."""
        if prior.ndim and not self.multi_label:
            margins = np.tile(start, (len(prior), 1))
            return float(np.mean(prior @ self.terms_at(margins, np.arange(len(prior)), None)[1]))
        margins = np.atleast_1d(start)
        of_0, of_1 = (
            derivatives(self.loss(), margins, np.full(len(margins), label), None, self.curvature, np.float64)[1]
            for label in (0.0, 1.0)
        )
        return float(np.mean((1 - prior) * of_0 + prior * of_1))

    # -- a round

    def terms(self, margins: np.ndarray, labels: Any, sample_weight: Any = None, dtype: Any = np.float32) -> Pair:
        """Gradient and curvature of whole margins, in the unit of cross-entropy."""
        return self.terms_at(margins, labels, sample_weight, dtype, 1 / self.scale_)

    def terms_at(
        self, margins: np.ndarray, labels: Any, sample_weight: Any, dtype: Any = np.float64, divisor: float = 1.0
    ) -> Pair:
        """The loss's own gradient and curvature, divided by `divisor`."""
        if margins.ndim == 1:
            return derivatives(self.loss(), margins, labels, sample_weight, self.curvature, dtype, divisor)
        labels = np.asarray(labels)
        if self.multi_label:
            validation.one_shape(labels.shape, margins.shape, type(self).__name__, host=WORDS)
            each = None if sample_weight is None else np.repeat(np.asarray(sample_weight), margins.shape[1])
            flat = derivatives(self.loss(), margins.ravel(), labels.ravel(), each, self.curvature, dtype, divisor)
            return flat[0].reshape(margins.shape), flat[1].reshape(margins.shape)
        gradient, curvature = self.softmax_terms(margins, labels, sample_weight, dtype, divisor)
        factor = self.factor(margins.shape[1])
        if factor != 1.0:
            curvature *= curvature.dtype.type(factor)
        return gradient, curvature

    def softmax_terms(
        self, margins: np.ndarray, labels: np.ndarray, sample_weight: Any, dtype: Any, divisor: float
    ) -> Pair:
        """One class a row in one pass; labels that are shares, or smoothed, as the sum over the classes."""
        classes, smoothing = margins.shape[1], self.label_smoothing
        hard = self.loss(classes, smoothed=False)
        if labels.ndim == 1 and not smoothing:
            return derivatives(hard, margins, labels, sample_weight, self.curvature, dtype, divisor)
        if labels.ndim == 1:
            validation.class_indices(labels, classes, None, WORDS)
            labels = np.eye(classes)[labels.astype(np.int64)]
        validation.dense_labels(labels.shape, margins.shape, 1, WORDS)
        shares = labels * (1 - smoothing) + smoothing / classes
        weight = shares if sample_weight is None else shares * np.asarray(sample_weight)[:, None]
        gradient, curvature = np.zeros_like(margins, np.float64), np.zeros_like(margins, np.float64)
        for k in range(classes):
            rows = np.full(len(margins), k)
            of_class = derivatives(hard, margins, rows, weight[:, k], self.curvature, np.float64, divisor)
            gradient += of_class[0]
            curvature += of_class[1]
        return gradient.astype(dtype), curvature.astype(dtype)

    def factor(self, classes: int) -> float:
        """What the booster's own softmax multiplies its curvature by, so that gamma 0 is that objective."""
        return 1.0

    # -- after training

    def margins(self, scores: Any) -> np.ndarray:
        """Scores as the booster returns them, as whole margins in float64, with the start in them.

        scores : (N,) or (N, columns), before any sigmoid or softmax: `raw_score=True` of LightGBM, `output_margin=True`
            of XGBoost, `prediction_type="RawFormulaVal"` of CatBoost.  A sigmoid, a softmax and `parfocal.Calibrator`
            take whole margins.  XGBoost's hold the start already.

        Raises
        ------
        ValueError for another number of columns than in training, and where the start is not known.
        """
        scores, start = validation.as_array("scores", scores), np.shape(self.start_)
        if self.start_ is not None and np.shape(scores)[1:] != start and not self.multi_label:
            wanted = f"(N, {start[0]})" if start else "(N,)"
            raise ValueError(f"scores must have the shape {wanted}, as in training; got {np.shape(scores)}")
        return np.asarray(scores, dtype=np.float64)

    def posterior(self, scores: Any) -> np.ndarray:
        """Probabilities of scores as `margins` takes them: (N,) of label 1, or (N, columns)."""
        margins = self.margins(scores)
        return np.asarray(self.loss(*margins.shape[1:2]).posterior(margins))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(gamma={self.gamma}, alpha={self.alpha}, curvature={self.curvature!r})"


class Metric:
    """How good whole margins are: the mean focal loss, or the mean log loss of the recovered posterior.

    Parameters
    ----------
    objective : the one that trains.
    of : "focal_loss" or "log_loss".
    labels : as the objective's, of the rows that are evaluated.
    """

    NAMES = ("focal_loss", "log_loss")

    def __init_subclass__(cls) -> None:
        cls.__doc__ = with_parameters_of(Metric, cls.__doc__)

    def __init__(self, objective: Objective, of: str = "focal_loss", *, labels: Any = None) -> None:
        if not isinstance(objective, Objective):
            raise TypeError(f"objective must be the FocalObjective that trains; got {objective!r}")
        self.objective, self.of = objective, validation.one_of("of", of, self.NAMES)
        if labels is None and objective.labels is not None:
            raise ValueError("the objective has labels of its own, so the metric needs those of its rows: labels=...")
        self.labels = None if labels is None else np.asarray(labels)

    @property
    def name(self) -> str:
        return "focal_loss" if self.of == "focal_loss" else "posterior_log_loss"

    def value(self, margins: np.ndarray, labels: Any, sample_weight: Any = None) -> float:
        """The weighted mean over the rows, and over the labels of a row."""
        margins, labels = np.asarray(margins, dtype=np.float64), np.asarray(labels)
        objective, columns = self.objective, margins.shape[1:]
        loss: Any = objective.loss(*columns)
        if self.of == "log_loss":
            # the posterior's own log loss: cross-entropy of its logits, with no gamma, alpha or smoothing
            margins = np.clip(np.asarray(loss.posterior_logit(margins)), -LARGEST_LOGIT, LARGEST_LOGIT)
            plain = Objective(0.0, soft_labels=objective.soft_labels, multi_label=objective.multi_label)
            loss = plain.loss(*columns)
        config, kind = {**loss.get_config(), "reduction": "mean_with_sample_weight"}, type(loss)
        if kind is SparseCategoricalFocalCrossentropy and labels.ndim == 2:  # shares of the classes
            kind = CategoricalFocalCrossentropy
            del config["ignore_class"]
        return float(kind.from_config(config)(labels, margins, sample_weight))


def row_weights(labels: np.ndarray, sample_weight: Any) -> np.ndarray:
    """One weight for each row."""
    if sample_weight is None:
        return np.ones(len(labels))
    weight = np.asarray(validation.as_array("sample_weight", sample_weight), dtype=np.float64)
    if weight.shape != labels.shape[:1]:
        raise ValueError(f"sample_weight must have the shape {labels.shape[:1]}, one for each row; got {weight.shape}")
    if not (weight >= 0).all() or not 0 < weight.sum() < np.inf:
        raise ValueError("sample_weight must hold numbers >= 0, at least one of them above 0")
    return weight
