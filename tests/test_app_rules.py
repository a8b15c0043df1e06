"""The rules of `--decide`: how they are read, what they choose, and what is said of what they do."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from parfocal import thresholds
from parfocal.app.data.tables import CSV_PAGE
from parfocal.app.errors import BadInput
from parfocal.app.model import evidence as files
from parfocal.app.model.decisions import (
    NEVER,
    Decision,
    Evidence,
    Judged,
    OutOfReach,
    between_rows,
    decision,
    first_in_reach,
)
from parfocal.app.model.outcomes import LOG_ODDS, Outcome, interval, outcomes
from parfocal.app.model.rules import PAGE, Rule, read_rule, with_costs
from parfocal.app.tell.decisions import HEADINGS, cell, ends, print_decisions

TWO, THREE = ("no", "yes"), ("a", "b", "c")


def made(rows: int = 4000, seed: int = 0, classes: int = 2, weighted: bool = False) -> Judged:
    """Calibrated probabilities, and labels drawn by them."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(-2.0, 1.5, size=(rows, classes))
    if classes == 2:
        p = 1 / (1 + np.exp(-scores[:, 0]))
        labels = (generator.random(rows) < p).astype(np.int64)
    else:
        p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        labels = (p.cumsum(axis=1) < generator.random((rows, 1))).sum(axis=1).clip(max=classes - 1)
    weights = generator.uniform(0.5, 2.0, rows) if weighted else None
    return Judged(labels, p, weights, np.arange(rows) % 5)


def evidence(rows: Judged | None = None, rows_per_day: float | None = None, **more: Any) -> Evidence:
    rows = made(**more) if rows is None else rows
    prior = np.bincount(rows.labels, minlength=rows.classes) / len(rows.labels)
    test = made(1000, 9, rows.classes)
    return Evidence(
        rows, Judged(test.labels, test.probabilities, None), prior if rows.classes > 2 else prior[1], rows_per_day
    )


# -- reading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "numbers"),
    [
        ("f1", "f", (1.0,)),
        ("f0.5", "f", (0.5,)),
        (" f2 ", "f", (2.0,)),
        ("cost:5,1", "cost", (5.0, 1.0)),
        ("cost:1e3,.5", "cost", (1000.0, 0.5)),
        ("recall:0.8", "recall", (0.8,)),
        ("precision:1", "precision", (1.0,)),
        ("alarms:5/1000", "alarms", (5.0, 1000.0)),
        ("alarms:100/day", "day", (100.0,)),
        ("balanced", "balanced", ()),
        ("most-probable", "most-probable", ()),
        ("costs:prices.csv", "costs", ()),
    ],
)
def test_rules_are_read(text: str, kind: str, numbers: tuple[float, ...]) -> None:
    assert read_rule(text) == Rule(text.strip(), kind, numbers)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *((text, "there is no such rule; it must be f1 or f2, cost:MISS,ALARM, ") for text in ("", "f3x", "a\nb")),
        *((text, r"there is no such rule; did you mean f1\?") for text in ("F1", "f", "f-1")),
        ("recal:0.8", r"there is no such rule; did you mean recall:0\.8\?"),
        ("alarm:5", r"there is no such rule; did you mean alarms:5/1000\?"),
        ("most probable", r"there is no such rule; did you mean most-probable\?"),
        *(
            (text, "cost needs two numbers, of a miss and of an alarm: cost:5,1 ")
            for text in ("cost:5", "cost:5;1", "cost:5,1,2", "cost:-5,1")
        ),
        ("costs:", "costs needs a CSV file of costs: costs:FILE.csv"),
        *((text, "alarms needs two numbers, .*: alarms:5/1000 or ") for text in ("alarms:5", "alarms:5/week")),
        *((text, r"recall needs one number, .*: recall:0\.8") for text in ("recall:nan", "recall:٣")),
        ("balanced:2", "balanced takes nothing after it"),
        ("cost:0,1", "the cost of a miss is 0; it must be above 0"),
        ("cost:5,0", "the cost of an alarm is 0; it must be above 0"),
        *((text, "must be 1e-09 to") for text in ("f0", "alarms:0/day")),
        ("recall:0", "above 0"),
        ("alarms:0/10", "more than 0 alarms"),
        *((text, "1 at most") for text in ("recall:1.1", "precision:80")),
        ("alarms:11/10", "not more than rows"),
        ("cost:1e10,1", "1e-09 to 1,000,000,000"),
        ("cost:1e-10,1", "1e-09 to 1,000,000,000"),
        ("recall:80", "did you mean 0.8"),
    ],
)
def test_rules_that_are_none(text: str, words: str) -> None:
    with pytest.raises(BadInput, match=f"^--decide .*{words}") as raised:
        read_rule(text)
    ends_with_the_page(raised.value)


