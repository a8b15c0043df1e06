"""Rare classes: `parfocal fit --other N` joins them, `parfocal predict --decide balanced` decides for them."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from app_fits import few_rounds
from parfocal.app import main
from parfocal.app.data.rare import Joined, join_rare
from parfocal.app.data.roles import Roles
from parfocal.app.data.sample import Sample, read_sample
from parfocal.app.data.tables import open_table
from parfocal.app.errors import BadInput
from parfocal.app.tell.text import rows_of_table

# Steps that are few make it warn; fits in threads can't hide that from one another.
pytestmark = pytest.mark.filterwarnings("ignore:FocalLogisticRegression stopped")

SAVED = Path(__file__).parent / "saved"


impatience = few_rounds(5, 10, steps=5)


def classes_of(**rows: int) -> pl.Series:
    return pl.Series("kind", [name for name, count in rows.items() for _ in range(count)])


def join(fewest: int, **rows: int) -> tuple[dict[str | None, int], Joined]:
    named, joined = join_rare(classes_of(**rows), fewest, 8, "--target kind")
    assert len(named) == sum(rows.values())
    return dict(named.value_counts().iter_rows()), joined


# -- joining ---------------------------------------------------------------------------------------


def test_classes_with_fewer_rows_become_one() -> None:
    found, joined = join(20, a=50, b=20, c=19, d=1)
    assert found == {"a": 50, "b": 20, "other": 20}
    assert joined == Joined(20, "other", {"c": 19, "d": 1}, left_out=False)
    assert joined.sentence == ("2 classes with fewer than 20 rows became one, 'other', 20 rows: 'c' 19 rows, 'd' 1 row")


def test_rows_stay_with_their_class() -> None:
    named = pl.Series("kind", ["a", "c", "b", "d", "a", "c"] * 8)
    joined, _ = join_rare(pl.concat([named, named.filter(named.is_in(["a", "b"]))]), 17, 8, "")
    assert joined.to_list()[:6] == ["a", "other", "other", "other", "a", "other"]


@pytest.mark.parametrize(("rare", "left_out"), [({"c": 7}, True), ({"c": 4, "d": 3}, True), ({"c": 4, "d": 4}, False)])
def test_eight_rows_make_a_class(rare: dict[str, int], left_out: bool) -> None:
    found, joined = join(10, a=30, b=10, **rare)
    assert found == {"a": 30, "b": 10, None if left_out else "other": sum(rare.values())}
    assert (joined.left_out, joined.name, joined.rows) == (left_out, None if left_out else "other", rare)
    assert ("are left out, too few even together: 'c' " in joined.sentence) is left_out


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        ({"other": 30}, "other classes"),
        ({"Other": 30}, "other classes"),
        ({"other": 30, "other classes": 40}, "other classes 2"),
        ({"other": 5}, "other"),  # is rare itself
    ],
)
def test_a_frequent_class_of_that_name_stays_what_it_is(rows: dict[str, int], name: str) -> None:
    found, joined = join(20, a=30, b=9, **rows)
    assert joined.name == name
    assert found[name] == 9 + rows.get("other", 0) * (name == "other")
    for known, count in rows.items():
        assert count == 5 or found[known] == count


def test_no_class_is_rare() -> None:
    found, joined = join(20, a=30, b=20)
    assert found == {"a": 30, "b": 20}
    assert joined == Joined(20, None, {}, left_out=False)
    assert joined.sentence == "none, every class has 20 rows at least"


@pytest.mark.parametrize(
    ("fewest", "rows", "words"),
    [
        (7, {"a": 30, "b": 30}, "--other 7: parfocal needs at least 8 rows of each class; give 8 or more"),
        (20, {"a": 30, "b": 7}, "would have one class only, because 1 class with fewer rows would be left out"),
        (40, {"a": 30, "b": 30}, "would have one class only, because 2 classes with fewer rows would be joined"),
        (8, {"a": 3, "b": 3}, "would have no class, because 2 classes"),
    ],
)
def test_what_cannot_be_joined(fewest: int, rows: dict[str, int], words: str) -> None:
    with pytest.raises(BadInput) as raised:
        join(fewest, **rows)
    assert words in str(raised.value)


# -- the sample ------------------------------------------------------------------------------------


def table(folder: Path, **rows: int) -> Path:
    """Classes in an order that repeats, so that rows which are left out lie between others."""
    kind = classes_of(**rows).sample(fraction=1, shuffle=True, seed=0)
    number = np.arange(len(kind))
    pl.DataFrame({"x": number, "w": number % 3, "kind": kind}).write_csv(folder / "table.csv")
    return folder / "table.csv"


def sample(path: Path, **roles: Any) -> Sample:
    return read_sample(open_table(path), Roles("kind", **roles))


@pytest.mark.parametrize("weight", [None, "w"])
def test_rows_of_rare_classes_are_left_out_everywhere(tmp_path: Path, weight: str | None) -> None:
    path = table(tmp_path, a=40, b=30, c=4, d=2)
    frame = pl.read_csv(path)
    found = sample(path, other=15, weight=weight)
    kept = frame.filter(pl.col("kind").is_in(["a", "b"]) & ((pl.col("w") > 0) | (weight is None)))
    assert set(found.target.classes) == {"a", "b"}
    assert [found.target.classes[code] for code in found.labels] == kept["kind"].to_list()
    assert found.values["x"].to_list() == kept["x"].to_list()
    if weight:
        assert found.weights is not None
        np.testing.assert_array_equal(found.weights, kept["w"] / 2)
    assert found.target.joined is not None
    assert found.target.rare_rows == found.target.joined.total
    assert rows_of_table(found) == len(frame)
    assert rows_of_table(found) > len(found.labels) + found.target.weightless_rows


def test_two_classes_that_are_left_have_a_positive(tmp_path: Path) -> None:
    found = sample(table(tmp_path, a=40, b=7, c=6), other=20)
    assert found.target.classes == ("a", "other")
    assert found.labels.sum() == 13


def test_without_other_rare_classes_are_refused_with_the_cure(tmp_path: Path) -> None:
    path = table(tmp_path, a=40, b=30, c=7)
    with pytest.raises(BadInput, match=r"only 7 rows \('c'\).*join classes \(--other 20"):
        sample(path)
    with pytest.raises(BadInput, match="--other and --positive"):
        sample(path, other=20, positive="c")
    many = table(tmp_path, **{f"c{number}": 9 for number in range(101)})
    with pytest.raises(BadInput, match="--other N joins those with fewer than N rows"):
        sample(many)


def test_other_makes_few_of_many_classes(tmp_path: Path) -> None:
    rows = {f"c{number}": 9 + 12 * (number < 3) for number in range(200)}
    found = sample(table(tmp_path, **rows), other=10)
    assert found.target.classes == ("c0", "c1", "c2", "other")
    assert np.bincount(found.labels).tolist() == [21, 21, 21, 9 * 197]


# -- from files to files ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other")
    generator = np.random.default_rng(0)
    x, z = generator.normal(size=(2, 400))
    kind = np.select([x > 1.9, z > 2.2, x + z > 0.4], ["gold", "tin", "wood"], "sand")
    pl.DataFrame({"x": x.round(1), "z": z.round(1), "kind": kind}).write_csv(folder / "table.csv")
    given = [str(folder / "table.csv"), "--target", "kind", "--out", str(folder / "model"), "--fast"]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert main(["fit", *given, "--other", "20"]) == 0
    (folder / "said").write_text(said.getvalue(), encoding="utf-8")
    return folder


def predict(model: Path, table: Path, out: Path, *more: str) -> pl.DataFrame:
    assert main(["predict", str(model), str(table), "--out", str(out), *more]) == 0
    return pl.read_csv(out)


def test_fit_says_what_it_joined(folder: Path) -> None:
    rows = dict(pl.read_csv(folder / "table.csv")["kind"].value_counts().iter_rows())
    rare = {name: rows[name] for name in sorted(("gold", "tin"), key=lambda name: -rows[name])}
    assert all(count < 20 for count in rare.values())
    total = sum(rare.values())
    words = " ".join((folder / "said").read_text(encoding="utf-8").split())
    each = ", ".join(f"{name!r} {count} rows" for name, count in rare.items())
    assert f"other 2 classes with fewer than 20 rows became one, 'other', {total} rows: {each}" in words
    assert f"kind: 3 classes, 'other' {total} rows" in words
    assert "To find rare classes more often: parfocal predict " in words
    assert " --keep kind --decide balanced To score a table, for example the same one: parfocal predict " in words
    facts = json.loads((folder / "model" / "model.json").read_text(encoding="utf-8"))
    assert facts["classes"] == ["other", "sand", "wood"]
    assert facts["fit"]["other"] == {"fewest": 20, "name": "other", "rows": rare, "left_out": False}
    assert facts["fit"]["roles"]["other"] == 20


def test_predict_decides_as_it_is_told(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prior = json.loads((folder / "model" / "model.json").read_text(encoding="utf-8"))["prior"]
    names = np.array(["other", "sand", "wood"])
    found = {}
    for rule, divisors, words in (
        ("default", 1.0, "each row gets the most probable class:"),
        ("balanced", prior, "each row gets the class with the largest probability, divided by its share in training:"),
    ):
        scores = predict(folder / "model", folder / "table.csv", tmp_path / f"{rule}.csv", "--decide", rule)
        assert words in " ".join(capsys.readouterr().out.split())
        probabilities = scores.select(f"probability_{name}" for name in names).to_numpy()
        found[rule] = scores["decision"].to_list()
        assert found[rule] == names[(probabilities / divisors).argmax(axis=1)].tolist()
    assert found["balanced"].count("other") > found["default"].count("other")
    assert found["default"] == predict(folder / "model", folder / "table.csv", tmp_path / "s.csv")["decision"].to_list()


@pytest.mark.parametrize("name", ["fit-lightgbm", "fit-classes"])
def test_folders_of_earlier_versions(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = json.loads((SAVED / name / "model.json").read_text(encoding="utf-8"))
    usual = predict(SAVED / name, SAVED / "table.csv", tmp_path / "usual.csv")
    balanced = predict(SAVED / name, SAVED / "table.csv", tmp_path / "balanced.csv", "--decide", "balanced")
    assert usual.drop("decision").equals(balanced.drop("decision"))
    assert usual["decision"].to_list() != balanced["decision"].to_list()
    if name == "fit-lightgbm":
        assert balanced["decision"].to_list() == (balanced["probability"] >= facts["prior"]).to_list()
        assert f"(probability >= {facts['prior']:.4g}, its share in training)" in " ".join(
            capsys.readouterr().out.split()
        )


def test_a_wrong_rule_writes_nothing(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["predict", str(folder / "model"), str(folder / "table.csv"), "--out", str(tmp_path / "s.csv")]
    assert main([*given, "--decide", "sometimes"]) == 2
    assert (
        capsys.readouterr().err
        == "parfocal: --decide 'sometimes': there is no such rule; it must be f1 or f2, cost:MISS,ALARM, recall:0.8, "
        "precision:0.5, alarms:5/1000, alarms:100/day, balanced, most-probable or costs:FILE.csv "
        "(docs/tables.md#decisions)\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_too_small_numbers_are_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["fit", str(folder / "table.csv"), "--target", "kind", "--out", str(tmp_path / "model"), "--other"]
    assert main([*given, "3"]) == 2
    assert "--other 3: parfocal needs at least 8 rows of each class" in capsys.readouterr().err
    assert main([*given, "many"]) == 2
    assert "--other" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_target_may_be_called_rows() -> None:
    """As the column of counts is."""
    named = pl.Series("rows", ["a"] * 20 + ["b"] * 20 + ["c"] * 5 + ["d"] * 4)
    joined, what = join_rare(named, 10, 8, "--target rows")
    assert what.rows == {"c": 5, "d": 4}
    assert joined.value_counts(name="n").sort("rows")["n"].to_list() == [20, 20, 9]
