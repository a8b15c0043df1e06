"""What tests of saved models and of their folders share."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parfocal.app import files, main
from parfocal.app.model.linear import ENGINES
from parfocal.app.model.saved import is_model_or_empty

SAVED = Path(__file__).parent / "saved"
FOLDERS = {"lightgbm": "fit-lightgbm", "classes": "fit-classes", "xgboost": "fit-xgboost", "catboost": "fit-catboost"}
NEW = {"model.json": '{"format": 3, "booster_sha256": "new"}'}


def copied(name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAVED / FOLDERS[name], tmp_path / "model"))


def booster(folder: Path) -> Path:
    return next(folder / engine.file for engine in ENGINES.values() if (folder / engine.file).exists())


def edit(folder: Path, **changes: Any) -> None:
    facts = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**facts, **changes}))


def put(folder: Path, data: bytes) -> None:
    """With a hash that matches, as malice would."""
    booster(folder).write_bytes(data)
    edit(folder, booster_sha256=hashlib.sha256(data).hexdigest())


def refusal(folder: Path, capfd: pytest.CaptureFixture[str]) -> str:
    began = time.process_time()
    out = folder.parent / "scores.csv"
    assert main(["predict", str(folder), str(SAVED / "table.csv"), "--out", str(out)]) == 2
    assert time.process_time() - began < 5
    said = capfd.readouterr().err
    assert said.count("\n") == 1, said
    assert len(said) < 1000
    assert not out.exists()
    assert said.startswith(f"parfocal: {folder} is damaged or was changed (")
    assert said.endswith("; fit again\n")
    return said


def score(model: Path, out: Path, *more: str) -> int:
    return main(["predict", str(model), str(SAVED / "table.csv"), "--out", str(out), *more])


def write_folder(path: Path, force: bool = False, meanwhile: Callable[[], Any] = lambda: None) -> None:
    """As `write_model` does."""
    with files.staged(path, force, is_model_or_empty) as new:
        new.mkdir()
        (new / "model.json").write_text('{"format": 3, "booster_sha256": "new"}')
        meanwhile()


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def make_folder(path: Path) -> None:
    path.mkdir()
    (path / "mine").write_text("precious")
