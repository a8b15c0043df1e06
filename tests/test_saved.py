"""What users have saved with an earlier parfocal loads, and scores as it did: the files of tests/saved.

Trees add up the same numbers on every machine.  exp and log are not the same to the last digit on every processor, so
what went through them may differ by 1e-12 (float64) or 1e-6 (float32).  Decisions, labels and configs are equal.
"""

from __future__ import annotations

import importlib.util
import json
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import keras
import numpy as np
import polars as pl
import pytest
import torch

import parfocal
import parfocal.keras
from parfocal.app import main

SAVED = Path(__file__).parent / "saved"
EXPECTED = json.loads((SAVED / "expected.json").read_text(encoding="utf-8"))
TABLE = pl.read_csv(SAVED / "table.csv")

FITS = [name for name in EXPECTED if name.startswith("fit-")]
ESTIMATORS = [path.stem for path in sorted(SAVED.glob("*.joblib"))]


def maker() -> Any:
    """saved/make.py: how its inputs and results are computed."""
    specification = importlib.util.spec_from_file_location("make_saved", SAVED / "make.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


MAKE = maker()


@contextmanager
def other_versions() -> Iterator[None]:
    """scikit-learn and XGBoost warn of pickles that another version of them made; we can only try."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # InconsistentVersionWarning is one
        yield


def same(found: Any, expected: Any, digits: float) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=digits, atol=digits / 100)


def test_no_file_is_left_out() -> None:
    """A file that no test reads would protect nothing."""
    names = {path.relative_to(SAVED).parts[0] for path in SAVED.rglob("*") if path.is_file()} - {"__pycache__"}
    ours = {"make.py", "table.csv", "expected.json", "model.keras", "torch-module.pt", "torch-state.pt"}
    assert names == ours | {"losses.pickle", "calibrators.pickle", *FITS, *(f"{name}.joblib" for name in ESTIMATORS)}
    assert len(FITS) == 4
    assert len(ESTIMATORS) == 6
    assert sum(path.stat().st_size for path in SAVED.rglob("*") if "__pycache__" not in path.parts) < 300_000


@pytest.mark.parametrize("name", FITS)
def test_folders_of_parfocal_fit(name: str, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    assert main(["predict", str(SAVED / name), str(SAVED / "table.csv"), "--out", str(out)]) == 0
    found = pl.read_csv(out).to_dict(as_series=False)
    assert list(found) == list(EXPECTED[name])
    for column, values in EXPECTED[name].items():
        if column == "decision":
            assert found[column] == values
        else:
            assert len(set(values)) >= 10
            same(found[column], values, 1e-12)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimators_in_joblib_files(name: str) -> None:
    with other_versions():
        model = joblib.load(SAVED / f"{name}.joblib")
    rows, expected = MAKE.matrix_of(TABLE), EXPECTED[name]
    rows = rows if name.startswith("boosting") else np.nan_to_num(rows)
    margins = model.decision_function(rows)
    if name.startswith("boosting"):
        np.testing.assert_array_equal(margins, expected["decision_function"])
    else:  # a product of matrices, which libraries of linear algebra add up in their own order
        same(margins, expected["decision_function"], 1e-12)
    same(model.predict_proba(rows), expected["predict_proba"], 1e-12)
    assert model.predict(rows).tolist() == expected["predict"]


def test_keras_model_with_its_losses_and_metrics() -> None:
    model, expected = keras.saving.load_model(SAVED / "model.keras"), EXPECTED["keras"]
    X, labels = MAKE.keras_batch(TABLE)
    scores = {name: keras.ops.convert_to_numpy(scores) for name, scores in model(X).items()}
    for name, loss in model.loss.items():
        assert type(loss).__module__.startswith("parfocal.keras")
        assert json.loads(json.dumps(loss.get_config())) == expected["configs"][name]
        same(scores[name], expected["scores"][name], 1e-6)
        same(loss.posterior(scores[name]), expected["posterior"][name], 1e-5)
    found = model.evaluate(X, labels, verbose=0, return_dict=True)
    assert set(found) == set(expected["evaluate"])
    for name, value in expected["evaluate"].items():
        same(found[name], value, 1e-6)


@pytest.mark.parametrize("whole", [True, False])
def test_torch_modules(whole: bool) -> None:
    module, expected = torch.load(SAVED / "torch-module.pt", weights_only=False), EXPECTED["torch"]
    if not whole:
        for part in (module["event"], module["kind"]):
            torch.nn.init.zeros_(part.weight)
        state = torch.load(SAVED / "torch-state.pt", weights_only=True)
        assert module.load_state_dict(state, strict=True)
    found = MAKE.torch_results(module, TABLE)
    assert set(found) == set(expected)
    for name, values in expected.items():
        same(found[name], values, 1e-5 if "posterior" in name else 1e-6)
    assert "gamma=[3.0, 1.0]" in repr(module["event_loss"])


def test_losses_in_a_pickle_and_as_configs() -> None:
    expected = EXPECTED["core"]
    pickled = pickle.loads((SAVED / "losses.pickle").read_bytes())
    built = {name: type(loss).from_config(expected["configs"][name]) for name, loss in MAKE.core_losses().items()}
    for losses in (pickled, built):
        assert {name: loss.get_config() for name, loss in losses.items()} == expected["configs"]
        for name, results in MAKE.core_results(losses).items():
            for key, value in expected["results"][name].items():
                same(results[key], value, 1e-12)


def test_calibrators_in_a_pickle() -> None:
    """Fitted before `parfocal.core` existed."""
    calibrators = pickle.loads((SAVED / "calibrators.pickle").read_bytes())
    binary, classes = calibrators["binary"], calibrators["classes"]
    same([binary.temperature_, binary.bias_], [5.419455861845076, -0.23753319440921822], 1e-12)
    same(binary.posterior([-1.0, 0.0, 2.0]), [0.32467519544686524, 0.4408943454432006, 0.6810449711291278], 1e-12)
    same(classes.bias_, [0.15433391, 0.12039808, -0.27473198], 1e-7)
    expected = [[0.3567217393810335, 0.36674402407452505, 0.2765342365444414]]
    same(classes.posterior(np.asarray([[0.0, 1.0, 2.0]])), expected, 1e-12)


def test_a_wrong_digit_turns_them_red(monkeypatch: pytest.MonkeyPatch) -> None:
    right = parfocal.BinaryFocalCrossentropy.recovery
    wrong = right._replace(posterior_logit=lambda *given: right.posterior_logit(*given) * (1 + 1e-11))
    monkeypatch.setattr(parfocal.BinaryFocalCrossentropy, "recovery", wrong)
    with pytest.raises(AssertionError):
        test_estimators_in_joblib_files("boosting-lightgbm")
