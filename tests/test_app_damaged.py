"""Model folders that are damaged: one line, and nothing is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app_fits import described, few_rounds, predict

impatience = few_rounds(5, 25)


def edit(folder: Path, **changes: Any) -> None:
    facts = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**facts, **changes}))


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
        (lambda folder: edit(folder, format=4), "has the model format 4"),
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
