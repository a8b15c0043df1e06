"""What every library but NumPy has in common: how tensors run the formula, whatever their library.

(a) A law is one loss: its terms and the product of its second derivative with a vector, from formula.py,
    softmax.py or probability.py, with the parameters filled in.
(b) `Tensors.stated` makes a law differentiable.  Each library overrides it, registers the law's own slopes there,
    and leaves nothing to automatic differentiation of a `where` or an `abs`.  Labels are constants.
(c) No value is looked at: that would stall an accelerator, and a tracer has none.  Labels that are none, and
    probabilities that cannot be meant, make their own sample NaN.
(d) Half precision is computed in float32, everything else in its own dtype.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from parfocal import checks, config, formula, probability, softmax
from parfocal.backends import numpy
from parfocal.formula import Array, Namespace
from parfocal.parameters import Binary, Categorical, SparseCategorical

# A probability outside [0, 1] by no more than this is one that was rounded, and is clipped.
ROUNDING = 1e-3


class Law:
    """A loss as a function of scores; further arrays, labels above all, are constants."""

    by_row = False  # whether the scores of the last axis belong together, and the loss has length 1 there

    def terms(self, xp: Namespace, scores: Array, order: int, *constants: Array) -> tuple[Array, ...]:
        """The loss, its gradient and the diagonal of its second derivative, up to `order`."""
        raise NotImplementedError

    def product(self, xp: Namespace, scores: Array, vector: Array, *constants: Array) -> Array:
        """The second derivative times a vector of the scores' shape."""
        return self.terms(xp, scores, 2, *constants)[2] * vector

    def along(self, xp: Namespace, gradient: Array, vector: Array) -> Array:
        """The loss's change for a change of the scores."""
        product = gradient * vector
        return xp.sum(product, axis=-1, keepdims=True) if self.by_row else product


class BinaryLaw(Law):
    """Constants: labels in [0, 1]; `hard` says that they are 0 or 1.  A gamma that is an array may follow them."""

    def __init__(self, parameters: Binary, hard: bool) -> None:
        self.gamma_0, self.gamma_1 = parameters.gammas
        self.w_0, self.w_1 = parameters.weights
        self.linear = parameters.soft_labels == "linear"
        self.hard, self.epsilon = hard, None if parameters.from_logits else config.epsilon()

    def terms(self, xp: Namespace, scores: Array, order: int, *constants: Array) -> tuple[Array, ...]:
        y, *given = constants
        gamma, pair = given[0] if given else self.gamma_1, self.gamma_0 != self.gamma_1
        if self.linear and pair and not self.hard:  # a pair has a meaning for hard labels alone
            y = nan_unless(xp, (y == 0) | (y == 1), y)
        if self.epsilon is not None:
            p, q = clipped(xp, nan_unless(xp, meant(scores), scores), self.epsilon)
            if self.linear and not pair:
                return probability.binary_linear(xp, p, q, y, gamma, self.w_1, self.w_0, order)
            return probability.binary_expected(xp, p, q, y, gamma, self.gamma_0, self.w_1, self.w_0, order)
        if pair and (self.hard or self.linear):
            gamma = one_per_label(xp, y, self.gamma_0, self.gamma_1)
            return formula.binary_hard(xp, scores, y, gamma, self.w_1, self.w_0, order)
        if self.hard or self.linear:  # they agree at hard labels, and this is the cheaper one
            return formula.binary_linear(xp, scores, y, gamma, self.w_1, self.w_0, order)
        return formula.binary_expected(xp, scores, y, gamma, self.gamma_0, self.w_1, self.w_0, order)


class HardSoftmaxLaw(Law):
    """Constants: a boolean one-hot target; the weight of each row; with a gamma per class the halves of each row's."""

    by_row = True

    def __init__(self, gamma: Any) -> None:
        self.gamma = gamma

    def gamma_of(self, gammas: tuple[Array, ...]) -> Any:
        return formula.Exponents(*gammas) if gammas else self.gamma

    def terms(self, xp: Namespace, scores: Array, order: int, *constants: Array) -> tuple[Array, ...]:
        target, weight, *gammas = constants
        terms = softmax.hard(xp, scores, target, self.gamma_of(tuple(gammas)), order)
        return tuple(formula.weighted(xp, weight, term) for term in terms)

    def product(self, xp: Namespace, scores: Array, vector: Array, *constants: Array) -> Array:
        target, weight, *gammas = constants
        return weight * softmax.hard_product(xp, scores, target, self.gamma_of(tuple(gammas)), vector)


