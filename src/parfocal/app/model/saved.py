"""The folder of a model: the booster in its library's own format, and everything else in model.json.

No pickle: opening a model must not run code.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import parfocal
from parfocal import boosters
from parfocal.app.data.columns import Column
from parfocal.app.errors import BadInput, brief, one_line
from parfocal.app.files import full_disk_as_bad_input, staged
from parfocal.app.model import evidence
from parfocal.app.model.boosters import MOST_BYTES, check_booster
from parfocal.app.model.checks import check_calibration, check_features, check_numbers, check_texts
from parfocal.app.model.decisions import Decision, Evidence
from parfocal.app.model.evidence import JUDGED
from parfocal.app.model.feature_names import features_of
from parfocal.app.model.linear import ENGINES, check_installed
from parfocal.app.model.model import DESCRIPTION, PAGE, PICTURE, Model
from parfocal.app.model.rules import default_rule
from parfocal.boosters import Engine

# 1: LightGBM and two classes alone, named `positive` and `negative`; 2: without calibration; 3: decides by F1 alone.
FORMAT = 4

# No fit writes more than this.
MOST_DESCRIBED = 1 << 28  # bytes of model.json: 10,000 categories of each of 1,000 columns


def is_model_or_empty(path: Path) -> bool:
    """Whether --force may replace what is there: nothing but the files that `write_model` writes."""
    if not path.is_dir():
        return False
    ours = {DESCRIPTION, JUDGED, PAGE, PICTURE, *(engine.file for engine in ENGINES.values())}
    ours |= {unfinished(DESCRIPTION), unfinished(PAGE)}  # of a `decide` that was killed
    try:
        with os.scandir(path) as entries:
            found = {entry.name if entry.is_file(follow_symlinks=False) else "" for entry in entries}
        if not found:
            return True
        return found <= ours and {"format", "booster_sha256"} <= set(read_description(path))
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def write_model(model: Model, files: Mapping[str, bytes], folder: Path, force: bool) -> None:
    """Write the folder, with more files, all or nothing."""
    engine = ENGINES[model.engine]
    named = {key: value for key, value in vars(model).items() if key not in ("booster", "columns", "record")}
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
            "judged_sha256": hashlib.sha256(files[JUDGED]).hexdigest() if JUDGED in files else None,
            "fit": model.record,
            "versions": versions(),
        }
        (new / DESCRIPTION).write_bytes(described(description))
        for name, data in files.items():
            (new / name).write_bytes(data)


def rewrite_decision(folder: Path, decision: Decision, told: Mapping[str, Any], page: str | None) -> None:
    """Another decision in a model's folder: both files are written beside the old ones before either takes its place.

    `told` is the fit's record, and `page` report.html, with the new decision.
    """
    description = read_description(folder)
    description |= {
        "format": FORMAT,
        "rule": decision.rule.text,
        "threshold": decision.threshold,
        "costs": None if decision.costs is None else decision.costs.tolist(),
        "fit": told,
    }
    files = {} if page is None else {PAGE: page.encode()}
    files[DESCRIPTION] = described(description)
    with full_disk_as_bad_input(folder):
        for name, data in files.items():
            (folder / unfinished(name)).write_bytes(data)
        for name in files:
            os.replace(folder / unfinished(name), folder / name)


def unfinished(name: str) -> str:
    return f".{name}.unfinished"


def described(description: Mapping[str, Any]) -> bytes:
    return (json.dumps(description, indent=2, allow_nan=False) + "\n").encode()


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
    if folder.is_file() and (folder.parent / DESCRIPTION).is_file():
        raise BadInput(f"{folder} is a file of a model; give the folder, {folder.parent}")
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
        if written <= 3:
            usual = default_rule(len(description["classes"])).text
            description |= {"rule": usual, "costs": None, "rows_per_day": None}
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
        if not isinstance(description["fit"], dict):
            raise ValueError("fit is not a JSON object")
        names = [name for name in Model.__dataclass_fields__ if name not in ("booster", "columns", "classes", "record")]
        model = Model(
            booster=None,  # until all else is checked
            columns=tuple(columns),
            classes=tuple(description["classes"]) if isinstance(description["classes"], list) else (),
            record=description["fit"],
            **{name: description[name] for name in names},
        )
        check_texts(model.target, model.classes, model.columns)
        check_numbers(model)
        check_calibration(model)
        model = replace(model, booster=load(engine, folder, booster, model))
        check_features(model, engine)
        return model
    except (BadInput, PermissionError):
        raise
    except KeyError as error:
        raise damaged(folder, f"{DESCRIPTION} has no {brief(error.args[0])}") from error
    except (OSError, ValueError, TypeError, RecursionError, AttributeError, OverflowError) as error:
        raise damaged(folder, f"{DESCRIPTION}: {one_line(error)}") from error


def read_evidence(folder: Path, model: Model, why: str) -> Evidence:
    """The rows that decisions are made on.  `why` they are needed begins the error where there are none."""
    try:
        expected = read_description(folder).get("judged_sha256")
        if expected is None:
            raise BadInput(f"{why}: {folder} holds no {JUDGED}, which models have since format 4; fit again")
        data = read_bytes(folder / JUDGED, evidence.MOST_BYTES)
        if hashlib.sha256(data).hexdigest() != expected:
            raise damaged(folder, f"{JUDGED} is not the one that {DESCRIPTION} describes")
        return evidence.load(data, len(model.classes), model.prior, model.rows_per_day)
    except (BadInput, PermissionError):
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(folder, one_line(error)) from error


def damaged(folder: Path, what: str) -> BadInput:
    return BadInput(f"{folder} is damaged or was changed ({what}); fit again")


def read_description(folder: Path) -> dict[str, Any]:
    description = json.loads(read_bytes(folder / DESCRIPTION, MOST_DESCRIBED))
    if not isinstance(description, dict):
        raise ValueError("it is not a JSON object")
    return description


def read_bytes(path: Path, most: int) -> bytes:
    """The bytes of a file, if a fit could have written as many."""
    if not path.is_file():  # reading a pipe would wait
        raise ValueError(f"{path.name} is missing, or is not a file")
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{path.name} has more than {most:,} bytes")
    return data


def load(engine: Engine, folder: Path, data: bytes, model: Model) -> Any:
    """The booster, unless its file is damaged or its library is missing."""
    check_installed(engine.name, f"{folder} is a model of {engine.name}, which is not installed", train=False)
    features = sum(len(column.parts) for column in model.columns)
    try:
        return engine.load(check_booster(engine.name, data, features, len(np.atleast_1d(model.init_score))))
    except Exception as error:
        raise damaged(folder, f"{engine.file}: {one_line(error)}") from error
