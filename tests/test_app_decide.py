"""`--decide` of fit and predict, and `parfocal decide`: from files to files."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import parfocal
from app_fits import described, few_rounds, fit, left_behind, made_table, predict
from parfocal.app import main
from parfocal.app.model.evidence import JUDGED

impatience = few_rounds(5, 25)
SAVED = Path(__file__).parent / "saved"


def loaded(text: str) -> Any:
    return json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))


def rules(*texts: str) -> list[str]:
    return [part for text in texts for part in ("--decide", text)]


def decide(folder: Path, *given: str) -> int:
    return main(["decide", str(folder), *given])


def copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / "model"))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_fit_decides_as_it_is_told(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("cost:5,1", "alarms:20/1000", "recall:0.5")
    given = [*rules(*asked, "cost:5,1"), "--fast", "--json"]
    assert fit(folder / "table.csv", tmp_path / "model", *given) == 0
    printed = capsys.readouterr()
    found, facts = loaded(printed.out), described(tmp_path / "model")
    assert [one["rule"] for one in found["decisions"]] == list(asked)
    assert (facts["rule"], facts["threshold"]) == ("cost:5,1", 1 / 6)
    assert facts["fit"]["decisions"] == found["decisions"]
    words = " ".join(printed.err.split())
    assert "event = true from a probability of 0.1667 on (the least cost, where a miss costs 5" in words
    of_cost = found["decisions"][0]
    assert of_cost["expected"]["without_a_model"].keys() == {"no_alarm", "every_row"}
    for one in found["decisions"]:
        for part in ("expected", "final_test"):
            assert one[part]["measures"].keys() == one[part]["intervals"].keys()
            for name, (low, high) in one[part]["intervals"].items():
                assert low <= high, name
    # What predict decides on the rows of the final test is what is told of it.
    assert predict(tmp_path / "model", folder / "table.csv", tmp_path / "s.parquet") == 0
    scores = pl.read_parquet(tmp_path / "s.parquet")
    assert (scores["decision"] == (scores["probability"] >= 1 / 6)).all()
    judged = pl.read_parquet(tmp_path / "model" / JUDGED)
    test = judged.filter(pl.col("final_test"))
    assert len(test) == found["rows"]["final_test"]
    alarms = test["probability_0"] >= 1 / 6
    assert of_cost["final_test"]["measures"]["alarms_per_1000"] == pytest.approx(1000 * alarms.mean())
    assert set(test["probability_0"]) <= set(scores["probability"])  # those of the saved model


@pytest.mark.parametrize("rule", ["f2", "cost:9,1", "recall:0.7", "precision:0.5", "alarms:30/1000", "balanced"])
def test_a_rule_for_one_table(folder: Path, tmp_path: Path, rule: str, capsys: pytest.CaptureFixture[str]) -> None:
    """predict --decide, parfocal decide and fit --decide choose the same threshold."""
    model, before = copied(folder / "model", tmp_path), files(folder / "model")
    assert predict(model, folder / "table.csv", tmp_path / "s.csv", "--decide", rule, "--json") == 0
    once = loaded(capsys.readouterr().out)
    assert files(model) == before  # only this once
    assert decide(model, rule, "--json") == 0
    (told,) = loaded(capsys.readouterr().out)["decisions"]
    assert (once["rule"], once["threshold"]) == (rule, told["threshold"])
    facts = described(model)
    assert (facts["rule"], facts["threshold"]) == (rule, told["threshold"])
    assert facts["fit"]["decisions"] == [told]
    loaded_model = parfocal.load_model(model)
    scores = pl.read_csv(tmp_path / "s.csv")
    assert loaded_model.decide(made_table()).tolist() == scores["decision"].to_list()
    assert predict(model, folder / "table.csv", tmp_path / "t.csv") == 0
    assert (tmp_path / "t.csv").read_bytes() == (tmp_path / "s.csv").read_bytes()
    assert left_behind(tmp_path) == []


def test_decide_without_a_rule_shows_what_is_decided(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, before = copied(folder / "model", tmp_path), files(folder / "model")
    assert decide(model) == 0
    assert re.search(r"f1: event = true from a probability of 0\.\d+ on \(the best F1\)", capsys.readouterr().out)
    assert files(model) == before
    assert decide(model, "f2", "cost:5,1", "f2", "--json") == 0
    said = capsys.readouterr()
    assert [one["rule"] for one in loaded(said.out)["decisions"]] == ["f2", "cost:5,1"]
    assert "* decides where predict is not told otherwise" in said.err
    assert described(model)["rule"] == "f2"


def test_a_precision_that_no_threshold_reaches_loses_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fit of minutes is not thrown away: the next rule decides, and the reason is told."""
    table = made_table()
    table = table.with_columns(event=pl.Series(np.random.default_rng(1).permutation(table["event"].to_numpy())))
    table.write_parquet(tmp_path / "t.parquet")
    assert fit(tmp_path / "t.parquet", tmp_path / "model", *rules("precision:1", "f2"), "--fast") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Caution: --decide precision:1: on the out-of-fold rows no threshold reaches a precision of 1" in said
    assert "; f2 decides" in said
    assert described(tmp_path / "model")["rule"] == "f2"
    before = files(tmp_path / "model")
    assert decide(tmp_path / "model", "precision:1") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert files(tmp_path / "model") == before