class DenseSoftmaxLaw(HardSoftmaxLaw):
    """Constants: the weight of each class of each row; with one gamma per class their halves, in the same shape."""

    def terms(self, xp: Namespace, scores: Array, order: int, *constants: Array) -> tuple[Array, ...]:
        weight, *gammas = constants
        return softmax.dense(xp, scores, weight, self.gamma_of(tuple(gammas)), order)

    def product(self, xp: Namespace, scores: Array, vector: Array, *constants: Array) -> Array:
        weight, *gammas = constants
        return softmax.dense_product(xp, scores, weight, self.gamma_of(tuple(gammas)), vector)


class ProbabilitySoftmaxLaw(DenseSoftmaxLaw):
    """The same constants, for scores that are divided by their sum."""

    def __init__(self, gamma: Any, epsilon: float) -> None:
        super().__init__(gamma)
        self.epsilon = epsilon

    def normalised(self, xp: Namespace, scores: Array) -> tuple[Array, Array, Array, Array]:
        scale = xp.sum(scores, axis=-1, keepdims=True)
        p = nan_unless(xp, meant(scores), scores) / scale
        return p, *clipped(xp, p, self.epsilon), scale

    def terms(self, xp: Namespace, scores: Array, order: int, *constants: Array) -> tuple[Array, ...]:
        weight, *gammas = constants
        given = self.normalised(xp, scores)
        return probability.softmax(xp, *given, weight, self.gamma_of(tuple(gammas)), order)

    def product(self, xp: Namespace, scores: Array, vector: Array, *constants: Array) -> Array:
        weight, *gammas = constants
        given = self.normalised(xp, scores)
        return probability.softmax_product(xp, *given, weight, self.gamma_of(tuple(gammas)), vector)


def meant(scores: Array) -> Array:
    return (scores >= -ROUNDING) & (scores <= 1 + ROUNDING)


def nan_unless(xp: Namespace, condition: Array, values: Array) -> Array:
    return xp.where(condition, values, xp.full_like(values, float("nan")))


def clipped(xp: Namespace, p: Array, epsilon: float) -> tuple[Array, Array]:
    """p clipped to [epsilon, 1 - epsilon], and 1 - p as it is rounded, as Keras computes them."""
    epsilon = max(epsilon, 2.0 ** -formula.bits_of(xp, p.dtype))  # or 1 - epsilon would be 1
    p = xp.clip(p, epsilon, 1 - epsilon)
    return p, 1 - p


def one_per_label(xp: Namespace, y: Array, gamma_0: float, gamma_1: float) -> formula.Exponents:
    bits = formula.bits_of(xp, y.dtype)
    pairs = zip(formula.halves(gamma_0, bits), formula.halves(gamma_1, bits), strict=True)
    return formula.Exponents(*(xp.where(y == 1, xp.full_like(y, b), xp.full_like(y, a)) for a, b in pairs))


class Rows(NamedTuple):
    """A batch of rows: labels that fit the scores, and where the classes lie."""

    labels: Array  # indices in the shape of the rows, or one label for each score
    axis: int
    valid: Array | None  # which rows count; None: all


