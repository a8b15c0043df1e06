"""What a focal loss is: its parameters, checked once, and read by every backend.

Plain classes: dataclasses would add a twentieth to the time of `import parfocal`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from parfocal.core import validation
from parfocal.core.formula import Schedule

SOFT_LABEL_RULES = ("linear", "expected")
Numbers = float | tuple[float, ...]


class GammaSchedule(Schedule):
    """A gamma that depends on how sure the model is of the true class: `gamma=GammaSchedule([0.2], [5, 3])`.

    Parameters
    ----------
    thresholds : probabilities of the true class, in (0, 1), increasing.
    gammas : one more than thresholds, only rising or only falling; gammas[i] holds below thresholds[i], the last one
        from the last threshold on.

    Derivatives take gamma as a constant, as Mukhoti et al. 2020 (arXiv:2002.09437) do; the loss jumps at a threshold.
    `FLSD53` is their schedule: 5 below 0.2, else 3.  A softmax with weight on several classes asks each class for its
    own probability.  It is computed without the native kernel.

    Raises
    ------
    ValueError for anything else.

    >>> from parfocal import binary_focal_crossentropy
    >>> GammaSchedule([0.2], [5, 3])
    GammaSchedule(thresholds=[0.2], gammas=[5.0, 3.0])
    >>> print(binary_focal_crossentropy([1.0], [0.0], gamma=FLSD53, from_logits=True).round(4))  # 0.5^3 log 2
    0.0866
    """

    def __init__(self, thresholds: Any, gammas: Any) -> None:
        super().__init__(*validation.schedule(thresholds, gammas))

    def get_config(self) -> dict[str, list[float]]:
        return {"thresholds": list(self.thresholds), "gammas": list(self.gammas)}

    def __repr__(self) -> str:
        return f"GammaSchedule(thresholds={list(self.thresholds)}, gammas={list(self.gammas)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schedule) and (self.thresholds, self.gammas) == (other.thresholds, other.gammas)

    def __hash__(self) -> int:
        return hash((self.thresholds, self.gammas))


FLSD53 = GammaSchedule([0.2], [5, 3])
"""The schedule of Mukhoti et al. 2020 (arXiv:2002.09437): gamma is 5 where p_t is below 0.2, else 3."""


def known_gamma(value: Any) -> Any:
    """A schedule that went through JSON, as a schedule again."""
    if isinstance(value, dict) and set(value) == {"thresholds", "gammas"}:
        return GammaSchedule(**value)
    return value


class Parameters:
    """Named values, in the order of the loss's arguments, and what backends derive from them.

    Nothing changes them after they were checked.
    """

    names: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.names}

    def as_config(self) -> dict[str, Any]:
        """`as_dict` as JSON has it."""
        listed = {name: list(value) if isinstance(value, tuple) else value for name, value in self.as_dict().items()}
        return {name: v.get_config() if isinstance(v, GammaSchedule) else v for name, v in listed.items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Pickles hold the named values; an earlier version derived other things from them."""
        type(self).__init__(self, **{name: state[name] for name in self.names})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Parameters) and type(self) is type(other) and self.as_dict() == other.as_dict()

    __hash__ = None  # type: ignore[assignment]  # compared by value, so not hashable


class Binary(Parameters):
    """The parameters of `binary_focal_crossentropy`."""

    names = ("apply_class_balancing", "alpha", "gamma", "from_logits", "label_smoothing", "axis", "soft_labels")

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: Any = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        soft_labels: str = "linear",
    ) -> None:
        self.apply_class_balancing = validation.flag("apply_class_balancing", apply_class_balancing)
        self.alpha = validation.binary_alpha(alpha)
        self.gamma: Numbers | Schedule = validation.gamma(known_gamma(gamma), classes=2)
        self.from_logits = validation.flag("from_logits", from_logits)
        self.label_smoothing = validation.label_smoothing(label_smoothing)
        self.axis = validation.whole_number("axis", axis)
        self.soft_labels: str = validation.one_of("soft_labels", soft_labels, SOFT_LABEL_RULES)
        if self.label_smoothing:
            validation.gamma_pair_with_soft_labels(self.soft_labels, self.gamma)
        # (w_0, w_1), the weights of the labels 0 and 1; (gamma of the negatives, gamma of the positives)
        self.weights = (1 - self.alpha, self.alpha) if self.apply_class_balancing else (1.0, 1.0)
        gammas: Any = self.gamma if isinstance(self.gamma, tuple) else (self.gamma, self.gamma)
        self.gammas: tuple[Any, Any] = gammas
        self.native = self.from_logits and not isinstance(self.gamma, Schedule)  # whether the native kernel knows it
        self.for_kernel = (*self.gammas, *self.weights, self.label_smoothing, self.soft_labels == "expected")


class Categorical(Parameters):
    """The parameters of `categorical_focal_crossentropy`."""

    names: tuple[str, ...] = ("alpha", "gamma", "from_logits", "label_smoothing", "axis")

    def __init__(
        self,
        alpha: Any = 0.25,
        gamma: Any = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
    ) -> None:
        self.alpha: Numbers = validation.categorical_alpha(alpha)
        self.gamma: Numbers | Schedule = validation.gamma(known_gamma(gamma))
        self.from_logits = validation.flag("from_logits", from_logits)
        self.label_smoothing = validation.label_smoothing(label_smoothing)
        self.axis = validation.whole_number("axis", axis)
        self.native = self.from_logits and not isinstance(self.gamma, Schedule)
        if self.native:
            vectors = (np.asarray(values, dtype=np.float64).reshape(-1) for values in (self.alpha, self.gamma))
            self.for_kernel = (*vectors, self.label_smoothing)


class SparseCategorical(Categorical):
    """The parameters of `sparse_categorical_focal_crossentropy`: those of the dense one, and a class to ignore."""

    names = (*Categorical.names, "ignore_class")

    def __init__(
        self,
        alpha: Any = 0.25,
        gamma: Any = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        ignore_class: int | None = None,
    ) -> None:
        super().__init__(alpha, gamma, from_logits, label_smoothing, axis)
        self.ignore_class = None if ignore_class is None else validation.whole_number("ignore_class", ignore_class)


_is_compiling: Callable[[], bool] = bool


def do_not_remember_while(is_compiling: Callable[[], bool]) -> None:
    """For a compiler that traces Python: it would guard what `checked` remembers, and compile again at each entry."""
    global _is_compiling
    _is_compiling = is_compiling


def checked(kind: type, *arguments: Any, **named: Any) -> Any:
    """kind(*arguments), checked once for arguments that come again and again."""
    if not _is_compiling():
        try:
            return remembered(kind, *arguments, **named)
        except ChangeableError as error:
            return error.args[0]
        except TypeError:  # of a list, which cannot be remembered, or of the check itself
            pass
    return kind(*arguments, **named)


class ChangeableError(Exception):
    """Carries what must not be remembered."""


@functools.lru_cache(maxsize=256, typed=True)  # typed: True is 1, but not a gamma
def remembered(kind: type, *arguments: Any, **named: Any) -> Any:
    found = kind(*arguments, **named)
    if any(hasattr(value, "__array__") for value in arguments):  # a tensor has a hash, and may change all the same
        raise ChangeableError(found)
    return found
