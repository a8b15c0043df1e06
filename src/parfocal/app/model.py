"""The folder that a fit leaves: the booster in LightGBM's text format, and everything else in model.json.

No pickle: opening a model must not run code.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import lightgbm as lgb
import numpy as np

import parfocal
from parfocal import BinaryFocalCrossentropy
from parfocal.app.columns import Column, Kind
from parfocal.app.errors import BadInput, one_line
from parfocal.app.files import staged

FORMAT = 1
BOOSTER, DESCRIPTION, PICTURE = "model.txt", "model.json", "report.png"


@dataclass(frozen=True)
class Model:
    """What prediction needs, and in `fit` what the user may want to know about how it came to be."""

    booster: lgb.Booster
    target: str
    positive: str
    negative: str
    columns: tuple[Column, ...]
    gamma: float
    alpha: float
    init_score: float
    prior: float
    threshold: float
    rounds: int
    fit: dict[str, Any]

    @property
    def loss(self) -> BinaryFocalCrossentropy:
        return focal_loss(self.gamma, self.alpha)

    def probabilities(self, matrix: np.ndarray) -> np.ndarray:
        """The recovered probability of the positive class, for each row."""
        return recovered(self.booster, self.loss, self.init_score, matrix)


def focal_loss(gamma: float, alpha: float) -> BinaryFocalCrossentropy:
    """Weight alpha for positives and 1 - alpha for negatives, on margins."""
    return BinaryFocalCrossentropy(
        apply_class_balancing=True, alpha=alpha, gamma=gamma, from_logits=True, dtype="float64"
    )


def raw_margins(booster: lgb.Booster, matrix: np.ndarray) -> np.ndarray:
    return np.asarray(booster.predict(matrix, raw_score=True), dtype=np.float64)


def recovered(booster: lgb.Booster, loss: BinaryFocalCrossentropy, init_score: float, matrix: np.ndarray) -> np.ndarray:
    """The probability of the positive class: the same for the model that is tested and the one that is read again."""
    return np.asarray(loss.posterior(raw_margins(booster, matrix) + init_score))


def is_model_or_empty(path: Path) -> bool:
    """Whether --force may replace what is there: nothing but the files that `write_model` writes."""
    if not path.is_dir():
        return False
    found = {entry.name for entry in path.iterdir()}
    if not found:
        return True
    try:
        description = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
        return found <= {BOOSTER, DESCRIPTION, PICTURE} and {"format", "booster_sha256"} <= set(description)
    except (OSError, ValueError, TypeError):
        return False


def write_model(model: Model, picture: bytes, folder: Path) -> None:
    """Write the folder, all or nothing."""
    booster = model.booster.model_to_string()
    named = {key: value for key, value in vars(model).items() if key not in ("booster", "columns", "fit")}
    description = {
        "format": FORMAT,
        **named,
        "columns": [asdict(column) for column in model.columns],
        "booster_sha256": hashlib.sha256(booster.encode()).hexdigest(),
        "fit": model.fit,
        "versions": versions(),
    }
    with staged(folder) as new:
        new.mkdir()
        (new / BOOSTER).write_text(booster, encoding="utf-8", newline="\n")
        (new / DESCRIPTION).write_text(json.dumps(description, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        (new / PICTURE).write_bytes(picture)


def versions() -> dict[str, str]:
    packages = ("numpy", "polars", "lightgbm", "scikit-learn")
    return {
        "parfocal": parfocal.__version__,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def read_model(folder: Path) -> Model:
    """Read and check a folder that `parfocal fit` wrote."""
    if not (folder / DESCRIPTION).is_file():
        raise BadInput(f"{folder} is no parfocal model: it has no {DESCRIPTION}; give the --out folder of parfocal fit")
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        written = description["format"]
        if isinstance(written, bool) or not isinstance(written, int) or not 1 <= written <= FORMAT:
            raise BadInput(
                f"{folder} has the model format {written!r}, this parfocal reads 1 to {FORMAT}; if it is newer, "
                'run: python -m pip install --upgrade "parfocal[app]"'
            )
        booster = (folder / BOOSTER).read_bytes()
        if hashlib.sha256(booster).hexdigest() != description["booster_sha256"]:
            raise BadInput(f"{folder} is damaged: {BOOSTER} is not the one that {DESCRIPTION} describes; fit again")
        names = [name for name in Model.__dataclass_fields__ if name not in ("booster", "columns")]
        model = Model(
            booster=lgb.Booster(model_str=booster.decode()),
            columns=tuple(
                Column(**{**column, "categories": tuple(column["categories"])}) for column in description["columns"]
            ),
            **{name: description[name] for name in names},
        )
        check_numbers(model)
        return model
    except (OSError, ValueError, KeyError, TypeError, RecursionError, lgb.basic.LightGBMError) as error:
        raise BadInput(f"{folder} is a damaged parfocal model ({one_line(error)}); fit again") from error


def check_numbers(model: Model) -> None:
    """Raise a TypeError or ValueError for values with which `predict` could not work."""
    for name in ("gamma", "alpha", "init_score", "prior", "threshold"):
        value = getattr(model, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name} is {value!r}, not a number")
    if not all(isinstance(name, str) for name in (model.target, model.positive, model.negative)):
        raise ValueError("target, positive and negative must be text")
    names = [column.name for column in model.columns]
    if len(set(names)) < len(names) or not all(isinstance(name, str) for name in names):
        raise ValueError("column names must be different texts")
    for column in model.columns:
        if column.kind not in get_args(Kind):
            raise ValueError(f"column {column.name!r} is a {column.kind!r}")
        if len(set(column.categories)) < len(column.categories) or not all(
            isinstance(category, str) for category in column.categories
        ):
            raise ValueError(f"the categories of column {column.name!r} must be different texts")
    if not model.loss.posterior(np.array([model.init_score])) > 0:
        raise ValueError(f"init_score {model.init_score!r} has no posterior")
    if not 0 <= model.threshold <= 1:
        raise ValueError(f"threshold {model.threshold!r} is outside [0, 1]")
    features = sum(len(column.parts) for column in model.columns)
    if model.booster.num_feature() != features:
        raise ValueError(f"{BOOSTER} has {model.booster.num_feature()} features, {DESCRIPTION} {features}")
