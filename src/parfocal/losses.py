"""The focal losses as objects: a reduction, a dtype, derivatives, posteriors and a config around the functions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from parfocal import backends, config, functional
from parfocal.core import formula, posterior, validation
from parfocal.core.batch import BINARY_REDUCTIONS, REDUCTIONS, broadcast_weight, divisor
from parfocal.core.parameters import Binary, Categorical, SparseCategorical

__all__ = ["BinaryFocalCrossentropy", "CategoricalFocalCrossentropy", "Loss", "SparseCategoricalFocalCrossentropy"]


class Batch(NamedTuple):
    """A batch as the backend takes it, and what a mean over its losses needs to know."""

    backend: Any
    labels: Any
    scores: Any  # rounded to the loss's dtype
    dtype: Any  # of the gradient
    factors: Any  # weights, as they multiply the losses or their elements; None: no weights
    elements: Any  # that each loss is the mean of
    divisor: Any  # of the summed losses, by the reduction
    count: Any  # of the losses
    weights: Any  # one for each loss, or None
    valid: Any = None  # which losses count; None: all


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
        backend = backends.find(y_pred, y_true, sample_weight, traced=True)
        scores = backend.cast(backend.float_array("y_pred", y_pred), self.dtype)
        losses = backend.wide(self.call(backend.companion("y_true", y_true, scores), scores))
        weights = None
        if sample_weight is not None:
            weights = backend.weights(sample_weight, losses)
            shape, lengths = backend.shape(losses), backend.lengths_without(losses, None)
            weights, _ = broadcast_weight(backend, weights, shape, lengths)
            losses = formula.weighted(backend.xp, weights, losses)
        if self.reduction not in (None, "none"):
            count = backend.count_without(losses, None)
            losses = backend.xp.sum(losses) / divisor(backend, self.reduction, count, weights, None)
        return (backend.cast(losses, self.dtype),)


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
    """What the three focal losses share beyond `Loss`: derivatives, and the way back to probabilities.

    A subclass may override `call`: its losses are then weighted and reduced as ours are.  What rests on the formula,
    derivatives and probabilities, is an error there, unless the subclass defines it too.
    """

    parameters: Any
    recovery: posterior.Recovery
    _overrides_call: bool

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

    def posterior(self, y_pred: Any, class_weight: Any = None) -> Any:
        """The probabilities that a model trained with this loss believes in, from its scores.

        A focal score is no probability: at gamma 2 a score of 0.7 means 0.906.  This undoes gamma, alpha and label
        smoothing.  Binary: strictly increasing, so the ranking of the samples is kept.  Softmax: with one alpha and
        one gamma for all classes the order of the classes within a sample is kept; with lists, and between samples,
        it may change.  What the model believes wrongly, `parfocal.Calibrator` repairs with held-out labels.

        y_pred : scores as the loss takes them, logits or probabilities, of any shape; softmax scores with the classes
            on the loss's `axis`.
        class_weight : further weights that multiplied the loss in training, as a list or a dict per class.

        Returns an array in y_pred's shape and dtype, through which no gradient flows.  Raises ValueError where a class
        has weight 0 or label_smoothing is 1: nothing can be said there.

        >>> loss = BinaryFocalCrossentropy(gamma=2.0)
        >>> print(loss.posterior([0.154, 0.5, 0.7]).round(3))
        [0.01  0.5   0.906]
        """
        return self._recovered("posterior", y_pred, class_weight)

    def posterior_logit(self, y_pred: Any, class_weight: Any = None) -> Any:
        """The posterior as logits: log-odds for the binary loss, log-probabilities for the softmax losses.

        They keep their digits where the posterior itself rounds to 0 or 1.  Arguments and errors are those of
        `posterior`.

        >>> loss = BinaryFocalCrossentropy(gamma=2.0, from_logits=True)
        >>> print(loss.posterior_logit([-400.0, 0.0]))
        [-1198.90138771     0.        ]
        """
        return self._recovered("posterior_logit", y_pred, class_weight)

    def optimal_logit(self, prior: Any, class_weight: Any = None) -> Any:
        """The best constant logit for a prior: a network's starting bias, a booster's init score.

        Binary: `prior`, the share of label 1, is a number (a float is returned) or an array.  Softmax: a list of class
        shares that sum to 1; the logits are log-probabilities, but any constant may be added.  The inverse of
        `posterior`.  Raises ValueError for a prior that is not strictly between 0 and 1.

        >>> round(BinaryFocalCrossentropy(gamma=2.0).optimal_logit(0.01), 3)
        -1.706
        """
        self._needs_the_formula("optimal_logit")
        shares = np.asarray(prior, dtype=np.float64)
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

    def _batch(self, y_true: Any, y_pred: Any, sample_weight: Any) -> Batch:
        """What a call was given, checked and brought into shape."""
        raise NotImplementedError

    def _compute(self, batch: Batch, order: int, by: float = 1.0, total: bool = True) -> tuple[Any, ...]:
        """The weighted losses, or the sum of their elements; then derivatives, divided by `by` and by the elements."""
        raise NotImplementedError

    def _scores(self, backend: Any, given: Any) -> Any:
        """y_pred in the loss's dtype; float64 logits are then computed in float64, so that their gradient is exact."""
        scores = backend.cast(given, self.dtype)
        if scores is given:
            return scores
        double = self.parameters.from_logits and backend.is_double(given) and not backend.is_double(scores)
        return backend.cast(scores, given.dtype) if double else scores

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

    def _of_own_call(self, y_true: Any, y_pred: Any, sample_weight: Any) -> Any:
        """What an overridden `call` returns, weighted and reduced as the focal losses are."""
        batch = self._batch(y_true, y_pred, sample_weight)
        backend = backends.find(y_pred, y_true, sample_weight, traced=True)
        losses = self.call(backend.companion("y_true", y_true, batch.scores), batch.scores)
        if losses is None:
            raise TypeError(f"call of {type(self).__name__} returned None; it must return one loss per sample")
        return backend.cast(self._reduced(backend, backend.wide(losses), batch), self.dtype)

    def _reduced(self, backend: Any, losses: Any, batch: Batch) -> Any:
        """Losses of samples, weighted and reduced; those that do not count are left out."""
        xp, scores = backend.xp, batch.backend.shape(batch.scores)
        wanted, given = validation.without(scores, self.parameters.axis % len(scores)), backend.shape(losses)
        if not validation.fits(given, wanted):
            raise ValueError(
                f"call must return one loss per sample, of shape {wanted} for y_pred of shape {scores}; it returned "
                f"shape {given}"
            )
        if batch.valid is not None:
            valid = backend.companion("valid", batch.valid, losses)
            losses = xp.where(valid, losses, xp.zeros_like(losses))
        if batch.weights is not None:
            if isinstance(self.parameters, Binary) and batch.backend.shape(batch.factors)[self.parameters.axis] != 1:
                raise ValueError(
                    "sample_weight has y_pred's shape, and a call of your own returns one loss per sample; give one "
                    f"weight per sample, shape {given}"
                )
            losses = formula.weighted(xp, backend.weights(batch.weights, losses), losses)
        if self.reduction in (None, "none"):
            return losses
        return xp.sum(losses) / backend.number(batch.divisor, losses)

    def _terms(self, y_true: Any, y_pred: Any, sample_weight: Any, order: int) -> tuple[Any, ...]:
        if self._has_own_call:
            return (self._of_own_call(y_true, y_pred, sample_weight),)
        batch = self._batch(y_true, y_pred, sample_weight)
        total = self.reduction not in (None, "none")
        terms = self._compute(batch, order, batch.divisor, total)
        loss = batch.backend.cast(terms[0], self.dtype)
        if order == 0:
            return (loss,)
        shaped_like = batch.backend.shaped_like
        if order == 1:
            return loss, shaped_like(terms[1], y_pred)
        return loss, shaped_like(terms[1], y_pred), shaped_like(terms[2], y_pred)

    def _recovered(self, name: str, y_pred: Any, class_weight: Any) -> Any:
        """`recovery`'s function of that name, of the scores' logits, in y_pred's shape and dtype."""
        self._needs_the_formula(name)
        backend = backends.find(y_pred, traced=True)
        given = backend.float_array("y_pred", y_pred)
        with backend.quiet():
            logits = backend.logits(self.parameters, backend.stopped(given))
            recovered = getattr(self.recovery, name)(backend.xp, self.parameters, logits, class_weight)
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

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return functional.binary_focal_crossentropy(y_true, y_pred, **self.parameters.as_dict())

    def _batch(self, y_true: Any, y_pred: Any, sample_weight: Any) -> Batch:
        backend = backends.find(y_pred, y_true, sample_weight)
        given = backend.binary_scores(y_true, y_pred)
        shape = backend.shape(given)
        axis = validation.axis_in_range(self.parameters.axis, len(shape), "binary_focal_crossentropy")
        count, elements = backend.count_without(given, axis), backend.at_least_one(backend.length(given, axis))
        scores = self._scores(backend, given)
        weights = factors = None
        if sample_weight is not None:
            weights, per_element = broadcast_weight(
                backend,
                backend.weights(sample_weight, scores),
                validation.without(shape, axis),
                backend.lengths_without(given, axis),
                shape,
            )
            factors = weights if per_element else backend.xp.expand_dims(weights, axis=axis)
            weights = backend.mean(weights, axis) if per_element else weights
        if self.reduction == "mean_over_positives":
            # The losses are means over the axis; the sum over all elements is that many times larger.
            by = backend.positives(y_true, scores) / elements
        else:
            by = divisor(backend, self.reduction, count, weights, None)
        return Batch(backend, y_true, scores, given.dtype, factors, elements, by, count, weights)

    def _compute(self, batch: Batch, order: int, by: float = 1.0, total: bool = True) -> tuple[Any, ...]:
        terms: tuple[Any, ...] = batch.backend.binary(
            self.parameters,
            batch.labels,
            batch.scores,
            order,
            batch.factors,
            by * batch.elements,
            total,
            batch.dtype,
        )
        return terms if total else (batch.backend.mean(terms[0], self.parameters.axis), *terms[1:])


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

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return functional.per_sample(self.parameters, y_true, y_pred)

    def _batch(self, y_true: Any, y_pred: Any, sample_weight: Any) -> Batch:
        backend = backends.find(y_pred, y_true, sample_weight)
        given = backend.float_array("y_pred", y_pred)
        rows = backend.rows(self.parameters, y_true, given)
        count, scores, weights = backend.count_without(given, rows.axis), self._scores(backend, given), None
        if sample_weight is not None:
            weights = backend.weights(sample_weight, scores)
            shape = validation.without(backend.shape(given), rows.axis)
            weights, _ = broadcast_weight(backend, weights, shape, backend.lengths_without(given, rows.axis))
            if rows.valid is not None:
                weights = backend.xp.where(rows.valid, weights, backend.xp.zeros_like(weights))
        by = divisor(backend, self.reduction, count, weights, rows.valid)
        return Batch(backend, rows, scores, given.dtype, weights, 1, by, count, weights, rows.valid)

    def _compute(self, batch: Batch, order: int, by: float = 1.0, total: bool = True) -> tuple[Any, ...]:
        terms: tuple[Any, ...] = batch.backend.categorical(
            self.parameters, batch.labels, batch.scores, order, batch.factors, by, total, batch.dtype
        )
        return terms


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
        super(CategoricalFocalCrossentropy, self).__init__(name, reduction, dtype)
        self.parameters = SparseCategorical(alpha, gamma, from_logits, label_smoothing, axis, ignore_class=ignore_class)
