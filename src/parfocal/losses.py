"""The focal losses as objects: a reduction, a dtype, derivatives, posteriors and a config around the functions."""

from __future__ import annotations

from typing import Any

import numpy as np

from parfocal import backends, config, functional, held_out
from parfocal.core import posterior, validation
from parfocal.core.batch import BINARY_REDUCTIONS, REDUCTIONS, Batch, weight_per_loss
from parfocal.core.hosts import OBJECTS, Host
from parfocal.core.parameters import Binary, Categorical, SparseCategorical

__all__ = ["BinaryFocalCrossentropy", "CategoricalFocalCrossentropy", "Loss", "SparseCategoricalFocalCrossentropy"]


class Loss:
    """What every loss has: a name, a reduction, a dtype, sample weights and a config.

    To write another loss, derive from this class and give it `call(y_true, y_pred)`, one loss per sample.

    Parameters
    ----------
    name : any string; by default the name of the class.
    reduction : "sum_over_batch_size" or "mean", the sum divided by the number of losses; "sum"; None or "none", one
        loss per sample; "mean_with_sample_weight", the sum divided by the sum of the weights.
    dtype : in which y_pred is taken and the loss is returned; None is `parfocal.config.floatx()`.

    Raises
    ------
    ValueError for an unknown reduction or dtype.

    >>> class Squared(Loss):
    ...     def call(self, y_true, y_pred):
    ...         return ((y_pred - y_true) ** 2).mean(axis=-1)
    >>> print(Squared()([[0.0, 1.0]], [[1.0, 1.0]]))
    0.5
    """

    reductions: tuple[str | None, ...] = REDUCTIONS

    def __init__(
        self, name: str | None = None, reduction: str | None = "sum_over_batch_size", dtype: Any = None
    ) -> None:
        self.name = name or type(self).__name__
        self.reduction = validation.one_of("reduction", reduction, self.reductions)
        self.dtype = config.dtype_name(dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of every sample, neither weighted nor reduced."""
        raise NotImplementedError(f"{type(self).__name__} needs a method call(y_true, y_pred)")

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The reduced loss, in `self.dtype`.

        sample_weight broadcasts to the losses, one per sample; a trailing axis of 1 may be missing on either side.
        """
        return self._terms(y_true, y_pred, sample_weight, order=0)[0]

    def get_config(self) -> dict[str, Any]:
        """Everything `from_config` needs to build the same loss again; it goes through JSON unchanged."""
        return {"name": self.name, "reduction": self.reduction, "dtype": self.dtype}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """A loss from what `get_config` returned."""
        return cls(**config)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"

    def _terms(self, y_true: Any, y_pred: Any, sample_weight: Any, order: int) -> tuple[Any, ...]:
        """The reduced loss, in `self.dtype`, and its derivatives up to `order`."""
        backend = backends.find(y_pred, y_true, sample_weight, differentiable=True)
        scores = backend.cast(backend.float_array("y_pred", y_pred), self.dtype)
        losses = backend.for_summing(self.call(backend.array_like("y_true", y_true, scores), scores))
        batch = Batch(backend, False, None, None, losses, None, 1, None, None, losses.dtype)
        if sample_weight is not None:
            shape, lengths = backend.shape(losses), backend.lengths_without(losses, None)
            weight, _ = weight_per_loss(backend, backend.weights(sample_weight, losses), shape, lengths)
            batch = batch._replace(weight=weight)
        return (backend.cast(batch.reduce(losses, self.reduction), self.dtype),)


def overrides_call(kind: type, module: str) -> bool:
    """Whether a class has its `call` from elsewhere than from the module of our losses."""
    return next(base for base in kind.__mro__ if "call" in vars(base)).__module__ != module


def formula_is_needed(loss: Any, name: str) -> None:
    """The error of a method that rests on the formula, where a subclass or an attribute overrides `call`."""
    kind = type(loss)
    ours = next(base.__name__ for base in kind.__mro__ if base.__module__.startswith("parfocal."))
    if "call" in vars(loss):
        raise NotImplementedError(
            f"this {kind.__name__} has been assigned a call of its own, and {name} knows the formula of {ours} alone; "
            f"use a {ours} whose call was left alone, or assign a {name} too"
        )
    raise NotImplementedError(
        f"{kind.__name__} overrides call, and {name} knows the formula of {ours} alone; use {ours}, or give "
        f"{kind.__name__} a {name} of its own"
    )


class FocalLoss(Loss):
    """What the three focal losses share beyond `Loss`: derivatives, and the recovery of probabilities.

    A subclass may override `call`: its losses are then weighted and reduced as ours are.  What rests on the formula,
    derivatives and probabilities, is an error there, unless the subclass defines it too.
    """

    parameters: Any
    recovery: posterior.Recovery
    _overrides_call: bool

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return functional.per_sample(self.parameters, y_true, y_pred)

    def value_and_grad(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[Any, Any]:
        """The loss and the gradient of its sum with respect to y_pred, in y_pred's shape and dtype, in one pass.

        The arguments are those of a call, and so are the errors.

        >>> loss = BinaryFocalCrossentropy(gamma=2, from_logits=True)
        >>> value, gradient = loss.value_and_grad([[1], [0]], np.array([[-40.0], [1.0]]))
        >>> print(value.round(4), gradient[:, 0].round(4))
        20.3509 [-0.5     0.3841]
        """
        self._needs_the_formula("value_and_grad")
        loss, gradient = self._terms(y_true, y_pred, sample_weight, order=1)
        return loss, gradient

    def curvature(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The diagonal of the second derivative of the summed loss, in y_pred's shape and dtype.

        The arguments are those of a call, and so are the errors.  It is the exact one: below 0 where a sample is badly
        wrong (p_t < 0.043 at gamma 1, < 0.058 at gamma 2).

        >>> loss = BinaryFocalCrossentropy(gamma=2, from_logits=True)
        >>> print(loss.curvature([[1], [1]], np.array([[0.0], [-4.0]]))[:, 0].round(4))
        [ 0.1...  -0.0...]
        """
        self._needs_the_formula("curvature")
        return self._terms(y_true, y_pred, sample_weight, order=2)[2]

    def posterior(self, y_pred: Any, class_weight: Any = None, *, prior: Any = None, prior_now: Any = None) -> Any:
        """The probabilities that a model trained with this loss believes in, from its scores.

        A focal score is not a probability: at gamma 2 a score of 0.7 means 0.906.  This undoes gamma, alpha and label
        smoothing.  Binary: strictly increasing, so the ranking of the samples is kept.  Softmax: with one alpha and
        one gamma for all classes the order of the classes within a sample is kept; with lists, and between samples,
        it may change.  What the model believes wrongly, `parfocal.Calibrator` repairs with held-out labels.

        y_pred : scores as the loss takes them, logits or probabilities, of any shape; softmax scores with the classes
            on the loss's `axis`.
        class_weight : further weights that multiplied the loss in training, as a list or a dict per class.
        prior, prior_now : for scores of a population whose shares have changed: the share of label 1, or of each class,
            among the rows that the model was trained on, and among those that are scored.  Each posterior is
            multiplied by prior_now / prior of its class and normalised (Saerens et al. 2002, "Adjusting the outputs of
            a classifier to new a priori probabilities").  That is right where a class looks as it did, and only its
            share differs: training rows that were sampled, another season.  The binary loss takes the share of label 1
            alone or, for several labels in a row, one for each.

        Returns an array in y_pred's shape and dtype, through which no gradient flows.  Raises ValueError where a class
        has weight 0 or label_smoothing is 1: nothing can be said there; and for priors that are not strictly between 0
        and 1, or of which one is missing.

        >>> loss = BinaryFocalCrossentropy(gamma=2.0)
        >>> print(loss.posterior([0.154, 0.5, 0.7]).round(3))
        [0.01  0.5   0.906]

        Trained on a sample with as many positives as negatives, where one row in a hundred is positive:

        >>> print(loss.posterior([0.154, 0.5, 0.7], prior=0.5, prior_now=0.01).round(4))
        [0.0001 0.01   0.0891]
        """
        return recover(self, "posterior", y_pred, class_weight, prior=prior, prior_now=prior_now)

    def posterior_logit(
        self, y_pred: Any, class_weight: Any = None, *, prior: Any = None, prior_now: Any = None
    ) -> Any:
        """The posterior as logits: log-odds for the binary loss, log-probabilities for the softmax losses.

        They keep their digits where the posterior itself rounds to 0 or 1.  Arguments and errors are those of
        `posterior`.

        >>> loss = BinaryFocalCrossentropy(gamma=2.0, from_logits=True)
        >>> print(loss.posterior_logit([-400.0, 0.0]))
        [-1198.90138771     0.        ]
        """
        return recover(self, "posterior_logit", y_pred, class_weight, prior=prior, prior_now=prior_now)

    def optimal_logit(self, prior: Any, class_weight: Any = None) -> Any:
        """The best constant logit for a prior: a network's starting bias, a booster's init score.

        Binary: `prior`, the share of label 1, is a number (a float is returned) or an array.  Softmax: a list of class
        shares that sum to 1; the logits are log-probabilities, but any constant may be added.  The inverse of
        `posterior`.  Raises ValueError for a prior that is not strictly between 0 and 1; TypeError for a traced one.

        >>> round(BinaryFocalCrossentropy(gamma=2.0).optimal_logit(0.01), 3)
        -1.706
        """
        self._needs_the_formula("optimal_logit")
        shares = held_out.host_array("prior", prior, "optimal_logit").astype(np.float64)
        logit = self.recovery.optimal_logit(self.parameters, shares, class_weight)
        return logit if shares.ndim else float(logit)

    def get_config(self) -> dict[str, Any]:
        return {**self.parameters.as_config(), **super().get_config()}

    @property
    def alpha(self) -> Any:
        return self.parameters.alpha

    @property
    def gamma(self) -> Any:
        return self.parameters.gamma

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._overrides_call = overrides_call(cls, __name__)

    @property
    def _has_own_call(self) -> bool:
        """Whether a subclass, or an attribute of this loss, overrides `call`."""
        return self._overrides_call or "call" in self.__dict__

    def _needs_the_formula(self, name: str) -> None:
        if self._has_own_call:
            formula_is_needed(self, name)

    def _terms(self, y_true: Any, y_pred: Any, sample_weight: Any, order: int) -> tuple[Any, ...]:
        own = self._has_own_call
        backend = backends.find(y_pred, y_true, sample_weight, differentiable=own)
        batch = backend.batch(self.parameters, y_true, y_pred, sample_weight, host=OBJECTS, dtype=self.dtype)
        if own:
            losses = self.call(backend.array_like("y_true", y_true, batch.scores), batch.scores)
            return (backend.cast(self._reduced(batch, losses), self.dtype),)
        terms = batch.reduced(self.reduction, order)
        loss = backend.cast(terms[0], self.dtype)
        if order == 0:
            return (loss,)
        if terms[1].shape == getattr(y_pred, "shape", None):
            return (loss, *terms[1:])
        return (loss, *(backend.like_scores(slope, y_pred) for slope in terms[1:]))

    def _reduced(self, batch: Batch, losses: Any) -> Any:
        """What an overridden `call` returned, weighted and reduced as the focal losses are."""
        if losses is None:
            raise TypeError(f"call of {type(self).__name__} returned None; it must return one loss per sample")
        backend, axis = batch.backend, self.parameters.axis
        scores, losses = backend.shape(batch.scores), backend.for_summing(losses)
        wanted, given = validation.without(scores, axis % len(scores)), backend.shape(losses)
        if not validation.fits(given, wanted):
            raise ValueError(
                f"call must return one loss per sample, of shape {wanted} for y_pred of shape {scores}; it returned "
                f"shape {given}"
            )
        weight, valid = batch.weight, batch.valid
        if batch.binary:  # these broadcast to the elements
            if weight is not None and backend.shape(weight)[axis] != 1:
                raise ValueError(
                    "sample_weight has y_pred's shape, and a call of your own returns one loss per sample; give one "
                    f"weight per sample, shape {given}"
                )
            weight = None if weight is None else backend.xp.squeeze(weight, axis=axis)
            valid = None if valid is None else backend.xp.squeeze(valid, axis=axis)
        return batch.reduce(losses, self.reduction, weight, valid)


def recover(
    loss: FocalLoss,
    name: str,
    scores: Any,
    class_weight: Any = None,
    host: Host = OBJECTS,
    prior: Any = None,
    prior_now: Any = None,
) -> Any:
    """The posterior of scores, or its logits where that is the name, in the scores' shape and dtype."""
    loss._needs_the_formula(name)
    backend = backends.find(scores, differentiable=True, host=host)
    given = backend.float_array(host.scores, scores)
    with backend.no_warnings():
        logits = backend.logits(loss.parameters, backend.detached(given), host)
        xp, recovery, parameters = backend.xp, loss.recovery, loss.parameters
        recovered = recovery.recovered(xp, parameters, logits, class_weight, prior, prior_now)
        if name == "posterior":
            recovered = recovery.probability(xp, parameters, recovered)
        return backend.cast(recovered, given.dtype)


class BinaryFocalCrossentropy(FocalLoss):
    """`binary_focal_crossentropy` as a loss object, with its parameters.

    Beyond those of `Loss`, reduction="mean_over_positives" divides the sum over all elements by the number of
    positives, max(1, sum of y_true), as RetinaNet does.  sample_weight may also have y_pred's full shape.

    >>> loss = BinaryFocalCrossentropy(gamma=2, from_logits=True)
    >>> print(loss([0, 1, 0, 0], [-18.6, 0.51, 2.94, -12.8]).round(3))
    0.691
    """

    reductions = BINARY_REDUCTIONS
    recovery = posterior.BINARY

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: Any = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "binary_focal_crossentropy",
        dtype: Any = None,
        *,
        soft_labels: str = "linear",
    ) -> None:
        super().__init__(name, reduction, dtype)
        self.parameters = Binary(apply_class_balancing, alpha, gamma, from_logits, label_smoothing, axis, soft_labels)


class CategoricalFocalCrossentropy(FocalLoss):
    """`categorical_focal_crossentropy` as a loss object, with its parameters.

    >>> loss = CategoricalFocalCrossentropy()
    >>> print(loss([[0, 1, 0], [0, 0, 1]], [[0.05, 0.95, 0], [0.1, 0.8, 0.1]]))
    0.23315276
    """

    recovery = posterior.CATEGORICAL

    def __init__(
        self,
        alpha: Any = 0.25,
        gamma: Any = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "categorical_focal_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(name, reduction, dtype)
        self.parameters = Categorical(alpha, gamma, from_logits, label_smoothing, axis)


class SparseCategoricalFocalCrossentropy(CategoricalFocalCrossentropy):
    """`sparse_categorical_focal_crossentropy` as a loss object, with its parameters.

    Samples whose label is `ignore_class` leave the mean: they are in neither its numerator nor its denominator.

    >>> loss = SparseCategoricalFocalCrossentropy(ignore_class=-1)
    >>> print(loss([1, 2, -1], [[0.05, 0.95, 0], [0.1, 0.8, 0.1], [1, 0, 0]]))
    0.23315276
    """

    def __init__(
        self,
        alpha: Any = 0.25,
        gamma: Any = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        ignore_class: int | None = None,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "sparse_categorical_focal_crossentropy",
        dtype: Any = None,
    ) -> None:
        Loss.__init__(self, name, reduction, dtype)
        self.parameters = SparseCategorical(alpha, gamma, from_logits, label_smoothing, axis, ignore_class=ignore_class)
