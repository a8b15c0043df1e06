"""The folder that a fit leaves: the booster in its library's own format, and everything else in model.json.

No pickle: opening a model must not run code.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args

import numpy as np

import parfocal
from parfocal import engines as boosters
from parfocal.app.columns import Column, Kind
from parfocal.app.errors import BadInput, counted, one_line
from parfocal.app.files import staged
from parfocal.app.linear import ENGINES, check_installed
from parfocal.app.names import features_of
from parfocal.boosting import Loss
from parfocal.calibrator import Calibrator
from parfocal.engines import Engine
from parfocal.objectives import focal_loss

# 1: LightGBM and two classes alone, named `positive` and `negative`; 2: without calibration.
FORMAT = 3
DESCRIPTION, PICTURE = "model.json", "report.png"


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
    def loss(self) -> Loss:
        classes = None if len(self.classes) == 2 else len(self.classes)
        return focal_loss(classes, self.gamma, self.alpha, from_logits=True)

    @property
    def calibrator(self) -> Calibrator | None:
        if self.calibration is None:
            return None
        temperature = self.calibration["temperature"]
        fitted = {
            "inverse_temperature": 0.0 if temperature is None else 1 / temperature,
            "bias": self.calibration["bias"],
        }
        classes = None if len(self.classes) == 2 else len(self.classes)
        unfitted = Calibrator(focal_loss(classes, 0.0, None, from_logits=True)).get_config()
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
    found = {entry.name for entry in path.iterdir()}
    if not found:
        return True
    try:
        description = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
        ours = {DESCRIPTION, PICTURE, *(engine.file for engine in ENGINES.values())}
        return found <= ours and {"format", "booster_sha256"} <= set(description)
    except (OSError, ValueError, TypeError):
        return False


def write_model(model: Model, picture: bytes, folder: Path) -> None:
    """Write the folder, all or nothing."""
    engine = ENGINES[model.engine]
    named = {key: value for key, value in vars(model).items() if key not in ("booster", "columns", "fit")}
    with staged(folder) as new:
        new.mkdir()
        engine.save(model.booster, new / engine.file)
        description = {
            "format": FORMAT,
            **named,
            "columns": [asdict(column) for column in model.columns],
            "features": [asdict(feature) for feature in features_of(model.columns)],  # for the booster's own tools
            "booster_sha256": hashlib.sha256((new / engine.file).read_bytes()).hexdigest(),
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
        raise BadInput(f"{folder} is no parfocal model: it has no {DESCRIPTION}; give the --out folder of parfocal fit")
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        written = description["format"]
        if isinstance(written, bool) or not isinstance(written, int) or not 1 <= written <= FORMAT:
            raise BadInput(
                f"{folder} has the model format {written!r}, this parfocal reads 1 to {FORMAT}; if it is newer, "
                'run: python -m pip install --upgrade "parfocal[app]"'
            )
        if written == 1:
            description |= {"engine": "lightgbm", "classes": [description["negative"], description["positive"]]}
        if written <= 2:
            description |= {"calibration": None}
        if description["engine"] not in list(ENGINES):
            raise ValueError(f"engine is {description['engine']!r}; it must be one of {', '.join(ENGINES)}")
        engine = ENGINES[description["engine"]]
        booster = (folder / engine.file).read_bytes()
        if hashlib.sha256(booster).hexdigest() != description["booster_sha256"]:
            raise BadInput(f"{folder} is damaged: {engine.file} is not the one that {DESCRIPTION} describes; fit again")
        columns = [Column(**{**column, "categories": tuple(column["categories"])}) for column in description["columns"]]
        names = [name for name in Model.__dataclass_fields__ if name not in ("booster", "columns", "classes")]
        model = Model(
            booster=load(engine, folder),
            columns=tuple(columns),
            classes=tuple(description["classes"]) if isinstance(description["classes"], list) else (),
            **{name: description[name] for name in names},
        )
        check_texts(model)
        check_numbers(model)
        check_calibration(model)
        check_features(model, engine)
        return model
    except BadInput:
        raise
    except KeyError as error:
        raise BadInput(f"{folder} is a damaged parfocal model ({DESCRIPTION} has no {error}); fit again") from error
    except (OSError, ValueError, TypeError, RecursionError, AttributeError) as error:
        raise BadInput(f"{folder} is a damaged parfocal model ({one_line(error)}); fit again") from error


def load(engine: Engine, folder: Path) -> Any:
    """The booster; what its library says against it becomes a ValueError."""
    check_installed(engine.name, f"{folder} is a model of {engine.name}, which is not installed")
    try:
        return engine.load(folder / engine.file)
    except Exception as error:
        raise ValueError(one_line(error)) from error


def check_texts(model: Model) -> None:
    """Raise a TypeError or ValueError for names and columns with which `predict` could not work."""
    if len(model.classes) != len(set(model.classes)) or len(model.classes) < 2:
        raise ValueError("there must be two different classes at least")
    if not all(isinstance(name, str) for name in (model.target, *model.classes)):
        raise ValueError("the target and its classes must be text")
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


def check_numbers(model: Model) -> None:
    """The same for numbers: single ones for two classes, else one for each class."""
    classes = None if len(model.classes) == 2 else len(model.classes)
    check_number("gamma", model.gamma)
    for name in ("init_score", "prior", *(["alpha"] if model.alpha is not None else [])):
        values = getattr(model, name)
        if (len(values) if isinstance(values, list) else None) != classes:
            raise ValueError(f"{name} must be {'a number' if classes is None else counted(classes, 'number')}")
        for value in values if isinstance(values, list) else [values]:
            check_number(name, value)
    prior = np.array(model.prior)
    if not (prior > 0).all() or not (prior < 1).all() or (classes is not None and abs(prior.sum() - 1) > 1e-6):
        raise ValueError(f"prior {model.prior!r} holds no shares of classes")
    if (model.threshold is None) != (classes is not None):
        raise ValueError("two classes need a threshold, and more have none")
    if model.threshold is not None:
        check_number("threshold", model.threshold)
        if not 0 <= model.threshold <= 1:
            raise ValueError(f"threshold {model.threshold!r} is outside [0, 1]")
    if not np.all(np.abs(model.init_score) < 1e6) or not np.all(model.loss.posterior(np.array([model.init_score])) > 0):
        raise ValueError(f"init_score {model.init_score!r} has no posterior")


def check_calibration(model: Model) -> None:
    if model.calibration is None:
        return
    temperature, bias = model.calibration["temperature"], model.calibration["bias"]
    if temperature is not None:
        check_number("temperature", temperature)
        if not temperature > 0:
            raise ValueError(f"temperature {temperature!r} is not above 0")
    classes = None if len(model.classes) == 2 else len(model.classes)
    if (len(bias) if isinstance(bias, list) else None) != classes:
        raise ValueError(f"bias must be {'a number' if classes is None else counted(classes, 'number')}")
    for value in bias if isinstance(bias, list) else [bias]:
        check_number("bias", value)


def check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}, not a number")


def check_features(model: Model, engine: Engine) -> None:
    features = sum(len(column.parts) for column in model.columns)
    if engine.features(model.booster) != features:
        has = counted(engine.features(model.booster), "feature")
        raise ValueError(f"{engine.file} has {has}, {DESCRIPTION} {features}")
    scores = engine.raw_scores(model.booster, np.full((1, features), np.nan)).shape[1:]
    if scores != np.shape(model.init_score):
        classes = counted(len(model.classes), "class")
        raise ValueError(f"{engine.file} has scores of the shape {scores}, {DESCRIPTION} {classes}")