def test_alarms_a_day(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = made_table()
    table.write_parquet(tmp_path / "t.parquet")
    given = ["--time", "at", "--fast", *rules("alarms:1/day")]
    assert fit(tmp_path / "t.parquet", tmp_path / "model", *given) == 0
    days = (table["at"].dt.date().max() - table["at"].dt.date().min()).days + 1  # type: ignore[operator,union-attr]  # polars declares every type
    assert described(tmp_path / "model")["rows_per_day"] == 1200 / days
    judged = pl.read_parquet(tmp_path / "model" / JUDGED).filter(~pl.col("final_test"))
    alarms = judged["probability_0"] >= described(tmp_path / "model")["threshold"]
    assert alarms.mean() * 1200 / days <= 1
    assert predict(tmp_path / "model", tmp_path / "t.parquet", tmp_path / "s.csv", *rules("alarms:2/day")) == 0
    assert "2 alarms a day at most, on average" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (rules("f3x"), "--decide 'f3x': there is no such rule"),
        (rules("alarms:5/day"), "--decide alarms:5/day: alarms a day need days; name a column of dates with --time"),
        (["--time", "weight", *rules("alarms:5/day")], "alarms a day need days"),
        (["--time", "at", *rules("alarms:5000/day")], "has not as many rows a day, but 6 on average"),
        (rules("costs:x.csv"), "with 2 classes it must be"),
    ],
)
def test_what_fit_refuses_before_it_trains(
    folder: Path, tmp_path: Path, given: Sequence[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(folder / "table.parquet", tmp_path / "model", *given) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rule", ["f0", "cost:1", "most-probable", "alarms:5/day", "costs:none.csv"])
def test_what_decide_and_predict_refuse(
    folder: Path, tmp_path: Path, rule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model, before = copied(folder / "model", tmp_path), files(folder / "model")
    assert decide(model, rule) == 2
    assert predict(model, folder / "table.csv", tmp_path / "s.csv", *rules(rule)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 2
    first, second = said.err.splitlines()
    assert re.match(f"parfocal: '?{rule}'?: ", first)
    assert re.match(f"parfocal: --decide '?{rule}'?: ", second)
    assert files(model) == before
    assert not (tmp_path / "s.csv").exists()


def test_models_of_earlier_versions_have_no_rows_to_choose_by(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = copied(SAVED / "fit-lightgbm", tmp_path)
    assert decide(model, "f2") == 2
    assert "holds no judged.parquet, which models have since format 4; fit again" in capsys.readouterr().err
    assert predict(model, SAVED / "table.csv", tmp_path / "s.csv", *rules("f2")) == 2
    assert predict(model, SAVED / "table.csv", tmp_path / "s.csv", *rules("cost:3,1")) == 0  # needs none
    scores = pl.read_csv(tmp_path / "s.csv")
    assert (scores["decision"] == (scores["probability"] >= 0.25)).all()


def test_other_files_stay_and_links_and_ways_through_the_model_lead_to_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = copied(folder / "model", tmp_path)
    (model / "notes.txt").write_text("mine")
    (tmp_path / "link").symlink_to(model)
    for number, way in enumerate((tmp_path / "link", model / ".." / "model", Path("../model"), Path(".")), 2):
        monkeypatch.chdir(model)
        assert decide(way, f"f{number}") == 0
        assert described(model)["rule"] == f"f{number}"
    assert (tmp_path / "link").is_symlink()
    assert files(model).keys() == {*files(folder / "model"), "notes.txt"}
    assert left_behind(tmp_path) == left_behind(model) == []


def test_fit_replaces_a_model_by_a_way_through_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = copied(folder / "model", tmp_path)
    monkeypatch.chdir(tmp_path)
    given = ["--force", "--fast", "--engine", "linear"]
    assert fit(folder / "table.csv", Path("model/../model"), *given) == 0
    assert described(model)["engine"] == "linear"
    monkeypatch.chdir(model)
    assert fit(folder / "table.csv", Path("../model"), *given) == 2  # the folder that one is in
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("change", ["truncated", "missing", "swapped", "null", "one fold", "one class", "text"])
def test_damaged_rows(folder: Path, tmp_path: Path, change: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = copied(folder / "model", tmp_path)
    if change == "truncated":
        (model / JUDGED).write_bytes((model / JUDGED).read_bytes()[:-5])
    elif change == "missing":
        (model / JUDGED).unlink()
    else:
        wrong = {
            "swapped": {"probability_0": pl.lit(2.0)},
            "null": {"label": pl.lit(None, pl.UInt8)},
            "one fold": {"fold": pl.lit(0)},
            "one class": {"label": pl.lit(1)},
            "text": {"weight": pl.lit("much")},
        }[change]
        pl.read_parquet(model / JUDGED).with_columns(**wrong).write_parquet(model / JUDGED)
        if change != "swapped":  # whoever changes both files
            facts = described(model)
            facts["judged_sha256"] = hashlib.sha256((model / JUDGED).read_bytes()).hexdigest()
            (model / "model.json").write_text(json.dumps(facts), encoding="utf-8")
    assert decide(model, "f2") == 2
    said = capsys.readouterr().err
    assert "is damaged or was changed" in said
    assert said.count("\n") == 1
    assert predict(model, folder / "table.csv", tmp_path / "s.csv") == 0  # which does not need them


def test_more_classes_by_costs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    x, z = generator.normal(size=(2, 500))
    kind = np.select([x > 1.2, z > 1.2], ["gold", "tin"], "sand")
    pl.DataFrame({"x": x.round(1), "z": z.round(1), "kind": kind}).write_csv(tmp_path / "t.csv")
    (tmp_path / "costs.csv").write_text("kind,gold,sand,tin\ngold,0,50,1\nsand,1,0,1\ntin,5,5,0\n")
    costs = np.array([[0.0, 50.0, 1.0], [1.0, 0.0, 1.0], [5.0, 5.0, 0.0]])
    rule = f"costs:{tmp_path / 'costs.csv'}"
    given = ["--engine", "linear", "--fast", *rules(rule, "balanced")]
    table = str(tmp_path / "t.csv")
    assert main(["fit", table, "--target", "kind", "--out", str(tmp_path / "model"), *given]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Per 1,000 rows the cheapest class for every row would cost " in said
    assert described(tmp_path / "model")["costs"] == costs.tolist()
    (tmp_path / "costs.csv").unlink()  # the model has them
    assert predict(tmp_path / "model", tmp_path / "t.csv", tmp_path / "s.csv") == 0
    scores = pl.read_csv(tmp_path / "s.csv")
    classes = np.array(["gold", "sand", "tin"])
    probabilities = scores.select(f"probability_{name}" for name in classes).to_numpy()
    assert scores["decision"].to_list() == classes[(probabilities @ costs).argmin(axis=1)].tolist()
    assert parfocal.load_model(tmp_path / "model").decide(pl.read_csv(tmp_path / "t.csv")).tolist() == (
        scores["decision"].to_list()
    )
    assert decide(tmp_path / "model") == 0  # as it is, with the costs that it has
    assert decide(tmp_path / "model", "most-probable") == 0
    assert predict(tmp_path / "model", tmp_path / "t.csv", tmp_path / "u.csv") == 0
    assert pl.read_csv(tmp_path / "u.csv")["decision"].to_list() == classes[probabilities.argmax(axis=1)].tolist()


@pytest.mark.parametrize(
    "change",
    [
        *({"rule": rule} for rule in ("f", 5)),
        {"rule": "costs:x", "costs": [[0, 1], [1, 0]]},
        *({"rows_per_day": value} for value in ("many", -3)),
        {"fit": []},
    ],
)
def test_a_wrong_rule_in_the_description_is_damage(
    folder: Path, tmp_path: Path, change: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    model = copied(folder / "model", tmp_path)
    facts = json.loads((model / "model.json").read_text(encoding="utf-8"))
    (model / "model.json").write_text(json.dumps(facts | change), encoding="utf-8")
    assert predict(model, folder / "table.csv", tmp_path / "s.csv") == 2
    assert "is damaged or was changed" in capsys.readouterr().err
