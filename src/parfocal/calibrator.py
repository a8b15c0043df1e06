"""Focal scores to probabilities that agree with held-out data: the posterior, with a temperature and class biases."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from parfocal import backends, held_out
from parfocal.backends.numpy import NUMPY
from parfocal.core import calibration, formula, posterior, validation
from parfocal.core.formula import Array
from parfocal.core.hosts import OBJECTS, Host, counted
from parfocal.core.parameters import Binary
from parfocal.losses import (
    BinaryFocalCrossentropy,
    CategoricalFocalCrossentropy,
    FocalLoss,
    SparseCategoricalFocalCrossentropy,
)

__all__ = ["Calibrator"]

LOSSES = (BinaryFocalCrossentropy, CategoricalFocalCrossentropy, SparseCategoricalFocalCrossentropy)

# Replaces an infinite posterior logit: that of a masked class or of an infinite score.
FARTHEST = 1e4

# With label smoothing s and K classes, scores hardly differ between posteriors far below s / K, and half of those of an
# overconfident network come out as 0.  So the smallest posterior is e^-3 s / K here.  Log loss above the best possible,
# x 1000, for simulated binary scores of a calibrated model and of one whose log-odds are twice too large, by the bound
# of the log-odds:
#                      4       6       8      10      15    36.04    this rule
#     s = 0.02       42 25   41 17   42 16   42 19   44 30   50 65      7.6
#     s = 0.1        59 31   62 26   67 27   72 29   86 37  133 53      6.0
#     s = 0.2        83 39   90 36   99 37  108 39  129 45  174 56      5.3
BELOW_SMOOTHING = 3.0

# Scores whose posterior is computed at a time: the formula makes some forty temporaries, which stay in cache.
BLOCK = 1 << 14

LONGEST = 8  # biases that a repr shows one by one


class NotFittedError(ValueError, AttributeError):
    """A Calibrator was used before `fit`.  It is a ValueError, and an AttributeError so that `hasattr` works."""


class Calibrator:
    """Calibrated probabilities from the scores of a focal loss, fitted to held-out data.

    `loss.posterior` gives the probabilities that a model believes in.  They may be wrong: networks that are trained for
    long become overconfident, and a model that was chosen among many looks better than it is.  A Calibrator corrects
    them.  From scores that were used neither to train nor to choose the model it fits

        binary      log-odds = posterior_logit / T + b
        softmax     log-probabilities = posterior_logit / T + b_k, normalised; the b_k sum to 0

    to the smallest log loss, with 1/T >= 0.  `docs/formula.md` has the objective and its sources.

    Parameters
    ----------
    loss : the loss that the model was trained with, a `parfocal` loss or one of `parfocal.keras` and `parfocal.torch`.
        It defines the scores and labels: logits or probabilities, the class axis, `ignore_class`.
    bias : whether b is fitted; if False, only the temperature is.
    prior_weight : how strongly 1/T = 1 and b = 0 are preferred.  It adds to the summed log loss
        prior_weight / 2 * ((1/T - 1)^2 + b^2 / 2), for a softmax with the sum of all b_k^2 in place of b^2 / 2.  This
        term does not grow with the number of samples, and it keeps T and b finite where the classes are separated or
        absent.  The default, 1, expects 1/T and b within about 1 of their ideal, and hardly changes the result of 1,000
        samples.  0 means no prior.
    class_weight : weights that multiplied the loss in training, as in `loss.posterior`; their effect is removed.

    Attributes
    ----------
    temperature_ : T, a float; above 1 for an overconfident model.  inf where the scores rank the samples backwards, or
        where a few wrong scores outweigh the rest.
    bias_ : b, a float; for a softmax an array of one number per class.

    Raises
    ------
    TypeError for anything but a focal loss; ValueError for parameters out of range, and for a loss without a posterior.

    Notes
    -----
    A binary loss of several labels, y_pred (N, labels) or an image, gets one T and one b for all of them, as many
    samples of one kind.  For labels of different kinds fit a Calibrator to each column.

    With label_smoothing s a posterior may be 0 or 1, which no temperature can change.  So with K classes `fit` and
    `posterior` clip log-probabilities (binary: log-odds) 3 - log(s / K) away from 0, without smoothing 10,000 away.

    >>> import numpy as np
    >>> random = np.random.default_rng(0)
    >>> true = random.normal(size=20_000)                                # log-odds
    >>> labels = random.random(20_000) < 1 / (1 + np.exp(-true))
    >>> loss = BinaryFocalCrossentropy(gamma=2.0, from_logits=True)
    >>> scores = loss.optimal_logit(1 / (1 + np.exp(-2 * true)))         # its log-odds are twice too large
    >>> calibrator = Calibrator(loss).fit(labels, scores)
    >>> print(round(calibrator.temperature_, 1))
    2.0
    >>> for p in (loss.posterior(scores), calibrator.posterior(scores)):
    ...     print(f"log loss {-np.log(np.where(labels, p, 1 - p)).mean():.2f}")
    log loss 0.65
    log loss 0.60
    """

    _host: Host = OBJECTS  # older pickles have none

    def __init__(self, loss: Any, bias: bool = True, prior_weight: float = 1.0, class_weight: Any = None) -> None:
        self.loss = core_loss(loss)
        self._host = words_of(loss)
        self.bias = validation.flag("bias", bias)
        weight = validation.number_or_list("prior_weight", prior_weight)
        if isinstance(weight, tuple) or not 0 <= weight < math.inf:
            raise ValueError(f"prior_weight must be one number >= 0, and 0 for no prior; got {prior_weight!r}")
        self.prior_weight = weight
        self.class_weight = class_weight
        if self._binary:
            posterior.binary_posterior_logit(np, self.loss.parameters, np.zeros(1), class_weight)  # for its errors
        else:
            validation.smoothing_below_one(self.loss.parameters.label_smoothing)
        self._fit: calibration.Fit | None = None

    @property
    def temperature_(self) -> float:
        slope = self._fitted().slope
        return 1 / slope if slope else math.inf

    @property
    def bias_(self) -> Any:
        bias = self._fitted().bias
        return np.array(bias) if isinstance(bias, tuple) else bias

    def fit(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Calibrator:
        """Fit temperature and bias to held-out samples, in float64 NumPy.  Returns the Calibrator itself.

        y_true, y_pred : labels and scores as the loss takes them, in any library; labels may be soft where the loss
            takes soft labels.  Samples of `ignore_class` do not count, and may hold any scores.
        sample_weight : finite and >= 0, of a shape that the loss takes: how many times each sample counts.  Samples
            with weight 0 may hold any labels and scores.

        Raises ValueError for NaN scores, invalid labels and weights, wrong shapes, and if no sample is left; for an
        infinite logit of the wrong class, unless the loss has label smoothing: no T makes its loss finite; and, if
        prior_weight is 0 or tiny, where the best T or b is infinite because classes are separated or absent.
        Warns if 1/T would be negative and is set to 0, so that all samples get the same probability: the model ranks
        them backwards, or is so sure of a few wrong ones that they outweigh the rest.
        """
        read: Callable[..., held_out.Samples] = held_out.binary_samples if self._binary else held_out.rows
        samples = read(self.loss.parameters, y_true, y_pred, sample_weight, self._host)
        if not len(samples.scores):
            raise ValueError("no sample is left to fit: y_pred is empty, or all are ignored or have the weight 0")
        logits = self._recovered(samples.scores)
        kind: Callable[..., Any] = calibration.Binary if self._binary else calibration.Softmax
        problem = kind(logits, samples.labels, samples.weights, self.prior_weight)
        self._fit = calibration.fit(problem, self.bias, self.prior_weight)
        if self._fit.slope == 0:
            warnings.warn(
                "y_pred ranks the classes of y_true backwards, or a few scores are so far on the wrong side that they "
                "outweigh the rest, so 1/T is 0 and every sample gets the same posterior; are y_true and y_pred of the "
                "same samples, in the same order, with the same classes?",
                UserWarning,
                stacklevel=2,
            )
        return self

    def posterior(self, y_pred: Any) -> Any:
        """The calibrated probabilities, in y_pred's library, shape and dtype.  No gradient flows through them.

        y_pred : scores as the loss takes them, in any library.  Raises ValueError before `fit`, and for a softmax of
            another number of classes.

        >>> loss = SparseCategoricalFocalCrossentropy(alpha=1, gamma=2, from_logits=True)
        >>> scores = np.array([[2.0, 0, 0], [0, 2, 0], [0, 0, 2], [2, 0, 0]])
        >>> calibrator = Calibrator(loss).fit([0, 1, 2, 1], scores)
        >>> print(loss.posterior(scores)[0].round(3), calibrator.posterior(scores)[0].round(3))
        [0.973 0.014 0.014] [0.697 0.196 0.107]
        """
        if self._binary:
            return self._calibrated(y_pred, lambda xp, logits: formula.link(xp, logits).p)
        return self._calibrated(y_pred, lambda xp, logits: xp.exp(logits))

    def posterior_logit(self, y_pred: Any) -> Any:
        """The calibrated log-odds, or log-probabilities, exact near 0 and 1 too; otherwise like `posterior`."""
        return self._calibrated(y_pred, lambda xp, logits: logits)

    def get_config(self) -> dict[str, Any]:
        """Everything `from_config` needs to build the same Calibrator, fitted if this one is.  JSON can hold it."""
        weight = self.class_weight
        if isinstance(weight, Mapping):
            weight = {str(key): float(value) for key, value in weight.items()}  # JSON has text as keys
        elif weight is not None:
            weight = [float(value) for value in weight]
        fitted = None
        if self._fit is not None:
            bias = self._fit.bias
            fitted = {
                "inverse_temperature": self._fit.slope,
                "bias": list(bias) if isinstance(bias, tuple) else bias,
            }
        return {
            "loss": {"class_name": self._kind.__name__, "config": self.loss.get_config()},
            "bias": self.bias,
            "prior_weight": self.prior_weight,
            "class_weight": weight,
            "fitted": fitted,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Calibrator:
        """A Calibrator from the result of `get_config`, fitted if that one was.  Raises ValueError for anything else.

        >>> calibrator = Calibrator(BinaryFocalCrossentropy()).fit([0, 1, 1], [0.2, 0.6, 0.3])
        >>> again = Calibrator.from_config(calibrator.get_config())
        >>> again.temperature_ == calibrator.temperature_
        True
        """
        kinds = {kind.__name__: kind for kind in LOSSES}
        has_keys("the config of a Calibrator", config, "loss", "bias", "prior_weight", "class_weight", "fitted")
        loss, weight, fitted = config["loss"], config["class_weight"], config["fitted"]
        has_keys("loss in the config of a Calibrator", loss, "class_name", "config")
        if fitted is not None:
            has_keys("fitted in the config of a Calibrator", fitted, "inverse_temperature", "bias")
        kind = kinds[validation.one_of("the class_name of the loss", loss["class_name"], tuple(kinds))]
        if isinstance(weight, Mapping):
            weight = {int(key): value for key, value in weight.items()}
        made = cls(kind.from_config(loss["config"]), config["bias"], config["prior_weight"], weight)
        if fitted is not None:
            bias = fitted["bias"]
            made._fit = calibration.Fit(
                float(fitted["inverse_temperature"]), tuple(bias) if isinstance(bias, list) else float(bias)
            )
        return made

    def __repr__(self) -> str:
        """What was fitted, then what differs from the defaults."""
        parts = []
        if self._fit is not None:
            parts = [f"temperature_={self.temperature_:.4g}", f"bias_={in_short(self._fit.bias)}"]
        loss = changed(self.loss.get_config(), self._kind().get_config())
        parts.append(f"loss={type(self.loss).__name__}({', '.join(loss)})")
        own = {"bias": self.bias, "prior_weight": self.prior_weight, "class_weight": self.class_weight}
        parts += changed(own, {"bias": True, "prior_weight": 1.0, "class_weight": None})
        return f"Calibrator({', '.join(parts)})"

    # -- recovering probabilities

    @property
    def _kind(self) -> type[FocalLoss]:
        """Which of our losses this is, or was derived from."""
        return next(kind for kind in type(self.loss).__mro__ if kind in LOSSES)

    @property
    def _binary(self) -> bool:
        return isinstance(self.loss.parameters, Binary)

    def _fitted(self) -> calibration.Fit:
        if self._fit is None:
            raise NotFittedError("this Calibrator has no temperature yet; call fit(y_true, y_pred) on held-out scores")
        return self._fit

    def _posterior_logit(self, xp: Any, parameters: Any, logits: Array) -> Array:
        """Posterior log-odds, or log-probabilities with the classes last, bounded."""
        smoothing = parameters.label_smoothing
        if self._binary:
            farthest = min(FARTHEST, BELOW_SMOOTHING - math.log(smoothing / 2)) if smoothing else FARTHEST
            found = posterior.binary_posterior_logit(xp, parameters, logits, self.class_weight)
        else:
            found = posterior.categorical_posterior_log(xp, parameters, logits, self.class_weight)
            found = xp.moveaxis(found, parameters.axis, -1)
            share = smoothing / found.shape[-1]
            farthest = min(FARTHEST, BELOW_SMOOTHING - math.log(share)) if smoothing else FARTHEST
        return xp.clip(found, -farthest, farthest)

    def _recovered(self, scores: np.ndarray) -> np.ndarray:
        """The bounded posterior logits of rows of scores, in float64."""
        parameters = classes_last(self.loss.parameters)
        size = max(1, BLOCK // max(1, math.prod(scores.shape[1:])))
        found = np.empty(scores.shape)
        with np.errstate(all="ignore"):
            for start in range(0, len(scores), size):
                rows = slice(start, start + size)
                found[rows] = self._posterior_logit(np, parameters, NUMPY.logits(parameters, scores[rows]))
        return found

    def _calibrated(self, y_pred: Any, result: Callable[[Any, Array], Array]) -> Any:
        """result(namespace, calibrated logits), in y_pred's library."""
        fit, parameters = self._fitted(), self.loss.parameters
        backend = backends.find(y_pred, differentiable=True)
        given, xp = backend.float_array("y_pred", y_pred), backend.xp
        if isinstance(fit.bias, tuple):
            shape = backend.shape(given)
            classes = shape[validation.class_axis(parameters, shape, "posterior", self._host)]
            if classes != len(fit.bias):
                raise ValueError(
                    f"y_pred has {counted(classes, 'class')}, and this Calibrator was fitted to {len(fit.bias)}"
                )
        with backend.no_warnings():
            logits = backend.logits(parameters, backend.detached(given))
            logits = fit.slope * self._posterior_logit(xp, parameters, logits)
            if isinstance(fit.bias, tuple):
                logits = logits + backend.per_class(fit.bias, logits)[0]
                logits = xp.moveaxis(posterior.log_normalised(xp, logits), -1, parameters.axis)
            else:
                logits = logits + fit.bias
            return backend.cast(result(xp, logits), given.dtype)


