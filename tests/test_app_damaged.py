"""Model folders that are damaged: one line, and nothing is written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app_fits import described, few_rounds, predict
from app_saved import SAVED, booster, copied, edit, refusal
from parfocal.app.data.columns import MOST_CATEGORIES
from parfocal.app.model import saved

impatience = few_rounds(5, 25)


def delete_booster(folder: Path) -> None:
    (folder / "model.txt").unlink()


def cut_booster(folder: Path) -> None:
    (folder / "model.txt").write_bytes((folder / "model.txt").read_bytes()[:-500])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "model.json").unlink(), "is not a parfocal model"),
        (lambda folder: (folder / "model.json").write_text("{"), "damaged"),
        (lambda folder: (folder / "model.json").write_text("[]"), "damaged"),
        (lambda folder: (folder / "model.json").write_text('{"format": 1}'), "damaged"),
        (lambda folder: edit(folder, format=5), "has the model format 5"),
        (lambda folder: edit(folder, columns=[{"name": "x"}]), "damaged"),
        (lambda folder: edit(folder, gamma="two"), "damaged"),
        (lambda folder: edit(folder, gamma=True), "damaged"),
        (lambda folder: edit(folder, init_score=float("inf")), "damaged"),
        (lambda folder: edit(folder, format=-5), "has the model format -5"),
        (lambda folder: edit(folder, classes=["false", None]), "damaged"),
        (lambda folder: edit(folder, classes=["false"]), "damaged"),
        (lambda folder: edit(folder, classes=["a", "b", "c"]), "damaged"),
        (lambda folder: edit(folder, engine="sklearn"), "damaged"),
        (lambda folder: edit(folder, threshold=None), "damaged"),
        (lambda folder: edit(folder, alpha=[1.0, 2.0]), "damaged"),
        (lambda folder: edit(folder, columns=[{**c, "kind": "x"} for c in described(folder)["columns"]]), "damaged"),
        (lambda folder: edit(folder, columns=described(folder)["columns"][:1] * 2), "damaged"),
        (lambda folder: (folder / "model.json").write_text("[" * 100_000), "damaged"),
        (lambda folder: edit(folder, calibration={"temperature": 1.0}), "model.json has no 'bias'"),
        (lambda folder: edit(folder, calibration={"temperature": 0.0, "bias": 0.0}), "temperature 0.0 is not above 0"),
        (lambda folder: edit(folder, calibration={"temperature": -1.0, "bias": 0.0}), "temperature -1.0 is not above"),
        (
            lambda folder: edit(folder, calibration={"temperature": "1", "bias": 0.0}),
            "temperature is '1', not a number",
        ),
        (lambda folder: edit(folder, calibration={"temperature": 1.0, "bias": [0.0]}), "bias must be a number"),
        (lambda folder: edit(folder, calibration={"temperature": 1.0, "bias": None}), "bias is None, not a number"),
        (lambda folder: edit(folder, calibration={"temperature": 1.0, "bias": float("nan")}), "bias is nan, not a"),
        (lambda folder: edit(folder, calibration=[1.0, 0.0]), "damaged"),
        (delete_booster, "damaged"),
        (cut_booster, "damaged"),
    ],
)
def test_damaged_models(
    folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    says: str,
) -> None:
    damaged = tmp_path / "model"
    shutil.copytree(folder / "model", damaged)
    damage(damaged)
    assert predict(damaged, folder / "table.csv", tmp_path / "scores.csv") == 2
    said = capfd.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


# -- descriptions that a fit does not write --------------------------------------------------------


def columns(**changes: Any) -> dict[str, Any]:
    known = json.loads((SAVED / "fit-lightgbm" / "model.json").read_text())["columns"]
    return {"columns": [*known[:-1], {**known[-1], **changes}]}


DESCRIPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"target": "x" * 10_000_000}, "has 10,000,000 characters; a name has 10,000 at most"),
    ({"classes": ["a", "b" * 20_000]}, "has 20,000 characters"),
    ({"classes": [str(number) for number in range(1000)]}, "100 at most"),
    ({"gamma": "x" * 10_000_000}, "gamma is 'xxx"),
    ({"gamma": [[0] * 1000] * 1000}, "gamma is [[0"),
    ({"engine": "x" * 10_000_000}, "engine is 'xxx"),
    ({"prior": 7.0}, "prior 7.0 does not hold shares"),
    ({"columns": []}, "1 to 100,000 columns"),
    (
        {"columns": [{"name": f"c{number}", "kind": "number", "categories": []} for number in range(100_001)]},
        "1 to 100,000 columns",
    ),
    (columns(name="y" * 20_000), "has 20,000 characters"),
    (columns(kind="z" * 1_000_000), "column 'born' is a 'zzz"),
    (
        columns(kind="category", categories=[str(n) for n in range(MOST_CATEGORIES + 1)]),
        "the categories of column 'born'",
    ),
    (columns(kind="category", categories=["x" * 1_000_001]), "the categories of column 'born'"),
    (columns(date_format=7), "column 'born' reads dates as 7"),
    (columns(zone="Nowhere/City"), "column 'born' has no dates as"),
    (columns(days="yes"), "column 'born' has the days 'yes'"),
    (columns(other=1), "other"),
]


@pytest.mark.parametrize(("changes", "says"), DESCRIPTIONS)
def test_descriptions(tmp_path: Path, capfd: pytest.CaptureFixture[str], changes: dict[str, Any], says: str) -> None:
    folder = copied("lightgbm", tmp_path)
    edit(folder, **changes)
    assert says in refusal(folder, capfd)


def test_files_that_have_no_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied("lightgbm", tmp_path)
    monkeypatch.setattr(saved, "MOST_BYTES", 1000)
    assert "model.txt has more than 1,000 bytes" in refusal(folder, capfd)
    monkeypatch.setattr(saved, "MOST_DESCRIBED", 1000)
    assert "model.json has more than 1,000 bytes" in refusal(folder, capfd)


def test_a_pipe_is_not_waited_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = copied("lightgbm", tmp_path)
    booster(folder).unlink()
    os.mkfifo(folder / "model.txt")
    assert "model.txt is missing, or is not a file" in refusal(folder, capfd)
