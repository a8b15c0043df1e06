"""What `predict` and `load_model` import, and LightGBM's models without LightGBM's package.

Never a time: the modules that took it.
"""

from __future__ import annotations

import copy
import ctypes
import gc
import json
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import polars as pl
import pytest

import parfocal
from app_saved import SAVED, put
from parfocal.app.model import linear
from parfocal.app.model.saved import write_model
from parfocal.boosters import ENGINES, lightgbm_trees
from parfocal.boosters.lightgbm_trees import Trees
from tiers import tiers

SLOW = {"sklearn", "scipy", "pandas", "matplotlib", "optuna", "lightgbm", "xgboost", "catboost", "joblib"}
TABLE = SAVED / "table.csv"


def in_a_new_process(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def imported_by(code: str) -> set[str]:
    """The top-level modules that are there at the end."""
    said = in_a_new_process(f"import sys\n{code}\nprint('MODULES', *{{name.split('.')[0] for name in sys.modules}})")
    return set(said.rpartition("MODULES")[2].split())


def predicting(folder: Path, out: Path, *more: str) -> str:
    arguments = ["predict", str(folder), str(TABLE), "--out", str(out), *more]
    return f"from parfocal.app import main\nassert main({arguments!r}) == 0"


@pytest.fixture
def linear_folder(tmp_path: Path) -> Path:
    """A linear model of the saved table."""
    model = parfocal.load_model(SAVED / "fit-lightgbm")
    features = 3 + len(model.columns[3].parts)
    layout = linear.Layout([0.0] * features, [1.0] * features, [0], {2: len(model.columns[2].categories)})
    booster = linear.LinearModel(layout, np.linspace(-1, 1, layout.width)[None], np.zeros(1))
    write_model(replace(model, booster=booster, engine="linear"), {}, tmp_path / "linear", False)
    return tmp_path / "linear"


WHY = ("--why", "3", "--json")


@pytest.mark.parametrize(
    ("name", "more"),
    tiers(
        [("fit-lightgbm", WHY), ("fit-lightgbm", ()), ("fit-classes", WHY), ("fit-classes", ())],
        first=[("fit-lightgbm", WHY)],
    ),
)
def test_predict_imports_no_more_than_it_needs(tmp_path: Path, name: str, more: tuple[str, ...]) -> None:
    modules = imported_by(predicting(SAVED / name, tmp_path / "scores.csv", *more))
    assert not modules & SLOW
    assert {"numpy", "polars", "rich", "parfocal"} <= modules
    assert len(pl.read_csv(tmp_path / "scores.csv")) == 24


@pytest.mark.full
def test_nor_do_linear_models(linear_folder: Path, tmp_path: Path) -> None:
    assert not imported_by(predicting(linear_folder, tmp_path / "scores.csv", "--why", "2")) & SLOW
    assert pl.read_csv(tmp_path / "scores.csv").columns == ["probability", "decision", "why_1", "why_2"]


def test_load_model_imports_no_more_than_it_needs() -> None:
    code = f"import parfocal, polars; model = parfocal.load_model({str(SAVED / 'fit-lightgbm')!r})\n"
    code += f"model.predict_proba(polars.read_csv({str(TABLE)!r}))\nmodel.explain(polars.read_csv({str(TABLE)!r}))"
    modules = imported_by(code)
    assert not modules & (SLOW | {"typer", "rich"})


@pytest.mark.full
def test_that_test_can_fail() -> None:
    assert {"sklearn", "scipy", "lightgbm"} <= imported_by("import lightgbm")


@pytest.mark.full
def test_importing_lightgbm_afterwards_or_before_changes_nothing(tmp_path: Path) -> None:
    """It finds scikit-learn, trains, and its log goes where it always goes."""
    score = f"found.append(parfocal.load_model({str(SAVED / 'fit-lightgbm')!r}).predict_proba(table).tolist())\n"
    use = (
        "import lightgbm, numpy\n"
        "X, y = numpy.arange(400.0).reshape(200, 2), numpy.arange(200) % 3\n"
        "assert lightgbm.LGBMClassifier(n_estimators=2, verbose=-1).fit(X, y).predict(X).shape == (200,)\n"
        f"booster = lightgbm.Booster(model_file={str(SAVED / 'fit-lightgbm' / 'model.txt')!r})\n"
        "assert booster.num_trees() > 0\n"
    )
    begin = f"import json, parfocal, polars\nfound, table = [], polars.read_csv({str(TABLE)!r})\n"
    first, second = (
        in_a_new_process(begin + order + "print(json.dumps(found))")
        for order in (score + use + score, use + score + use)
    )
    assert "Warning" not in first + second
    afterwards, before = (json.loads(said.splitlines()[-1]) for said in (first, second))
    assert afterwards == [before[0]] * 2


# -- LightGBM's C library --------------------------------------------------------------------------


@pytest.fixture
def forgotten() -> Iterator[None]:
    """The library is looked for anew, in the test and after it."""
    lightgbm_trees.library.cache_clear()
    yield
    lightgbm_trees.library.cache_clear()


def saved_text(name: str = "fit-lightgbm") -> bytes:
    return (SAVED / name / "model.txt").read_bytes()


def random_rows(features: int) -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(500, features)) * 3
    rows[::5, 0], rows[::7] = np.nan, np.inf
    return rows