def ends_with_the_page(error: BadInput) -> None:
    assert str(error).endswith(f" ({PAGE})")
    assert str(error).count("docs/") == 1


@pytest.mark.parametrize("page", [PAGE, CSV_PAGE])
def test_the_page_of_an_error_is_there(page: str) -> None:
    name, anchor = page.split("#")
    headings = re.findall("^#+ (.*)", (Path(__file__).parents[1] / name).read_text(encoding="utf-8"), re.MULTILINE)
    assert anchor in [heading.lower().replace(" ", "-") for heading in headings]


@pytest.mark.parametrize(
    ("text", "classes"), [("most-probable", TWO), ("costs:x.csv", TWO), ("f1", THREE), ("cost:1,2", THREE)]
)
def test_a_rule_must_suit_the_classes(text: str, classes: tuple[str, ...]) -> None:
    with pytest.raises(BadInput, match=rf"with {len(classes)} classes it must be ") as raised:
        with_costs(read_rule(text), classes)
    ends_with_the_page(raised.value)


def test_costs_and_cost_are_told_apart() -> None:
    with pytest.raises(BadInput, match=r"with 2 classes .*; did you mean cost:5,1\?") as raised:
        with_costs(read_rule("costs:5,1"), TWO)
    ends_with_the_page(raised.value)
    with pytest.raises(BadInput, match=r"costs takes a CSV file .*, and there is no file 5,1 ") as raised:
        with_costs(read_rule("costs:5,1"), THREE)
    ends_with_the_page(raised.value)


