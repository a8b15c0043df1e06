"""report.html: one file that loads nothing, whose numbers are those of the fit, whatever the names in the table."""

from __future__ import annotations

import copy
import datetime as dt
import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from app_fits import MATTER, WRITTEN, described, few_rounds, fit, made_table
from parfocal.app import main
from parfocal.app.study import study
from parfocal.app.study.study import Study
from parfocal.app.tell import page
from parfocal.app.tell.page import charts, svg, words

impatience = few_rounds(5, 25)

MOST_BYTES = 1_500_000


class Tags(HTMLParser):
    """Every element of a page, with its attributes; and the text that is shown."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[str] = []
        self.shown: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.inside):
            self.shown.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.shown).split())


def written(monkeypatch: pytest.MonkeyPatch, table: Path, out: Path, *more: str, target: str = "event") -> Study:
    """The study of a fit that writes its page."""
    kept: list[Study] = []
    with monkeypatch.context() as patched:
        patched.setattr(study, "columns_matter", MATTER)
        patched.setattr(page, "page_of", lambda found: kept.append(found) or WRITTEN(found))
        assert fit(table, out, *more, target=target) == 0
    return kept[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, str, Path]:
    """A study, its page and its folder; of a table in Parquet, so that values can be compared."""
    folder = tmp_path_factory.mktemp("page")
    made_table().write_parquet(folder / "table.parquet")
    with pytest.MonkeyPatch.context() as monkeypatch:
        found = written(monkeypatch, folder / "table.parquet", folder / "model", "--time", "at")
    return found, (folder / "model" / "report.html").read_text(encoding="utf-8"), folder


# -- one file


def test_it_loads_nothing(made: tuple[Study, str, Path]) -> None:
    _, text, _ = made
    assert len(text.encode()) < MOST_BYTES
    assert not re.findall(r"https?:|@import|url\(|fetch\(|XMLHttp|import\(", text)
    loading = {"src", "href", "srcset", "poster", "action", "data", "formaction", "xlink:href", "background", "ping"}
    found = [value for _, attributes in Tags(text).elements for name, value in attributes.items() if name in loading]
    assert found == ["data:,"]  # the icon, which a browser would ask for otherwise
    assert not [name for _, attributes in Tags(text).elements for name in attributes if name.startswith("on")]


def test_that_test_can_fail() -> None:
    assert Tags('<img src="a"><p onclick="x">').elements == [("img", {"src": "a"}), ("p", {"onclick": "x"})]


def test_it_is_named_and_may_be_replaced(
    made: tuple[Study, str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, _, folder = made
    assert found.files == ["model.txt", "model.json", "judged.parquet", "report.png", "report.html"]
    assert sorted(path.name for path in (folder / "model").iterdir()) == sorted(found.files)
    shutil.copytree(folder / "model", tmp_path / "model")
    assert fit(folder / "table.parquet", tmp_path / "model", "--force", "--fast") == 0
    assert "report.png, report.html." in capsys.readouterr().out
    assert (tmp_path / "model" / "report.html").read_text(encoding="utf-8") == "no page"


def test_its_data_are_in_it_and_draw_it_again(made: tuple[Study, str, Path]) -> None:
    found, text, _ = made
    data = page.read_data(text)
    assert data == page.data_of(found)
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert page.render(data) == text


@pytest.mark.parametrize("text", ["", "<html></html>", page.BEGIN + "[]</script>", page.BEGIN + '{"a":1}</script>'])
def test_another_page_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a report of parfocal fit"):
        page.read_data(text)


# -- its numbers


def test_it_shows_the_numbers_of_the_record(made: tuple[Study, str, Path]) -> None:
    found, text, folder = made
    facts, shown = described(folder / "model"), Tags(text).text
    record, data = facts["fit"], page.read_data(text)
    for name, scores in record["final_test"].items():
        if name.endswith(", calibrated"):
            for metric, value in scores.items():
                assert f"{data['losses']['metrics'][metric]} " in shown
                assert svg.significant(value, 4) in shown, (name, metric)
    for trial in data["losses"]["trials"]:
        (candidate,) = [one for one in record["candidates"] if one["name"] == trial["name"]]
        mean, error = trial["folds"]["log_loss"]
        on_folds = np.array(candidate["calibrated"]["log_loss"])
        assert mean == pytest.approx(on_folds.mean())
        assert error == pytest.approx(on_folds.std(ddof=1) / np.sqrt(len(on_folds)))
    assert f"alarms from {svg.percent(facts['threshold'], 4)} on".replace("\xa0", " ") in shown.replace("\xa0", " ")
    of_true = record["by_class"][record["winner"]]["true"]
    measures = data["decisions"][0]["test"]["measures"]
    assert measures["recall"] == pytest.approx(of_true["recall"])
    assert measures["precision"] == pytest.approx(of_true["precision"])
    for sentence in (record["verdict"], *record["cautions"], *found.sample.notes):
        assert sentence in shown
    for part in ("unit", "constant", "name", "a different text in nearly every row"):
        assert part in shown
    assert words.seconds(found.seconds["total"]) in shown


def test_the_lead_adds_up(made: tuple[Study, str, Path]) -> None:
    found, text, _ = made
    counts = charts.of_thousand(page.read_data(text))
    assert counts is not None
    decided, labels = found.winner.probabilities >= found.winner.decision.threshold, found.test.labels
    for name, rows in (
        ("hits", decided & (labels == 1)),
        ("misses", ~decided & (labels == 1)),
        ("false_alarms", decided & (labels == 0)),
        ("quiet", ~decided & (labels == 0)),
    ):
        assert counts[name] == pytest.approx(1000 * rows.mean(), abs=0.01), name
    assert sum(counts[name] for name in ("hits", "misses", "false_alarms", "quiet")) == pytest.approx(1000)
    drawn = {name: len(re.findall("M", d)) for name, d in re.findall(r'id="rows-([a-z-]+)"[^>]* d="([^"]*)"', text)}
    assert sum(drawn.values()) == 1000
    assert drawn["hits"] == round(counts["hits"])
    assert drawn["hits"] + drawn["misses"] == round(counts["positives"])


def test_costs_are_those_of_the_prices(made: tuple[Study, str, Path]) -> None:
    data = copy.deepcopy(page.read_data(made[1]))
    counts = charts.of_thousand(data)
    assert counts is not None
    data["decisions"][0]["rule"] = {"text": "cost:5,2", "words": "the least cost"}
    costs = words.costs(data)
    assert costs["decision"] == pytest.approx(5 * counts["misses"] + 2 * counts["false_alarms"])
    assert costs["nothing"] == pytest.approx(5 * counts["positives"])
    assert costs["everything"] == pytest.approx(2 * (1000 - counts["positives"]))
    assert words.odds(0.2) == 4.0  # 1 of 5 alarms at 0.2 is right: one hit pays four false alarms


def test_a_slider_has_every_threshold_that_matters(made: tuple[Study, str, Path]) -> None:
    found, text, _ = made
    curve, probabilities, labels = page.read_data(text)["curve"], found.winner.probabilities, found.test.labels
    assert np.all(np.diff(curve["thresholds"]) < 0)
    assert len(curve["thresholds"]) <= 250
    assert np.abs(np.array(curve["thresholds"]) / found.winner.decision.threshold - 1).min() < 1e-5
    for threshold, alarms, hits in list(zip(curve["thresholds"], curve["alarms"], curve["hits"], strict=True))[::20]:
        said = probabilities >= threshold * (1 - 1e-5)  # six digits are kept
        assert alarms == pytest.approx(1000 * said.mean(), rel=1e-4)
        assert hits == pytest.approx(1000 * (said & (labels == 1)).mean(), rel=1e-4)


def test_other_decisions_are_shown(made: tuple[Study, str, Path]) -> None:
    """What `parfocal decide` does: the data with other decisions, drawn again."""
    data = copy.deepcopy(page.read_data(made[1]))
    outcome = {
        "measures": {"recall": 0.75, "precision": 0.125, "alarms_per_1000": 321.0, "cost_per_1000": 77.5},
        "intervals": {"recall": [0.7, 0.8], "cost_per_1000": [70.0, 85.0]},
    }
    rule = {"text": "cost:5,1", "words": "where a miss costs <5>"}
    first = {"rule": rule, "threshold": 0.1625, "folds": outcome, "test": outcome, "baselines": {"no_alarm": 88.0}}
    data["decisions"] = [first, *data["decisions"]]
    shown = Tags(page.render(data)).text.replace("\xa0", " ")
    for told in (
        "cost:5,1 : where a miss costs <5>",
        "16.25 %",
        "75 % 70 to 80 %",
        "77.5 70 to 85",
        "no alarm at all 88",
    ):
        assert told in shown
    assert "f1 : the best F1" in shown
    data["decisions"][0]["test"] = {
        "measures": {"recall": 0.0, "precision": None, "alarms_per_1000": 0.0},
        "intervals": {},
    }
    shown = Tags(page.render(data)).text
    assert "none is an alarm" in shown
    assert re.search("alarms that are right.{0,20}–", shown)


def test_decide_draws_the_page_again(made: tuple[Study, str, Path], tmp_path: Path) -> None:
    found, text, folder = made
    shutil.copytree(folder / "model", tmp_path / "model")
    (tmp_path / "model" / "report.html").write_text(text, encoding="utf-8")  # the fit's own is not drawn in tests
    assert main(["decide", str(tmp_path / "model"), "cost:30,1", "f2"]) == 0
    again = (tmp_path / "model" / "report.html").read_text(encoding="utf-8")
    data, before = page.read_data(again), page.read_data(text)
    assert [one["rule"]["text"] for one in data["decisions"]] == ["cost:30,1", "f2"]
    test = found.winner.evidence.test
    alarms = 1000 * (test.probabilities >= 1 / 31).mean()
    assert data["decisions"][0]["test"]["measures"]["alarms_per_1000"] == pytest.approx(alarms)
    assert all(one["probability"] < 1 / 31 for one in data["mistakes"]["misses"])
    curve, threshold = data["curve"], 1 / 31
    assert np.abs(np.array(curve["thresholds"]) / threshold - 1).min() < 1e-5  # the slider can stand on the decision
    changed = ("decisions", "mistakes", "curve")
    assert {key: data[key] for key in data if key not in changed} == {
        key: before[key] for key in before if key not in changed
    }
    (tmp_path / "model" / "report.html").write_text("mine", encoding="utf-8")
    assert main(["decide", str(tmp_path / "model"), "f1"]) == 0  # a page that somebody changed stays
    assert (tmp_path / "model" / "report.html").read_text(encoding="utf-8") == "mine"


def test_the_worst_mistakes_are_rows_of_the_table(made: tuple[Study, str, Path]) -> None:
    found, text, folder = made
    table, mistakes = pl.read_parquet(folder / "table.parquet"), page.read_data(text)["mistakes"]
    probabilities, labels, threshold = found.winner.probabilities, found.test.labels, found.winner.decision.threshold
    assert mistakes["misses"][0]["probability"] == probabilities[labels == 1].min() < threshold
    assert mistakes["false_alarms"][0]["probability"] == probabilities[labels == 0].max() >= threshold
    for kind, event in (("misses", True), ("false_alarms", False)):
        assert len(mistakes[kind]) == 5
        for mistake in mistakes[kind]:
            row = table.row(mistake["row"] - 1, named=True)
            assert row["event"] is event
            assert len(mistake["values"]) == 7  # all columns of the model
            for name, value in mistake["values"]:
                assert value == as_text(row[name]), name


def as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dt.datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    return value.isoformat() if isinstance(value, dt.date) else f"{value:.6g}"


def test_columns_are_in_it(made: tuple[Study, str, Path]) -> None:
    """The event depends on |x|, and on z in Oslo."""
    data = page.read_data(made[1])["columns"]
    names = [one["column"] for one in data["importances"]]
    assert names[0] == "x"
    assert data["importances"][0]["interval"][0] > 0
    assert set(names) | set(data["unused"]["names"]) == {"x", "z", "town", "member", "born", "at", "weight"}
    effects = {effect["column"]: effect for effect in data["effects"]}
    curve = np.interp([-1.8, 0.0, 1.8], effects["x"]["values"], effects["x"]["probabilities"])
    assert min(curve[0], curve[2]) > curve[1]
    assert effects["x"]["missing"] == pytest.approx(0.1, abs=0.04)


# -- names


HOSTILE = {
    "script": "</script><script>alert(1)</script>",
    "image": "\"'><img src=x onerror=alert(1)>",
    "comment": "<!-- {{ 7 * 7 }} {% raw %} &lt;b&gt;",
    "backwards": "right\u202eleft\u200b\x00\x1b[31m",
    "long": "x" * 5000,
    "fox": "\U0001f98a" * 40,
}


@pytest.mark.parametrize("classes", [2, pytest.param(3, marks=pytest.mark.full)])
def test_hostile_names_harm_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: int) -> None:
    generator = np.random.default_rng(0)
    rows = 400
    values = {name: generator.normal(size=rows) for name in HOSTILE.values()}
    score = sum(values.values()) + generator.normal(size=rows)
    kinds = np.array([HOSTILE["image"], HOSTILE["script"], HOSTILE["backwards"]])
    target = kinds[np.searchsorted(np.quantile(score, [0.5, 0.8] if classes == 3 else [0.8]), score)]
    towns = generator.choice([HOSTILE["script"], HOSTILE["image"], HOSTILE["long"][:900]], size=rows)
    table = pl.DataFrame({**values, "town": towns, "<b>t</b>": target})
    table.write_parquet(tmp_path / "<i>t.parquet")
    with monkeypatch.context() as patched:
        patched.setattr(study, "columns_matter", MATTER)
        patched.setattr(page, "page_of", WRITTEN)
        given = ["--target", "<b>t</b>", "--out", str(tmp_path / "model"), "--fast"]
        assert main(["fit", str(tmp_path / "<i>t.parquet"), *given]) == 0
    text = (tmp_path / "model" / "report.html").read_text(encoding="utf-8")
    assert len(text.encode()) < MOST_BYTES
    tags = Tags(text)
    count = Counter(name for name, _ in tags.elements)
    assert count["script"] == 2
    assert not {"img", "raw", "u"} & count.keys()
    assert not [name for _, attributes in tags.elements for name in attributes if name.startswith("on")]
    assert not [letter for letter in text if not letter.isprintable() and letter not in "\n\xa0\u2003"]
    assert "alert(1)" in tags.text  # it is shown, as text
    assert "{{ 7 * 7 }}" in tags.text
    assert max(map(len, tags.text.split())) < 100
    assert page.render(page.read_data(text)) == text


# -- more than two classes, other engines, weights


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, str]:
    folder = tmp_path_factory.mktemp("classes")
    table = made_table(900).with_columns(kind=pl.when(pl.col("event")).then(pl.lit("event")).otherwise(pl.col("town")))
    table.drop("event", "town").write_parquet(folder / "table.parquet")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("app_fits.QUICK", ("--fast",))
        found = written(monkeypatch, folder / "table.parquet", folder / "model", target="kind")
    return found, (folder / "model" / "report.html").read_text(encoding="utf-8")


def test_more_than_two_classes(classes: tuple[Study, str]) -> None:
    found, text = classes
    data = page.read_data(text)
    assert data == page.data_of(found)
    confusion, target = np.array(data["classes"]["confusion"]), found.sample.target
    assert confusion.sum(axis=1).tolist() == np.bincount(found.test.labels).tolist()
    recall = confusion.diagonal() / confusion.sum(axis=1)
    assert recall == pytest.approx([result.recall for result in found.winner.by_class])
    shown = Tags(text)
    assert not [tag for tag, attributes in shown.elements if attributes.get("id") == "slider"]
    right = int(confusion.trace())
    assert f"Of the {confusion.sum()} rows of the final test, {right} " in shown.text
    for name in target.classes:
        assert name in shown.text
    rarest = target.classes[int(np.argmin(np.bincount(found.test.labels)))]
    assert data["columns"]["of_class"] == rarest
    for mistake in data["mistakes"]["wrong"]:
        assert mistake["class"] != mistake["decided"]
    assert page.render(data) == text


@pytest.mark.full
@pytest.mark.parametrize("engine", ["xgboost", "catboost", "linear"])
def test_every_engine_has_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    made_table().write_parquet(tmp_path / "table.parquet")
    found = written(monkeypatch, tmp_path / "table.parquet", tmp_path / "model", "--engine", engine)
    data = page.read_data((tmp_path / "model" / "report.html").read_text(encoding="utf-8"))
    assert data == page.data_of(found)
    assert len(data["columns"]["importances"]) >= 3
    assert len(data["columns"]["effects"]) >= 3


@pytest.mark.full
def test_weights_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_table().write_parquet(tmp_path / "table.parquet")
    found = written(monkeypatch, tmp_path / "table.parquet", tmp_path / "model", "--weight", "weight")
    data, test = page.data_of(found), found.test
    share = np.average(test.labels, weights=test.weights)
    assert data["curve"]["positives"] == pytest.approx(1000 * share, rel=1e-5)
    assert data["decisions"][0]["test"]["measures"]["recall"] == pytest.approx(found.winner.by_class[1].recall)
    said = sum(group["said"] * group["rows"] for group in data["reliability"][1]["groups"])
    assert said / len(test.labels) == pytest.approx(found.winner.probabilities.mean(), rel=0.1)


# -- axes and numbers


def test_ticks_are_round() -> None:
    assert svg.linear_ticks(0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert svg.linear_ticks(-0.003, 0.0042, 4) == [-0.002, 0, 0.002, 0.004]
    assert svg.linear_ticks(7, 7, 4) == [7]
    assert svg.log_ticks(0.001, 1, 4) == [0.001, 0.01, 0.1, 1]
    assert svg.log_ticks(0.05, 1, 4) == [0.1, 0.3, 1] or len(svg.log_ticks(0.05, 1, 4)) >= 4
    for low, high in ((1e-6, 1), (0.2, 0.9), (3, 4000)):
        assert 2 <= len(svg.log_ticks(low, high, 5)) <= 8


def test_scales_keep_what_is_outside_inside() -> None:
    scale = svg.Scale(0, 10, 100, 200)
    assert [scale(value) for value in (-5, 0, 5, 10, 99)] == [100, 100, 150, 200, 200]
    assert svg.Scale(0.01, 1, 0, 100, log=True)(0.1) == pytest.approx(50)
    assert svg.Scale(10, 0, 0, 100)(10) == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0245, "0.0245"),
        (0.41, "0.41"),
        (1234.6, "1,235"),
        (-0.5, "−0.5"),
        (0.0, "0"),
        (1e-7, "0.0000001"),
        (12, "12"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert svg.number(value) == text


def test_values_on_an_axis_are_short() -> None:
    texts = [charts.compact(value) for value in (2013, 99_999, 350_000, -1.5e6, 2e9, 1e12, 0.25)]
    assert texts == ["2013", "99999", "350k", "−1.5M", "2G", "1,000G", "0.25"]


def test_percentages_stay_on_one_line() -> None:
    assert svg.percent(0.0245) == "2.45\xa0%"
    assert svg.percent(1.0) == "100\xa0%"
    assert svg.significant(0.41) == "0.410"