def core_loss(loss: Any) -> FocalLoss:
    """The loss itself, or the core loss inside a loss of parfocal.keras or a module of parfocal.torch."""
    rule: Any = getattr(loss, "rule", None)
    for found in (loss, getattr(loss, "focal", None), getattr(rule, "loss", None)):
        if isinstance(found, FocalLoss) and not getattr(loss, "_has_own_call", False):
            if isinstance(found.parameters, Binary) and getattr(rule, "ignore_index", None) is not None:
                raise ValueError(
                    f"a Calibrator does not know ignore_index={rule.ignore_index} of {type(loss).__name__}; build the "
                    "loss without it, and give fit sample_weight=0 for the elements to leave out"
                )
            return found
    raise TypeError(
        "loss must be the focal loss of the training, such as parfocal.BinaryFocalCrossentropy(from_logits=True), and "
        f"must not override call; got {loss!r}"
    )


def has_keys(what: str, config: Any, *keys: str) -> None:
    if not isinstance(config, Mapping):
        raise ValueError(f"{what} must be a dict, as Calibrator.get_config() returns it; got {config!r}")
    missing = [key for key in keys if key not in config]
    if missing:
        raise ValueError(
            f"{what} must have {', '.join(keys)}, as Calibrator.get_config() returns it; it lacks {', '.join(missing)}"
        )


def changed(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    """The arguments that differ from their defaults; by their text, as arrays may be among them."""
    return [f"{name}={value!r}" for name, value in values.items() if repr(value) != repr(defaults[name])]


def in_short(bias: float | tuple[float, ...]) -> str:
    if not isinstance(bias, tuple):
        return f"{bias:.4g}"
    shown = [f"{value:.4g}" for value in bias]
    return f"[{', '.join(shown if len(shown) <= LONGEST else [*shown[:3], '...', *shown[-3:]])}]"


def words_of(loss: Any) -> Host:
    """The names in errors: those of `fit`, and beside them those of the loss's own library."""
    own: Host = getattr(loss, "_host", OBJECTS)
    return own._replace(
        scores=OBJECTS.scores, labels=OBJECTS.labels, weight=OBJECTS.weight, by_element=OBJECTS.by_element
    )


def classes_last(parameters: Any) -> Any:
    """The same parameters with the class axis last."""
    moved = object.__new__(type(parameters))
    moved.__dict__.update(parameters.__dict__, axis=-1)
    return moved
