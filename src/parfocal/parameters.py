"""What a focal loss is: its parameters, checked once, and read by every backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from parfocal import checks

SOFT_LABEL_RULES = ("linear", "expected")


@dataclass(frozen=True)
class Binary:
    """The parameters of `binary_focal_crossentropy`."""

    apply_class_balancing: bool = False
    alpha: Any = 0.25
    gamma: Any = 2.0
    from_logits: bool = False
    label_smoothing: float = 0.0
    axis: int = -1
    soft_labels: str = "linear"

    def __post_init__(self) -> None:
        set_checked(self, "alpha", checks.binary_alpha(self.alpha))
        set_checked(self, "gamma", checks.gamma(self.gamma, classes=2))
        set_checked(self, "label_smoothing", checks.label_smoothing(self.label_smoothing))
        set_checked(self, "axis", checks.whole_number("axis", self.axis))
        set_checked(self, "apply_class_balancing", checks.flag("apply_class_balancing", self.apply_class_balancing))
        set_checked(self, "from_logits", checks.flag("from_logits", self.from_logits))
        checks.one_of("soft_labels", self.soft_labels, SOFT_LABEL_RULES)
        if self.label_smoothing:
            checks.gamma_pair_with_soft_labels(self.soft_labels, self.gamma)

    @property
    def weights(self) -> tuple[float, float]:
        """(w_0, w_1), the weights of the labels 0 and 1."""
        return (1 - self.alpha, self.alpha) if self.apply_class_balancing else (1.0, 1.0)

    @property
    def gammas(self) -> tuple[float, float]:
        """(gamma of the negatives, gamma of the positives)."""
        return self.gamma if isinstance(self.gamma, tuple) else (self.gamma, self.gamma)


@dataclass(frozen=True)
class Categorical:
    """The parameters of `categorical_focal_crossentropy`."""

    alpha: Any = 0.25
    gamma: Any = 2.0
    from_logits: bool = False
    label_smoothing: float = 0.0
    axis: int = -1

    def __post_init__(self) -> None:
        set_checked(self, "alpha", checks.categorical_alpha(self.alpha))
        set_checked(self, "from_logits", checks.flag("from_logits", self.from_logits))
        set_checked(self, "gamma", checks.gamma(self.gamma))
        set_checked(self, "label_smoothing", checks.label_smoothing(self.label_smoothing))
        set_checked(self, "axis", checks.whole_number("axis", self.axis))


@dataclass(frozen=True)
class SparseCategorical(Categorical):
    """The parameters of `sparse_categorical_focal_crossentropy`."""

    ignore_class: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ignore_class is not None:
            set_checked(self, "ignore_class", checks.whole_number("ignore_class", self.ignore_class))


def set_checked(parameters: Binary | Categorical, name: str, value: Any) -> None:
    """Put the checked value in place; a frozen dataclass allows it this way only."""
    object.__setattr__(parameters, name, value)
