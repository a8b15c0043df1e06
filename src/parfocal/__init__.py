"""Focal losses: one definition, exact numbers and gradients, and recovered probabilities."""

from typing import TYPE_CHECKING, Any

from parfocal import config, metrics
from parfocal.backends.kernel import kernel_info, set_num_threads
from parfocal.calibrator import Calibrator
from parfocal.core.parameters import FLSD53, GammaSchedule
from parfocal.functional import (
    binary_focal_crossentropy,
    categorical_focal_crossentropy,
    sparse_categorical_focal_crossentropy,
)
from parfocal.loading import load_model
from parfocal.losses import (
    BinaryFocalCrossentropy,
    CategoricalFocalCrossentropy,
    Loss,
    SparseCategoricalFocalCrossentropy,
)
from parfocal.weights import class_weights

if TYPE_CHECKING:
    from parfocal import thresholds

__version__ = "0.1.0"

__all__ = [
    "FLSD53",
    "BinaryFocalCrossentropy",
    "Calibrator",
    "CategoricalFocalCrossentropy",
    "GammaSchedule",
    "Loss",
    "SparseCategoricalFocalCrossentropy",
    "binary_focal_crossentropy",
    "categorical_focal_crossentropy",
    "class_weights",
    "config",
    "kernel_info",
    "load_model",
    "metrics",
    "set_num_threads",
    "sparse_categorical_focal_crossentropy",
    "thresholds",
]


def __getattr__(name: str) -> Any:
    """`thresholds`, when it is asked for: it would add a fiftieth to the time of `import parfocal`."""
    if name != "thresholds":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return importlib.import_module("parfocal.thresholds")
