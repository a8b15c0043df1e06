"""The examples run, and what they print holds: short runs in processes of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.append(str(EXAMPLES))

import long_tail  # noqa: E402  # from examples/, which is on the path by now
import many_files  # noqa: E402

ONE_PER_FRAMEWORK = sorted(path.name for path in EXAMPLES.glob("digits_*.py"))
QUICK = ("--steps", "200", "--seeds", "2")
RUNS = [(name, "", QUICK) for name in ONE_PER_FRAMEWORK if name != "digits_keras.py"]
RUNS += [("digits_keras.py", backend, QUICK) for backend in ("torch", "jax", "tensorflow")]
# Fashion-MNIST is a Debian package.  Where it is not installed there is nothing to run; what is said then is tested.
if long_tail.FASHION.exists():
    RUNS += [("digits_torch.py", "", ("--data", "fashion", "--steps", "100", "--seeds", "2"))]
# The rows of the table: ten recalls, then "value ±error" for macro recall, log loss and calibration error.
NAMES = ("cross-entropy", "focal, raw", "focal, recovered")
ROW = re.compile(rf"^  ({'|'.join(NAMES)}) +((?:\d+ +){{10}})" + r"([\d.]+) ±[\d.]+ *" * 3 + "$", re.M)


def run(name: str, backend: str, *arguments: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    if backend:
        environment["KERAS_BACKEND"] = backend
    command = [sys.executable, EXAMPLES / name, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


def check_table(printed: str) -> None:
    table = {row[1]: (row[2].split(), *map(float, row.groups()[2:])) for row in ROW.finditer(printed)}
    assert tuple(table) == NAMES, printed
    for recalls, macro, *_ in table.values():
        assert np.mean([int(r) for r in recalls]) == pytest.approx(macro, abs=0.6)
    plain, raw, recovered = table.values()
    assert plain[1] > 50  # something was learned: chance is 10
    assert recovered[:2] == raw[:2]  # with one alpha and one gamma the order of the classes is kept
    assert recovered[2] < 0.95 * raw[2]  # log loss
    assert recovered[3] < 0.5 * raw[3]  # calibration error
    assert re.search(r"^Focal loss (helped|hurt|bought nothing) here: .*\(95 % interval .*\)\.$", printed, re.M)
    assert f"from {raw[2]:.3f} to {recovered[2]:.3f}; cross-entropy has {plain[2]:.3f}." in printed


@pytest.mark.parametrize(("name", "backend", "arguments"), RUNS)
def test_recovered_probabilities_beat_raw_scores(name: str, backend: str, arguments: tuple[str, ...]) -> None:
    check_table(run(name, backend, *arguments))


@pytest.mark.parametrize("engine", ["lightgbm", "xgboost"])
def test_many_files(engine: str, tmp_path: Path) -> None:
    random, labels = np.random.default_rng(0), []
    for file in range(4):
        rows = pd.DataFrame({"a": random.normal(size=1500), "b": random.choice(["x", "y"], size=1500)})
        margins = 1.5 * rows.a + (rows.b == "y") - 4
        labels.append(random.random(1500) < 1 / (1 + np.exp(-margins)))
        rows.assign(rare=labels[-1]).to_parquet(tmp_path / f"{file}.parquet")
    printed = run("many_files.py", "", str(tmp_path), "--target", "rare", "--engine", engine, "--held-out", "1")
    assert "4,500 rows in 3 files; held out: 1; workers: 2" in printed
    assert f"prior {np.mean(labels[:3]):.4f}" in printed
    assert 3 < int(re.search(rf"{engine}: (\d+) rounds", printed)[1]) < 480
    losses = dict(re.findall(r"(raw focal|recovered): log loss ([\d.]+)", printed))
    assert float(losses["recovered"]) < 0.95 * float(losses["raw focal"]), printed
    precision = float(re.search(r"average precision, of both: ([\d.]+)", printed)[1])
    assert precision > 1.5 * np.mean(labels[3])


def test_the_flights_become_a_file_a_month(tmp_path: Path) -> None:
    many_files.write_months(tmp_path)
    months = [pd.read_parquet(file, columns=["month"]).month for file in sorted(tmp_path.iterdir())]
    assert [(month.nunique(), month[0]) for month in months] == [(1, number) for number in range(1, 13)]
    assert sum(map(len, months)) == 336_776


def test_fashion_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(long_tail, "FASHION", tmp_path)
    with pytest.raises(SystemExit, match="apt-get install dataset-fashion-mnist"):
        long_tail.read("fashion")


def test_every_example_is_short_and_listed() -> None:
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert len(ONE_PER_FRAMEWORK) == 4
    for name in ONE_PER_FRAMEWORK:
        assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) < 60
        assert f"`{name}`" in page


def test_the_tail_is_long_and_its_test_images_are_new_and_weighted_to_its_shares() -> None:
    data = long_tail.read("digits")(3)
    counts = np.bincount(data.train_y)
    assert counts.tolist() == [round(80 * 0.7**k) for k in range(10)]
    assert np.bincount(data.test_y).min() > 90
    weighted = np.bincount(data.test_y, data.weight)
    np.testing.assert_allclose(weighted / weighted.sum(), counts / counts.sum())
    assert not {row.tobytes() for row in data.train_x} & {row.tobytes() for row in data.test_x}


def test_measures_by_hand() -> None:
    labels, weight = np.array([0, 0, 1, 1]), np.array([3.0, 3.0, 1.0, 1.0])
    data = long_tail.Data(np.empty(0), labels, np.empty(0), labels, weight)
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8]])
    recall_0, recall_1, macro, log_loss, error = long_tail.measures(probabilities, data)
    assert [recall_0, recall_1, macro] == [100, 50, 75]
    assert log_loss == pytest.approx(-(3 * np.log(0.9) + 3 * np.log(0.6) + np.log(0.3) + np.log(0.8)) / 8)
    assert error == pytest.approx((3 * 0.1 + 3 * 0.4 + 0.7 + 0.2) / 8)  # each sample is a bin: |sure - right|


@pytest.mark.parametrize(
    ("gain", "word"), [([2.0, 3.0, 4.0], "helped"), ([-2.0, -3.0, -4.0], "hurt"), ([-1.0, 3.0, 4.0], "bought nothing")]
)
def test_the_verdict_follows_from_the_numbers(gain: list[float], word: str) -> None:
    assert long_tail.verdict(np.array(gain)).startswith(f"Focal loss {word} here: ")