@pytest.mark.parametrize("name", ["fit-lightgbm", "fit-classes"])
def test_scores_are_those_of_the_package_bit_by_bit(name: str) -> None:
    engine = ENGINES["lightgbm"]
    trees, booster = engine.load(saved_text(name)), lgb.Booster(model_str=saved_text(name).decode())
    assert type(trees) is Trees
    assert (trees.features, engine.features(trees)) == (booster.num_feature(), booster.num_feature())
    rows = random_rows(trees.features)
    for some in (rows, rows[:1], np.asfortranarray(rows), rows[::3], rows.astype(np.float32)):
        expected = booster.predict(np.array(some, dtype=np.float64), raw_score=True)
        np.testing.assert_array_equal(engine.scores(trees, some), expected)
        np.testing.assert_array_equal(engine.scores(booster, np.array(some, dtype=np.float64)), expected)
    assert engine.scores(trees, rows[:0]).shape == (0, *expected.shape[1:])


def test_what_a_loaded_model_can_do_besides() -> None:
    engine = ENGINES["lightgbm"]
    trees, booster = engine.load(saved_text()), lgb.Booster(model_str=saved_text().decode())
    rows = random_rows(trees.features)
    np.testing.assert_array_equal(engine.importances(trees), booster.feature_importance("gain"))
    names = [f"f{number}" for number in range(trees.features)]
    for other in (
        engine.load(engine.dump(trees)),
        engine.named(trees, names),
        pickle.loads(pickle.dumps(trees)),
        copy.deepcopy(trees),
    ):
        np.testing.assert_array_equal(engine.scores(other, rows), engine.scores(trees, rows))
    assert engine.named(trees, names).feature_name() == names
    assert trees.dump_model() == booster.dump_model()  # as if it were LightGBM's
    np.testing.assert_array_equal(trees.predict(rows, raw_score=True), engine.scores(trees, rows))
    assert not hasattr(trees, "no_such_method")
    scores = engine.scores(trees, rows)
    for _ in range(20):  # each is freed once
        engine.load(saved_text())
    gc.collect()
    np.testing.assert_array_equal(engine.scores(trees, rows), scores)


def test_what_it_refuses(capfd: pytest.CaptureFixture[str]) -> None:
    trees = Trees(saved_text())
    for matrix in (np.zeros((3, trees.features - 1)), np.zeros((3, trees.features + 1)), np.zeros(trees.features)):
        with pytest.raises(ValueError, match=r"the matrix has the shape .*, and the model 6 features"):
            trees.scores(matrix)
    with pytest.raises(RuntimeError, match="specify the number of classes"):
        Trees(b"no model")
    assert capfd.readouterr().out == ""


def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **files: str | None) -> None:
    """A package `lightgbm` with the files of the real one, but for those that are given."""
    real = Path(lgb.__file__).parent
    package = tmp_path / "lightgbm"
    (package / "lib").mkdir(parents=True)
    for name in ("VERSION.txt", *(f"lib/{path.name}" for path in (real / "lib").iterdir())):
        (package / name).symlink_to(real / name)
    (package / "__init__.py").write_text("raise AssertionError('it was imported')")
    for name, text in files.items():
        path = next(package.rglob(f"{name}.*"))
        path.unlink()
        if text is not None:
            path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "lightgbm")


@pytest.mark.usefixtures("forgotten")
def test_the_package_is_found_and_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path, monkeypatch)
    file = lightgbm_trees.library_file()
    assert file is not None
    assert file.is_relative_to(tmp_path)
    assert lightgbm_trees.library() is not None
    assert Trees(saved_text()).features == 6
    assert "lightgbm" not in sys.modules


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize(
    "files",
    [{"VERSION": None}, {"VERSION": "5.0.0"}, {"lib_lightgbm": None}, {"lib_lightgbm": "no library"}],
    ids=["no version", "another version", "no library", "a broken library"],
)
def test_what_is_not_known_is_left_to_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str | None]
) -> None:
    installed(tmp_path, monkeypatch, **files)
    assert lightgbm_trees.library() is None
    monkeypatch.setitem(sys.modules, "lightgbm", lgb)
    assert isinstance(ENGINES["lightgbm"].load(saved_text()), lgb.Booster)
    model, table = parfocal.load_model(SAVED / "fit-lightgbm"), pl.read_csv(TABLE)
    scores, explained = model.predict_proba(table), model.explain(table)
    monkeypatch.undo()
    lightgbm_trees.library.cache_clear()
    model = parfocal.load_model(SAVED / "fit-lightgbm")
    assert isinstance(model.booster, Trees)
    np.testing.assert_array_equal(model.predict_proba(table), scores)
    np.testing.assert_array_equal(model.explain(table).contributions, explained.contributions)


@pytest.mark.usefixtures("forgotten")
def test_a_library_without_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(lightgbm_trees.FUNCTIONS, "LGBM_NoSuchFunction", (ctypes.c_int,))
    assert lightgbm_trees.library() is None


@pytest.mark.usefixtures("forgotten")
def test_without_lightgbm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)  # as if it were not installed
    with pytest.raises(ValueError, match=r"a model of lightgbm, which is not installed: .* pip install lightgbm"):
        parfocal.load_model(SAVED / "fit-lightgbm")


@pytest.mark.usefixtures("forgotten")
def test_another_module_of_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    other: Any = type(sys)("lightgbm")
    monkeypatch.setitem(sys.modules, "lightgbm", other)  # it has no __spec__
    assert lightgbm_trees.library() is None


def test_the_file_is_checked_before_the_library_sees_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(shutil.copytree(SAVED / "fit-lightgbm", tmp_path / "model"))
    put(folder, re.sub(rb"left_child=.", b"left_child=9", saved_text(), count=1))
    monkeypatch.setattr(Trees, "__init__", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(ValueError, match="tree 0 has a child out of range"):
        parfocal.load_model(folder)
