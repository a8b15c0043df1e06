"""The folder that a fit leaves: the booster in its library's own format, and everything else in model.json.

No pickle: opening a model must not run code.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl
from polars.exceptions import PanicException

import parfocal
from parfocal import boosters
from parfocal.app.boosters import MOST_BYTES, check_booster
from parfocal.app.columns import MOST_CATEGORIES, Column, Kind, convert, encode
from parfocal.app.errors import BadInput, brief, counted, one_line
from parfocal.app.files import staged
from parfocal.app.linear import ENGINES, check_installed
from parfocal.app.names import features_of
from parfocal.app.numerals import DECIMALS, GROUPS
from parfocal.app.sample import MOST_CLASSES
from parfocal.boosters import BoostingLoss, Engine, focal_loss
from parfocal.calibrator import Calibrator

# 1: LightGBM and two classes alone, named `positive` and `negative`; 2: without calibration.
FORMAT = 3
DESCRIPTION, PICTURE = "model.json", "report.png"

# No fit writes more than this, so more was not written by a fit.
MOST_DESCRIBED = 1 << 28  # bytes of model.json: 10,000 categories of each of 1,000 columns
MOST_COLUMNS = 100_000
LONGEST_NAME = 10_000  # characters; the terminal takes seconds to break lines of a million
LONGEST_CATEGORY = 1_000_000
MOST_MARKS, LONGEST_UNIT = 1000, 100


@dataclass(frozen=True)
class Model:
    """What prediction needs, and in `fit` what the user may want to know about how it came to be.

    Two classes are (negative, positive), with numbers for alpha, init_score and prior; more have a list of each.
    """

    booster: Any
    engine: str
    target: str
    classes: tuple[str, ...]
    columns: tuple[Column, ...]
    gamma: float
    alpha: Any  # None: no class weights
    init_score: Any
    prior: Any
    calibration: dict[str, Any] | None  # temperature (None: infinite) and bias of the posterior's logits; None: neither
    threshold: float | None  # of the positive class; None: of more than two classes the most probable is taken
    rounds: int
    fit: dict[str, Any]

    @property
    def loss(self) -> BoostingLoss:
        return focal_loss(len(self.classes), self.gamma, self.alpha, from_logits=True)

    @property
    def calibrator(self) -> Calibrator | None:
        if self.calibration is None:
            return None
        temperature = self.calibration["temperature"]
        fitted = {
            "inverse_temperature": 0.0 if temperature is None else 1 / temperature,
            "bias": self.calibration["bias"],
        }
        unfitted = Calibrator(focal_loss(len(self.classes), 0.0, None, from_logits=True)).get_config()
        return Calibrator.from_config({**unfitted, "fitted": fitted})

    def probabilities(self, matrix: np.ndarray) -> np.ndarray:
        """The calibrated probability of the positive class (N,), or of every class (N, classes)."""
        margins = ENGINES[self.engine].margins(self.booster, self.init_score, matrix)
        calibrator = self.calibrator
        if calibrator is None:
            return np.asarray(self.loss.posterior(margins))
        return np.asarray(calibrator.posterior(np.asarray(self.loss.posterior_logit(margins))))


def calibration_of(calibrator: Calibrator) -> dict[str, Any]:
    """For model.json, which knows no infinity."""
    temperature = calibrator.temperature_
    return {
        "temperature": temperature if math.isfinite(temperature) else None,
        "bias": np.asarray(calibrator.bias_).tolist(),
    }


def is_model_or_empty(path: Path) -> bool:
    """Whether --force may replace what is there: nothing but the files that `write_model` writes."""
    if not path.is_dir():
        return False
    ours = {DESCRIPTION, PICTURE, *(engine.file for engine in ENGINES.values())}
    try:
        with os.scandir(path) as entries:
            found = {entry.name if entry.is_file(follow_symlinks=False) else "" for entry in entries}
        if not found:
            return True
        return found <= ours and {"format", "booster_sha256"} <= set(read_description(path))
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def write_model(model: Model, picture: bytes, folder: Path, force: bool) -> None:
    """Write the folder, all or nothing."""
    engine = ENGINES[model.engine]
    named = {key: value for key, value in vars(model).items() if key not in ("booster", "columns", "fit")}
    booster = engine.dump(model.booster)
    with staged(folder, force, is_model_or_empty) as new:
        new.mkdir()
        (new / engine.file).write_bytes(booster)
        description = {
            "format": FORMAT,
            **named,
            "columns": [asdict(column) for column in model.columns],
            "features": [asdict(feature) for feature in features_of(model.columns)],  # for the booster's own tools
            "booster_sha256": hashlib.sha256(booster).hexdigest(),
            "fit": model.fit,
            "versions": versions(),
        }
        (new / DESCRIPTION).write_text(json.dumps(description, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        (new / PICTURE).write_bytes(picture)


def versions() -> dict[str, str]:
    found = {"parfocal": parfocal.__version__, "python": platform.python_version()}
    for package in ("numpy", "polars", "scikit-learn", *boosters.ENGINES):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def read_model(folder: Path) -> Model:
    """Read and check a folder that `parfocal fit` wrote."""
    if not (folder / DESCRIPTION).is_file():
        raise BadInput(
            f"{folder} is not a parfocal model: it has no {DESCRIPTION}; give the --out folder of parfocal fit"
        )
    try:
        description = read_description(folder)
        written = description["format"]
        if isinstance(written, bool) or not isinstance(written, int) or not 1 <= written <= FORMAT:
            raise BadInput(
                f"{folder} has the model format {brief(written)}, this parfocal reads 1 to {FORMAT}; if it is newer, "
                'run: python -m pip install --upgrade "parfocal[app]"'
            )
        if written == 1:
            description |= {"engine": "lightgbm", "classes": [description["negative"], description["positive"]]}
        if written <= 2:
            description |= {"calibration": None}
        if description["engine"] not in list(ENGINES):
            raise ValueError(f"engine is {brief(description['engine'])}; it must be one of {', '.join(ENGINES)}")
        engine = ENGINES[description["engine"]]
        booster = read_bytes(folder / engine.file, MOST_BYTES)
        if hashlib.sha256(booster).hexdigest() != description["booster_sha256"]:
            raise damaged(folder, f"{engine.file} is not the one that {DESCRIPTION} describes")
        columns = [
            Column(**{**column, **{name: tuple(column.get(name, ())) for name in ("categories", "missing")}})
            for column in description["columns"]
        ]
        names = [name for name in Model.__dataclass_fields__ if name not in ("booster", "columns", "classes")]
        model = Model(
            booster=None,  # until all else is checked
            columns=tuple(columns),
            classes=tuple(description["classes"]) if isinstance(description["classes"], list) else (),
            **{name: description[name] for name in names},
        )
        check_texts(model.target, model.classes, model.columns)
        check_numbers(model)
        check_calibration(model)
        model = replace(model, booster=load(engine, folder, booster, model))
        check_features(model, engine)
        return model
    except BadInput:
        raise
    except KeyError as error:
        raise damaged(folder, f"{DESCRIPTION} has no {brief(error.args[0])}") from error
    except (OSError, ValueError, TypeError, RecursionError, AttributeError, OverflowError) as error:
        raise damaged(folder, f"{DESCRIPTION}: {one_line(error)}") from error


def damaged(folder: Path, what: str) -> BadInput:
    return BadInput(f"{folder} is damaged or was changed ({what}); fit again")


def read_description(folder: Path) -> dict[str, Any]:
    description = json.loads(read_bytes(folder / DESCRIPTION, MOST_DESCRIBED))
    if not isinstance(description, dict):
        raise ValueError("it is no JSON object")
    return description


def read_bytes(path: Path, most: int) -> bytes:
    """A file of ours, no longer than any of ours."""
    if not path.is_file():  # a pipe would be waited for
        raise ValueError(f"{path.name} is missing, or is no file")
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{path.name} has more than {most:,} bytes")
    return data


def load(engine: Engine, folder: Path, data: bytes, model: Model) -> Any:
    """The booster; what speaks against it is told as damage."""
    check_installed(engine.name, f"{folder} is a model of {engine.name}, which is not installed")
    features = sum(len(column.parts) for column in model.columns)
    try:
        return engine.load(check_booster(engine.name, data, features, len(np.atleast_1d(model.init_score))))
    except Exception as error:
        raise damaged(folder, f"{engine.file}: {one_line(error)}") from error


def check_texts(target: str, classes: Sequence[str], columns: Sequence[Column]) -> None:
    """Raise a TypeError or ValueError for names and columns with which `predict` could not work."""
    if not 2 <= len(classes) <= MOST_CLASSES or len(classes) != len(set(classes)):
        raise ValueError(f"there must be two different classes at least, and {MOST_CLASSES} at most")
    if not 1 <= len(columns) <= MOST_COLUMNS:
        raise ValueError(f"there must be 1 to {MOST_COLUMNS:,} columns")
    names = [column.name for column in columns]
    if not all(isinstance(name, str) for name in (target, *classes, *names)):
        raise ValueError("the names of the target, its classes and the columns must be text")
    if len(set(names)) < len(names):
        raise ValueError("column names must differ")
    longest = max((target, *classes, *names), key=len)
    if len(longest) > LONGEST_NAME:
        raise ValueError(f"{brief(longest)} has {len(longest):,} characters; a name has {LONGEST_NAME:,} at most")
    for column in columns:
        check_column(column)


def check_column(column: Column) -> None:
    name = f"column {brief(column.name)}"
    if column.kind not in get_args(Kind):
        raise ValueError(f"{name} is a {brief(column.kind)}")
    if len(column.categories) > MOST_CATEGORIES or not all(
        isinstance(category, str) and len(category) <= LONGEST_CATEGORY for category in column.categories
    ):
        most = f"{MOST_CATEGORIES:,} texts of {LONGEST_CATEGORY:,} characters"
        raise ValueError(f"the categories of {name} must be {most} at most")
    if len(set(column.categories)) < len(column.categories):
        raise ValueError(f"the categories of {name} must differ")
    for text in (column.date_format, column.zone):
        if text is not None and (not isinstance(text, str) or len(text) > LONGEST_NAME):
            raise ValueError(f"{name} reads dates as {brief(text)}")
    if not isinstance(column.days, bool):
        raise ValueError(f"{name} has the days {brief(column.days)}")
    marks = column.missing
    if len(marks) > MOST_MARKS or not all(isinstance(mark, str) and len(mark) <= LONGEST_NAME for mark in marks):
        raise ValueError(f"the marks of {name} for missing values must be {MOST_MARKS:,} texts at most")
    if column.decimal not in DECIMALS or column.thousands not in GROUPS or column.decimal == column.thousands:
        raise ValueError(f"{name} has numbers with {brief(column.decimal)} and {brief(column.thousands)}")
    if not isinstance(column.unit, str) or len(column.unit) > LONGEST_UNIT:
        raise ValueError(f"{name} has the unit {brief(column.unit)}")
    if column.kind in ("date", "datetime"):
        try:
            for given in (pl.Series(["1990-01-31"]), pl.Series([0]).cast(pl.Datetime("us", "UTC"))):
                encode(convert(given, column).values, column)
        except (Exception, PanicException) as error:
            raise ValueError(f"{name} has no dates as {brief(column.date_format)} in {brief(column.zone)}") from error


def check_numbers(model: Model) -> None:
    """The same for numbers: single ones for two classes, else one for each class."""
    classes = len(model.classes)
    check_number("gamma", model.gamma)
    for name in ("init_score", "prior", *(["alpha"] if model.alpha is not None else [])):
        check_of_classes(name, getattr(model, name), classes)
    prior = np.array(model.prior)
    if not (prior > 0).all() or not (prior < 1).all() or (prior.ndim and abs(prior.sum() - 1) > 1e-6):
        raise ValueError(f"prior {brief(model.prior)} holds no shares of classes")
    if (model.threshold is None) != (classes > 2):
        raise ValueError("two classes need a threshold, and more have none")
    if model.threshold is not None:
        check_number("threshold", model.threshold)
        if not 0 <= model.threshold <= 1:
            raise ValueError(f"threshold {model.threshold!r} is outside [0, 1]")
    if not np.all(np.abs(model.init_score) < 1e6) or not np.all(model.loss.posterior(np.array([model.init_score])) > 0):
        raise ValueError(f"init_score {brief(model.init_score)} has no posterior")


def check_calibration(model: Model) -> None:
    if model.calibration is None:
        return
    temperature, bias = model.calibration["temperature"], model.calibration["bias"]
    if temperature is not None:
        check_number("temperature", temperature)
        if not temperature > 0:
            raise ValueError(f"temperature {temperature!r} is not above 0")
    check_of_classes("bias", bias, len(model.classes))


def check_of_classes(name: str, values: Any, classes: int) -> None:
    """One number for two classes, else a list of one for each."""
    numbers = values if isinstance(values, list) else [values]
    if isinstance(values, list) != (classes > 2) or len(numbers) != (classes if classes > 2 else 1):
        raise ValueError(f"{name} must be {'a number' if classes == 2 else counted(classes, 'number')}")
    for value in numbers:
        check_number(name, value)


def check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {brief(value)}, not a number")


def check_features(model: Model, engine: Engine) -> None:
    features = sum(len(column.parts) for column in model.columns)
    if engine.features(model.booster) != features:
        has = counted(engine.features(model.booster), "feature")
        raise ValueError(f"{engine.file} has {has}, {DESCRIPTION} {features}")
    row = np.full((1, features), np.nan)
    scores = engine.scores(model.booster, row).shape[1:]
    if scores != np.shape(model.init_score):
        classes = counted(len(model.classes), "class")
        raise ValueError(f"{engine.file} has scores of the shape {scores}, {DESCRIPTION} {classes}")
    if not np.isfinite(model.probabilities(row)).all():
        raise ValueError("a row without any value has no finite probability")
