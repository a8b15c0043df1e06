"""The focal losses as `keras.losses.Loss`: Keras's constructors, configs and masks around the core's losses."""

from __future__ import annotations

from typing import Any

import keras
from keras.src.losses.loss import scale_loss_for_distribution  # for tf.distribute; there is no public name

from parfocal import losses as core
from parfocal.keras.batches import batch_of
from parfocal.keras.replicas import over_replicas
from parfocal.keras.signatures import takes_the_parameters_of

register = keras.saving.register_keras_serializable(package="parfocal")


class FocalLoss(keras.losses.Loss):
    """What the three share: the core's loss does the work, and Keras sees a loss of its own.

    A subclass may override `call`, as in Keras; its losses are masked, weighted and reduced as ours are.
    """

    kind: Any  # the core's loss of this name
    _overrides_call: bool

    def __init__(self, *, name: str | None, reduction: str | None, dtype: Any, **parameters: Any) -> None:
        super().__init__(name=name, dtype=dtype)  # policies are Keras's; the reductions are more than Keras has
        self.focal = self.kind(reduction=reduction, name=self.name, dtype=self.dtype, **parameters)
        self.reduction = reduction
        for parameter, value in self.focal.parameters.as_dict().items():  # loss.gamma, loss.alpha, ... can be read
            setattr(self, parameter, value)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The reduced loss of a batch, a tensor of Keras's backend in `self.dtype`.

        y_true, y_pred : as in the function of the same name; a mask on y_pred leaves samples out.
        sample_weight : one weight for each loss, a trailing axis of 1 missing on either side or not; for the binary
            loss also in y_pred's shape.
        """
        own = self._has_own_call
        batch, summed = batch_of(self.focal, y_true, y_pred, sample_weight, own), self.reduction not in (None, "none")
        shared = over_replicas(batch, self.reduction)
        batch = batch if shared is None else shared
        if own:
            losses = self.focal._reduced(batch, keras.ops.convert_to_tensor(self.call(batch.labels, batch.scores)))
        else:
            losses = batch.reduced(self.reduction)[0]
        losses = keras.ops.cast(losses, self.dtype)
        scaled = summed and self.reduction != "sum" and shared is None
        return scale_loss_for_distribution(losses) if scaled else losses

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """One loss per sample, neither weighted nor reduced."""
        return self.focal.call(y_true, keras.ops.convert_to_tensor(y_pred, dtype=self.dtype))

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._overrides_call = core.overrides_call(cls, __name__)

    @property
    def _has_own_call(self) -> bool:
        return self._overrides_call or "call" in self.__dict__

    def _recovery(self, name: str) -> Any:
        """The core loss's method of that name, which knows nothing of a `call` that is overridden."""
        if self._has_own_call:
            core.formula_is_needed(self, name)
        return getattr(self.focal, name)

    def get_config(self) -> dict[str, Any]:
        return {**self.focal.parameters.as_config(), **super().get_config(), "dtype": self.dtype}

    def posterior(self, y_pred: Any, class_weight: Any = None, *, prior: Any = None, prior_now: Any = None) -> Any:
        """The probabilities that the trained model believes in, from what `model.predict` returns: a score is none.

        As `parfocal.BinaryFocalCrossentropy.posterior`; with `class_weight` as `fit` got it, and, where the shares of
        the classes have changed since, `prior` and `prior_now`.

        >>> loss = BinaryFocalCrossentropy(gamma=2)
        >>> loss.posterior([[0.154], [0.5], [0.7]]).round(3).tolist()
        [[0.01], [0.5], [0.906]]
        """
        return self._recovery("posterior")(y_pred, class_weight, prior=prior, prior_now=prior_now)

    def posterior_logit(
        self, y_pred: Any, class_weight: Any = None, *, prior: Any = None, prior_now: Any = None
    ) -> Any:
        """The posterior as logits, which keep their digits near 0 and 1: `parfocal.Loss.posterior_logit`.

        >>> loss = BinaryFocalCrossentropy(gamma=2, from_logits=True)
        >>> loss.posterior_logit([[-1.7065], [0.0]]).round(2).tolist()
        [[-4.6], [0.0]]
        """
        return self._recovery("posterior_logit")(y_pred, class_weight, prior=prior, prior_now=prior_now)

    def optimal_logit(self, prior: Any, class_weight: Any = None) -> Any:
        """The best constant logit for a prior, a start for the last layer's bias.

        As `parfocal.BinaryFocalCrossentropy.optimal_logit`.

        >>> loss = BinaryFocalCrossentropy(gamma=2, from_logits=True)
        >>> bias = keras.initializers.Constant(loss.optimal_logit(0.01))
        >>> print(round(bias.value, 3))
        -1.706
        """
        return self._recovery("optimal_logit")(prior, class_weight)