@pytest.mark.parametrize("separator", [",", ";"])
def test_costs_of_a_file_in_any_order(tmp_path: Path, separator: str) -> None:
    lines = ["true class,c,a,b", "b,2,1,0", "a,20,0,-3.5", "c,0,7,1e2"]
    path = tmp_path / "costs.csv"
    path.write_text("\n".join(line.replace(",", separator) for line in lines) + "\n")
    rule = with_costs(read_rule(f"costs:{path}"), THREE)
    assert rule.costs == ((0.0, -3.5, 20.0), (1.0, 0.0, 2.0), (7.0, 100.0, 0.0))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["x,a,b", "a,0,1", "b,1,0", "c,1,1"], "first line, .* must name each class once"),
        (["x,a,b,c", "a,0,1,1", "b,1,0,1"], "first column must name each class once"),
        (["x,a,b,c", "a,0,1,1", "b,1,0,1", "b,1,0,1"], "first column must name each class once"),
        (["x,a,b,c", "a,0,1,1", "b,1,zero,1", "c,1,1,0"], "b, b: the price is 'zero'"),
        (["x,a,b,c", "a,0,1,", "b,1,0,1", "c,1,1,0"], "a, c: the price is missing"),
        (["x,a,b,c", "a,0,1,1_0", "b,1,0,1", "c,1,1,0"], "a, c: the price is '1_0'"),
        (["x,a,b,c", "a,0,1,nan", "b,1,0,1", "c,1,1,0"], "a, c: the price is 'nan'"),
    ],
)
def test_costs_that_are_none(tmp_path: Path, lines: list[str], words: str) -> None:
    (tmp_path / "costs.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(BadInput, match=words):
        with_costs(read_rule(f"costs:{tmp_path / 'costs.csv'}"), THREE)


def test_a_file_of_costs_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^--decide costs:.*none\.csv: there is no file"):
        with_costs(read_rule(f"costs:{tmp_path / 'none.csv'}"), THREE)


# -- choosing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_thresholds_are_those_of_the_library(weighted: bool) -> None:
    given = evidence(weighted=weighted, rows_per_day=200.0)
    p, labels, weights = given.folds.probabilities, given.folds.labels, given.folds.weights
    for text, expected in (
        ("f2", thresholds.best_f_beta(p, labels, beta=2, sample_weight=weights)),
        ("recall:0.8", thresholds.for_recall(p, 0.8, labels, sample_weight=weights)),
        ("precision:0.4", thresholds.for_precision(p, 0.4, labels, sample_weight=weights)),
        ("alarms:5/100", thresholds.for_alarms(p, 0.05, sample_weight=weights)),
        ("alarms:20/day", thresholds.for_alarms(p, 0.1, sample_weight=weights)),
        ("cost:4,1", thresholds.by_cost(p, miss=4, alarm=1)),
    ):
        found = decision(read_rule(text), given).threshold
        assert found is not None
        np.testing.assert_array_equal(p >= found, p >= expected.threshold)
        if text.startswith("cost"):
            assert found == expected.threshold
        else:  # midway to the next lower probability
            assert found == pytest.approx((expected.threshold + p[p < expected.threshold].max()) / 2, rel=1e-12)
    assert decision(read_rule("balanced"), given).threshold == given.prior


def test_decisions_of_two_classes() -> None:
    probabilities = np.array([0.0, 0.019, 0.02, 0.5, 0.6, 1.0])
    assert Decision(read_rule("f1"), 0.6)(probabilities).tolist() == [0, 0, 0, 0, 1, 1]
    assert Decision(read_rule("f1"), NEVER)(probabilities).tolist() == [0] * 6
    assert Decision(read_rule("f1"), 0.0)(probabilities).tolist() == [1] * 6


def test_decisions_of_more_classes() -> None:
    probabilities = np.array([[0.9, 0.09, 0.01], [0.95, 0.03, 0.02], [0.5, 0.49, 0.01], [0.92, 0.079, 0.001]])
    prior = [0.9, 0.09, 0.01]
    given = Evidence(*[Judged(np.array([0, 1, 2, 0]), probabilities, None)] * 2, prior, None)
    assert decision(read_rule("most-probable"), given)(probabilities).tolist() == [0, 0, 0, 0]
    assert decision(read_rule("balanced"), given)(probabilities)[1:].tolist() == [2, 1, 0]
    costs = ((0.0, 1.0, 1.0), (6.0, 0.0, 2.0), (50.0, 50.0, 0.0))
    found = decision(Rule("costs:x", "costs", costs=costs), given)(probabilities)
    for p, decided in zip(probabilities, found, strict=True):
        expected = [sum(p[true] * costs[true][said] for true in range(3)) for said in range(3)]
        assert decided == np.argmin(expected)
    assert set(found.tolist()) == {0, 1, 2}


def test_every_row_means_new_rows_too() -> None:
    """A row a little below all others is still a row: coarse models move whole groups of equal probabilities."""
    rows = made()
    coarse = Judged(rows.labels, np.ceil(rows.probabilities * 3) / 3, None, rows.folds)
    for text in ("recall:1", "alarms:1/1"):
        assert decision(read_rule(text), evidence(coarse)).threshold == 0
    found = decision(read_rule("alarms:1/10"), evidence(coarse)).threshold
    assert found == pytest.approx(5 / 6)
    close = np.array([0.3, np.nextafter(0.3, 1.0)])
    assert (close >= between_rows(close[1], close)).tolist() == [False, True]


def test_what_no_threshold_reaches_is_told_and_the_next_rule_decides() -> None:
    rows = made()
    blind = Judged(rows.labels, np.full(len(rows.labels), 0.1), None, rows.folds)
    precise = read_rule("precision:0.9")
    with pytest.raises(OutOfReach, match=r"^--decide precision:0\.9: .* no threshold reaches a precision of 0\.9"):
        decision(precise, evidence(blind))
    found, refused = first_in_reach([precise, read_rule("f2")], evidence(blind))
    assert (found.rule.text, len(refused)) == ("f2", 1)
    assert first_in_reach([precise], evidence(blind))[0].rule.text == "f1"
    assert decision(read_rule("alarms:1/100"), evidence(blind)).threshold == NEVER  # all or none


def test_alarms_a_day_need_days() -> None:
    with pytest.raises(BadInput, match="need days"):
        decision(read_rule("alarms:5/day"), evidence())
    with pytest.raises(BadInput, match="has not as many rows a day, but 4 on average"):
        decision(read_rule("alarms:5/day"), evidence(rows_per_day=4.0))


# -- what they do ----------------------------------------------------------------------------------


def test_no_row_is_decided_by_a_threshold_that_was_chosen_on_it() -> None:
    given = evidence(rows=made(600))
    rows, rule = given.folds, read_rule("f1")
    hits = alarms = 0
    for number in range(5):
        here, there = rows.folds == number, rows.folds != number
        p = rows.probabilities[there]
        best = thresholds.best_f_beta(p, rows.labels[there]).threshold
        decided = rows.probabilities[here] >= (best + p[p < best].max()) / 2
        hits, alarms = hits + (decided & (rows.labels[here] == 1)).sum(), alarms + decided.sum()
    found = outcomes(decision(rule, given), given)
    assert found.folds.measures["recall"] == hits / rows.labels.sum()
    assert found.folds.measures["precision"] == hits / alarms
    assert found.folds.measures["alarms_per_1000"] == 1000 * alarms / 600
    decided = given.test.probabilities >= found.threshold
    assert found.test.measures["recall"] == decided[given.test.labels == 1].mean()


@pytest.mark.parametrize("weighted", [False, True])
def test_costs_by_hand(weighted: bool) -> None:
    given = evidence(weighted=weighted)
    rows = given.folds
    found = outcomes(decision(read_rule("cost:7,2"), given), given)
    decided, label = rows.probabilities >= 2 / 9, rows.labels == 1
    each = 7.0 * (label & ~decided) + 2.0 * (decided & ~label)
    assert found.folds.measures["cost_per_1000"] == pytest.approx(1000 * np.average(each, weights=rows.weights))
    share = np.average(label, weights=rows.weights)
    assert found.folds.baselines == {
        "no_alarm": pytest.approx(7000 * share),
        "every_row": pytest.approx(2000 * (1 - share)),
    }
    assert found.folds.measures["cost_per_1000"] < min(found.folds.baselines.values())


def test_outcomes_of_more_classes_by_hand() -> None:
    given = evidence(classes=3)
    costs = np.array([[0.0, 1.0, 2.0], [5.0, 0.0, 1.0], [9.0, 3.0, 0.0]])
    found = outcomes(decision(Rule("costs:x", "costs", costs=tuple(map(tuple, costs.tolist()))), given), given)
    rows = given.folds
    decided = (rows.probabilities @ costs).argmin(axis=1)
    measures = found.folds.measures
    assert measures["cost_per_1000"] == pytest.approx(1000 * costs[rows.labels, decided].mean())
    assert measures["accuracy"] == pytest.approx((decided == rows.labels).mean())
    recalls = [(decided[rows.labels == k] == k).mean() for k in range(3)]
    assert measures["mean_recall"] == pytest.approx(np.mean(recalls))
    always = [1000 * costs[rows.labels, k].mean() for k in range(3)]
    assert found.folds.baselines == {"one_class": pytest.approx(min(always))}
    for name, (low, high) in found.folds.intervals.items():
        assert low < measures[name] < high


def test_a_threshold_without_alarms() -> None:
    given = evidence()
    found = outcomes(Decision(read_rule("cost:1,1000"), NEVER), given)
    test: Outcome = found.test
    assert test.measures["recall"] == test.measures["alarms_per_1000"] == 0
    assert math.isnan(test.measures["precision"])
    assert test.intervals["recall"] == (0.0, 0.0)  # it can't be otherwise
    assert math.isnan(test.intervals["precision"][0])


def test_intervals_hold_new_rows_as_often_as_they_say() -> None:
    """Rows like those of the folds: 95 % of 100 intervals, give or take three standard errors."""
    truth = made(400_000, seed=1000)
    held = {"recall": 0, "precision": 0, "alarms_per_1000": 0}
    for seed in range(100):
        given = evidence(made(1500, seed))
        found = outcomes(decision(read_rule("f1"), given), given, seed)
        decided = truth.probabilities >= found.threshold
        hits = (decided & (truth.labels == 1)).sum()
        true = {"recall": hits / truth.labels.sum(), "precision": hits / decided.sum()}
        true["alarms_per_1000"] = 1000 * decided.mean()
        for name in held:
            low, high = found.folds.intervals[name]
            held[name] += low <= true[name] <= high
    assert min(held.values()) >= 89, held
    assert max(held.values()) <= 100


def test_folds_that_differ_widen_the_intervals() -> None:
    generator = np.random.default_rng(0)
    alike = [generator.beta(300, 700, 1000) for _ in range(3)]
    other = [generator.beta(1000 * p, 1000 * (1 - p), 1000) for p in (0.2, 0.3, 0.4)]
    whole = generator.beta(900, 2100, 1000)
    narrow, wide = interval(whole, alike, LOG_ODDS), interval(whole, other, LOG_ODDS)
    assert wide[0] < narrow[0] < 0.3 < narrow[1] < wide[1]
    assert wide[0] > 0
    assert wide[1] < 1


# -- in words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", range(60, 100, 5))
@pytest.mark.parametrize("dear", ["cost:5,1", "cost:1000000000,999999999"])
def test_the_table_of_decisions_cuts_no_number(width: int, dear: str) -> None:
    given = evidence(rows_per_day=400.0, rows=made(600))
    rules = [dear, "recall:0.8", "alarms:1/day", "f1", "alarms:5/1000", "precision:0.4"]
    found = [outcomes(decision(read_rule(text), given), given) for text in rules]
    console = Console(file=io.StringIO(), width=width)
    print_decisions(console, found, "y", TWO)
    said = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    table = said[: said.index(f"{rules[0]}: y")]
    assert max(map(len, said.splitlines())) <= width
    fields = re.split(r"\s{2,}|\n", table)
    for one in found:
        for name in HEADINGS:
            for text in (cell(one.folds, name), ends(one.folds, name).plain, cell(one.test, name)):
                assert not text or text in fields
    assert "…" not in said
    assert [field for field in fields if field.lstrip("* ") in rules][: len(rules)] == [f"* {dear}", *rules[1:]]
    assert "    95 % interval  " in table


def test_a_long_rule_folds() -> None:
    given = evidence(classes=3)
    rule = Rule(f"costs:{'folder/' * 20}x.csv", "costs", costs=((0.0, 1.0, 9e8), (1.0, 0.0, 1.0), (9e8, 1.0, 0.0)))
    found = outcomes(decision(rule, given), given)
    console = Console(file=io.StringIO(), width=80)
    print_decisions(console, [found], "y", THREE)
    said = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert "…" not in said
    assert ends(found.folds, "cost_per_1000").plain in said


# -- in files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_evidence_comes_back_from_its_file(classes: int, weighted: bool) -> None:
    rows = made(50, classes=classes, weighted=weighted)
    test = made(20, 1, classes, weighted)
    given = Evidence(rows, Judged(test.labels, test.probabilities, test.weights), 0.1, 3.5)
    found = files.load(files.dump(given), classes, 0.1, 3.5)
    for name in ("labels", "probabilities", "weights", "folds"):
        np.testing.assert_array_equal(getattr(found.folds, name), getattr(rows, name))
    np.testing.assert_array_equal(found.test.probabilities, test.probabilities)
    assert (found.prior, found.rows_per_day) == (0.1, 3.5)
    with pytest.raises(ValueError, match=files.JUDGED):
        files.load(files.dump(given)[:-9], classes, 0.1, 3.5)
    with pytest.raises(ValueError, match=rf"{files.JUDGED} (has labels out of range|is not as it was written)"):
        files.load(files.dump(given), classes - 1, 0.1, 3.5)