class Tensors:
    """The backend of a library, given its namespace: the array API's names, as far as the formula uses them."""

    def __init__(self, xp: Namespace) -> None:
        self.xp = xp

    # -- what a library says of itself

    def from_numpy(self, array: np.ndarray, like: Array) -> Array:
        """A NumPy array as this library's, where `like` lies."""
        return self.xp.asarray(array)

    def is_ours(self, values: Any) -> bool:
        return hasattr(values, "__array_namespace__") and not isinstance(values, np.ndarray)

    def shape(self, array: Array) -> tuple[int | None, ...]:
        """None stands for a length that is not known while a graph is built."""
        return tuple(array.shape)

    def length(self, array: Array, axis: int) -> Any:
        return array.shape[axis]

    def lengths_without(self, array: Array, axis: int | None) -> Any:
        """The shape without an axis, as `broadcast_to` takes it."""
        return tuple(array.shape) if axis is None else checks.without(tuple(array.shape), axis)

    def count_without(self, array: Array, axis: int | None) -> Any:
        """The number of losses."""
        count: Any = 1
        for other in range(len(array.shape)):
            if other != axis:
                count = count * self.length(array, other)
        return count

    def shaped_like(self, term: Array, y_pred: Array) -> Array:
        """A term of scores that may have got an axis."""
        wanted = self.lengths_without(y_pred, None)
        return term if len(self.shape(term)) == len(self.shape(y_pred)) else self.xp.reshape(term, wanted)

    def wide(self, losses: Array) -> Array:
        """Losses as they are summed."""
        return self.working(losses)

    def stated(self, law: Law, order: int, scores: Array, constants: tuple[Array, ...]) -> Array:
        """The term of that order; those of order 0 and 1 with the law's own derivatives, if there are derivatives."""
        return law.terms(self.xp, scores, order, *constants)[order]

    def terms(self, law: Law, order: int, scores: Array, constants: tuple[Array, ...]) -> list[Array]:
        return [self.stated(law, i, scores, constants) for i in range(order + 1)]

    def stopped(self, array: Array) -> Array:
        """The array as a constant of all derivatives."""
        return array

    # -- arrays

    def dtype_named(self, name: str) -> Any:
        try:
            return getattr(self.xp, name)
        except AttributeError:
            raise TypeError(f"the library of y_pred has no dtype {name}") from None

    def kind(self, array: Array) -> str:
        """NumPy's letter for the type of the items, "b", "i", "u" or "f"; "" for what is no real number."""
        name = str(getattr(array.dtype, "name", array.dtype)).rpartition(".")[2]
        return {"bool": "b", "int": "i", "uint": "u", "float": "f", "bfloat": "f"}.get(name.rstrip("0123456789"), "")

    def checked(self, name: str, array: Array) -> Array:
        if not self.kind(array):
            raise TypeError(f"{name} must hold real numbers; it has dtype {array.dtype}")
        return array

    def companion(self, name: str, values: Any, like: Array) -> Array:
        """Labels or weights as an array of the library and of the place of `like`."""
        if self.is_ours(values):
            return self.checked(name, values)
        return self.from_numpy(numpy.as_array(name, values), like)

    def float_array(self, name: str, values: Any) -> Array:
        """`values` as floats: integers become float32."""
        self.checked(name, values)
        return values if self.kind(values) == "f" else self.xp.astype(values, self.xp.float32)

    def binary_scores(self, y_true: Any, y_pred: Any) -> Array:
        """y_pred as floats with an axis to average over: (N,) beside labels (N, 1) becomes (N, 1), as in Keras."""
        scores = self.float_array("y_pred", y_pred)
        shape = self.shape(scores)
        if not shape:
            return self.xp.reshape(scores, (1,))
        labels = self.shape(y_true) if self.is_ours(y_true) else np.shape(y_true)
        return self.xp.expand_dims(scores, axis=-1) if len(shape) == 1 and checks.fits(labels, (*shape, 1)) else scores

    def cast(self, values: Array, dtype: Any) -> Array:
        dtype = self.dtype_named(dtype) if isinstance(dtype, str) else dtype
        return values if values.dtype == dtype else self.xp.astype(values, dtype)

    def is_double(self, array: Array) -> bool:
        return bool(array.dtype == self.xp.float64)

    def working(self, scores: Array) -> Array:
        """Half precision is computed in float32."""
        return scores if self.is_double(scores) else self.cast(scores, self.xp.float32)

    def weights(self, values: Any, like: Array) -> Array:
        """Sample weights, in the dtype that the losses are computed in."""
        return self.cast(self.companion("sample_weight", values, like), self.working(like).dtype)

    def mean(self, values: Array, axis: int) -> Array:
        """The mean over an axis; the mean of nothing is 0."""
        if self.shape(values)[axis] == 1:
            return self.xp.squeeze(values, axis=axis)
        return self.xp.sum(values, axis=axis) / self.number(self.at_least_one(self.length(values, axis)), values)

    def number(self, value: Any, like: Array) -> Any:
        """A divisor that may be an array, beside `like`."""
        return value

    def at_least_one(self, length: Any) -> Any:
        return max(length, 1)

    def count_true(self, mask: Array) -> Array:
        return self.xp.sum(self.xp.astype(mask, self.xp.float32))

    def or_one(self, total: Any) -> Any:
        """A divisor."""
        return (total or 1.0) if isinstance(total, int | float) else formula.or_one(self.xp, total)

    def positives(self, y_true: Any, like: Array) -> Any:
        """The sum of the labels, at least 1."""
        total = self.xp.sum(self.cast(self.companion("y_true", y_true, like), self.working(like).dtype))
        return self.xp.clip(total, 1.0, None)

    def weighed(
        self, terms: list[Array], weights: tuple[Array, Array] | None, by: Any, total: bool, dtype: Any
    ) -> tuple[Array, ...]:
        loss, *slopes = terms
        by = self.number(by, loss)
        if weights is not None:
            loss = formula.weighted(self.xp, weights[0], loss)
            slopes = [slope * weights[1] for slope in slopes]
        if total:
            loss = self.xp.sum(loss) / by
        return (loss, *(self.cast(slope / by, dtype) for slope in slopes))

    # -- binary

    def binary(
        self,
        parameters: Binary,
        y_true: Any,
        y_pred: Array,
        order: int,
        weights: Array | None = None,
        by: Any = 1.0,
        total: bool = False,
        dtype: Any = None,
        positive: bool = False,
    ) -> tuple[Array, ...]:
        """What `backends.numpy.binary` returns."""
        scores = self.working(y_pred)
        labels = self.binary_labels(y_true, y_pred)
        hard = self.kind(labels) in "bi" and not parameters.label_smoothing
        y = self.cast(labels, scores.dtype)
        y = nan_unless(self.xp, (y >= 0) & (y <= 1), y)
        if parameters.label_smoothing:
            y = y * (1 - parameters.label_smoothing) + 0.5 * parameters.label_smoothing
        terms = self.terms(BinaryLaw(parameters, hard), order, scores, (y,))
        return self.weighed(terms, None if weights is None else (weights, weights), by, total, dtype or y_pred.dtype)

    def binary_labels(self, y_true: Any, y_pred: Array) -> Array:
        """Labels in y_pred's shape; a trailing axis of 1 that only one side has is nobody's mistake."""
        labels = self.companion("y_true", y_true, y_pred)
        shape, given = self.shape(y_pred), self.shape(labels)
        if len(given) == len(shape) + 1 and given[-1] == 1:
            labels = self.xp.squeeze(labels, axis=-1)
        elif len(given) == len(shape) - 1 and shape[-1] == 1:
            labels = self.xp.expand_dims(labels, axis=-1)
        checks.one_shape(self.shape(labels), shape, "binary_focal_crossentropy")
        return labels

    # -- categorical

    def rows(self, parameters: Categorical, y_true: Any, y_pred: Array) -> Rows:
        """The labels of a batch, once shapes and types have been checked."""
        shape = self.shape(y_pred)
        axis = checks.class_axis(parameters, shape, parameters.function)
        labels = self.companion("y_true", y_true, y_pred)
        if not isinstance(parameters, SparseCategorical):
            checks.dense_labels(self.shape(labels), shape, axis)
            return Rows(labels, axis, None)
        one = checks.sparse_labels(self.shape(labels), shape, axis)
        labels = labels if one is None else self.xp.squeeze(labels, axis=one)
        ignore = parameters.ignore_class
        return Rows(labels, axis, None if ignore is None else labels != ignore)

    def categorical(
        self,
        parameters: Categorical,
        batch: Rows,
        y_pred: Array,
        order: int,
        weights: Array | None = None,
        by: Any = 1.0,
        total: bool = False,
        dtype: Any = None,
        positive: bool = False,
    ) -> tuple[Array, ...]:
        """What `backends.numpy.categorical` returns."""
        xp, axis = self.xp, batch.axis
        last = len(self.shape(y_pred)) - 1
        scores = self.working(y_pred)
        scores = scores if axis == last else xp.moveaxis(scores, axis, -1)
        if batch.valid is not None:  # whatever an ignored row holds, it leaves no trace
            scores = xp.where(xp.expand_dims(batch.valid, axis=-1), scores, xp.ones_like(scores))
        law, constants = self.softmax_law(parameters, batch, scores)
        loss, *slopes = self.terms(law, order, scores, constants)
        if axis != last:
            slopes = [xp.moveaxis(slope, -1, axis) for slope in slopes]
        both = None if weights is None else (weights, xp.expand_dims(weights, axis=axis))
        return self.weighed([xp.squeeze(loss, axis=-1), *slopes], both, by, total, dtype or y_pred.dtype)

    def softmax_law(self, parameters: Categorical, batch: Rows, scores: Array) -> tuple[Law, tuple[Array, ...]]:
        """The loss of rows with their classes on the last axis, and its constants."""
        xp, smoothing, gamma = self.xp, parameters.label_smoothing, parameters.gamma
        classes = self.shape(scores)[-1]
        assert classes is not None  # class_axis has seen to that
        gammas = self.per_class(gamma, scores, halved=True) if isinstance(gamma, tuple) else []
        if isinstance(parameters, SparseCategorical):
            target, known = self.one_hot(batch, classes)
            labels = self.cast(target, scores.dtype)
            if not smoothing and parameters.from_logits:
                weight = self.row_weight(parameters, labels, known)
                mixed = [xp.sum(xp.where(target, g, xp.zeros_like(scores)), axis=-1, keepdims=True) for g in gammas]
                return HardSoftmaxLaw(gamma), (target, weight, *mixed)
            labels = nan_unless(xp, known | xp.zeros_like(target), labels)
        else:
            labels = self.cast(batch.labels, scores.dtype)
            labels = labels if batch.axis == len(self.shape(scores)) - 1 else xp.moveaxis(labels, batch.axis, -1)
            labels = nan_unless(xp, (labels >= 0) & (labels <= 1), labels)
        if smoothing:
            labels = labels * (1 - smoothing) + smoothing / classes
            if batch.valid is not None:
                labels = xp.where(xp.expand_dims(batch.valid, axis=-1), labels, xp.zeros_like(labels))
        alpha = parameters.alpha
        weight = labels * (self.per_class(alpha, scores)[0] if isinstance(alpha, tuple) else alpha)
        constants = (weight, *(g + xp.zeros_like(scores) for g in gammas))
        if parameters.from_logits:
            return DenseSoftmaxLaw(gamma), constants
        return ProbabilitySoftmaxLaw(gamma, config.epsilon()), constants

    def per_class(self, values: tuple[float, ...], scores: Array, halved: bool = False) -> list[Array]:
        """Numbers along the last axis of `scores`; `halved`, as the two halves of a gamma."""
        columns: Any = [list(values)]
        if halved:
            bits = formula.bits_of(self.xp, scores.dtype)
            columns = zip(*(formula.halves(value, bits) for value in values), strict=True)
        dtype = np.float64 if self.is_double(scores) else np.float32
        return [self.from_numpy(np.asarray(column, dtype=dtype), scores) for column in columns]

    def one_hot(self, batch: Rows, classes: int) -> tuple[Array, Array]:
        """The true class of each row, none where it is ignored; and whether there is one, or it is ignored."""
        labels = batch.labels
        if self.kind(labels) == "b":
            labels = self.xp.astype(labels, self.xp.int32)
        elif self.kind(labels) == "f":
            labels = self.working(labels)
        labels = self.xp.expand_dims(labels, axis=-1)
        target = labels == self.cast(self.xp.arange(classes), labels.dtype)
        if batch.valid is None:
            return target, self.xp.any(target, axis=-1, keepdims=True)
        valid = self.xp.expand_dims(batch.valid, axis=-1)
        target = target & valid
        return target, self.xp.any(target, axis=-1, keepdims=True) | ~valid

    def row_weight(self, parameters: Categorical, labels: Array, known: Array) -> Array:
        """The alpha of each row's class; 0 for an ignored row, NaN for a label that is none."""
        alpha = parameters.alpha
        share = labels * (self.per_class(alpha, labels)[0] if isinstance(alpha, tuple) else alpha)
        return nan_unless(self.xp, known, self.xp.sum(share, axis=-1, keepdims=True))

    # -- from scores to probabilities

    def logits(self, parameters: Binary | Categorical, y_pred: Array) -> Array:
        """Scores as logits.  Probabilities are treated as the loss treats them; a softmax's logits are log p."""
        xp, scores = self.xp, self.working(y_pred)
        if isinstance(parameters, Categorical):
            checks.class_axis(parameters, self.shape(y_pred), "posterior")
        if parameters.from_logits:
            return scores
        scores = nan_unless(xp, meant(scores), scores)
        if isinstance(parameters, Categorical):
            scores = scores / xp.sum(scores, axis=parameters.axis, keepdims=True)
            return xp.log(clipped(xp, scores, config.epsilon())[0])
        p, q = clipped(xp, scores, config.epsilon())
        return xp.log(p) - xp.log(q)