@register
class BinaryFocalCrossentropy(FocalLoss):
    """`parfocal.binary_focal_crossentropy` as a Keras loss, with the arguments and defaults of Keras's own.

    Parameters
    ----------
    apply_class_balancing, alpha, gamma, from_logits, label_smoothing, axis, soft_labels : as in the function; without
        apply_class_balancing=True alpha has no effect.
    reduction : Keras's, the mean over the losses unless told otherwise; also "mean_over_positives", the sum over all
        elements divided by the number of positives, max(1, sum of y_true), as RetinaNet does.
    name, dtype : as in `keras.losses.Loss`; the dtype may be a policy.  It is that of y_pred and of the result:
        labels and weights keep theirs, and half precision is computed and summed in float32.

    Raises
    ------
    ValueError for parameters out of range, TypeError for unknown ones; at a call as the function.

    >>> loss = BinaryFocalCrossentropy(gamma=2, from_logits=True)
    >>> print(round(float(loss([[0, 1, 0, 0]], [[-18.6, 0.51, 2.94, -12.8]])), 3))
    0.691
    """

    kind = core.BinaryFocalCrossentropy

    @takes_the_parameters_of(core.BinaryFocalCrossentropy.__init__)
    def __init__(self, **parameters: Any) -> None:
        super().__init__(**parameters)


@register
class CategoricalFocalCrossentropy(FocalLoss):
    """`parfocal.categorical_focal_crossentropy` as a Keras loss, with the arguments and defaults of Keras's own.

    Parameters
    ----------
    alpha, gamma, from_logits, label_smoothing, axis : as in the function; lists for alpha and gamma go by class.
    reduction, name, dtype : as in `keras.losses.Loss`, see `BinaryFocalCrossentropy`.

    Raises
    ------
    As `BinaryFocalCrossentropy`.

    >>> loss = CategoricalFocalCrossentropy()
    >>> print(round(float(loss([[0.0, 1, 0], [0, 0, 1]], [[0.05, 0.95, 0], [0.1, 0.8, 0.1]])), 5))
    0.23315
    """

    kind = core.CategoricalFocalCrossentropy

    @takes_the_parameters_of(core.CategoricalFocalCrossentropy.__init__)
    def __init__(self, **parameters: Any) -> None:
        super().__init__(**parameters)


@register
class SparseCategoricalFocalCrossentropy(FocalLoss):
    """`parfocal.sparse_categorical_focal_crossentropy` as a Keras loss: labels are class indices, floats too.

    Parameters
    ----------
    ignore_class : the index of samples to leave out, of the mean too.
    alpha, gamma, from_logits, label_smoothing, axis, reduction, name, dtype : as in `CategoricalFocalCrossentropy`.

    Raises
    ------
    As `BinaryFocalCrossentropy`.

    >>> loss = SparseCategoricalFocalCrossentropy(ignore_class=-1)
    >>> print(round(float(loss([1, 2, -1], [[0.05, 0.95, 0], [0.1, 0.8, 0.1], [1, 0, 0]])), 5))
    0.23315
    """

    kind = core.SparseCategoricalFocalCrossentropy

    @takes_the_parameters_of(core.SparseCategoricalFocalCrossentropy.__init__)
    def __init__(self, **parameters: Any) -> None:
        super().__init__(**parameters)
