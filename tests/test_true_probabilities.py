"""The examination of `parfocal fit`: its splits, its peers, its bounds, and the page that it writes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

sys.path.append(str(Path(__file__).parents[1] / "examples"))

import true_probabilities as script  # examples/ is on the path only now


def made(rows: int, hours: bool = False) -> pl.DataFrame:
    generator = np.random.default_rng(0)
    x, kind = generator.normal(size=rows), generator.choice(["a", "b"], rows)
    event = generator.random(rows) < 1 / (1 + np.exp(2.5 - x - (kind == "b")))
    frame = pl.DataFrame({"x": x, "kind": kind, "target": event.astype(int)})
    return frame.with_columns(pl.Series("at", np.arange(rows) // 2)) if hours else frame


def test_splits() -> None:
    frame = made(400)
    train, test = script.split(script.Frame("t", frame), 5)
    assert (len(train), len(test)) == (300, 100)
    assert abs(train["target"].mean() - test["target"].mean()) < 0.01
    assert len(pl.concat([train, test]).unique()) == 400
    by_time = script.Frame("t", made(400, hours=True), "at")
    for seed in range(5, 10):
        train, test = script.split(by_time, seed)
        assert train["at"].max() <= test["at"].min()
        assert (len(train), len(test)) == (200, 40)


def results(**columns: Any) -> Any:
    """Of three methods alike, but for what is given of ours."""
    same = {"mean_over_rate": 1.0, "log_loss": 0.2, "average_precision": 0.5, "training_rows": 300, "test_rows": 100}
    of_any = {name: np.full(5, value, dtype=float) for name, value in same.items()}
    found = {method: dict(of_any) for method in script.METHODS}
    found[script.OURS] |= {name: np.asarray(values, dtype=float) for name, values in columns.items()}
    return found


@pytest.mark.parametrize(
    ("columns", "holds"),
    [
        ({}, [True, True, True]),
        ({"mean_over_rate": [0.85] * 5}, [False, True, True]),
        ({"mean_over_rate": [0.5, 0.6, 1.2, 0.9, 1.05]}, [True, True, True]),  # within two standard errors
        ({"log_loss": [0.201] * 5}, [True, True, True]),
        ({"log_loss": [0.21] * 5}, [True, False, True]),
        ({"log_loss": [0.19, 0.24, 0.2, 0.22, 0.19]}, [True, True, True]),
        ({"average_precision": [0.4] * 5}, [True, True, False]),
        ({"average_precision": [0.9] * 5}, [True, True, True]),
    ],
)
def test_what_is_asked(columns: dict[str, Any], holds: list[bool]) -> None:
    judged = script.judged(results(**columns))
    assert [met for _, met in judged.values()] == holds


@pytest.mark.full  # four fits
def test_runs_and_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAGE", "RESULTS"):
        monkeypatch.setattr(script, name, tmp_path / name)
    monkeypatch.setattr(script, "SEEDS", range(5, 7))
    tables = [script.Frame("random", made(800)), script.Frame("by time", made(1200, hours=True), "at")]
    script.run_all(tables, tmp_path / "RESULTS")
    found, winners = script.read(tmp_path / "RESULTS")
    assert list(found) == ["random", "by time"]
    assert all(tuple(own) == script.METHODS for own in found.values())
    for own in found.values():
        for method in script.METHODS:
            assert np.all(own[method]["log_loss"] < 0.5)
            assert np.all(np.abs(own[method]["mean_over_rate"] - 1) < 0.6)
    assert all(len(names) == 2 for names in winners.values())
    (tmp_path / "PAGE").write_text(f"# A page\n{script.START}{script.END}\nits end", encoding="utf-8")
    assert script.main(["--check"]) == 1
    assert script.main(["--page"]) == 0
    assert script.main(["--check"]) == 0
    csv = (tmp_path / "RESULTS").read_text(encoding="utf-8")
    (tmp_path / "RESULTS").write_text(csv.replace("0.", "1.", 1), encoding="utf-8")
    assert script.main(["--check"]) == 1
