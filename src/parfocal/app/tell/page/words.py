"""The sentences of the page, for a reader who never trained a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from parfocal.app.errors import counted
from parfocal.app.tell.decisions import BASELINES  # noqa: F401  (of the template)
from parfocal.app.tell.page.charts import of_thousand
from parfocal.app.tell.page.svg import number, percent, significant

Data = Mapping[str, Any]

KINDS = {
    "number": ("number", "numbers"),
    "category": ("category", "categories"),
    "boolean": ("yes-or-no column", "yes-or-no columns"),
    "date": ("date", "dates"),
    "datetime": ("date with a time", "dates with a time"),
}
MEASURES = {
    "recall": "found, of all that there are",
    "precision": "alarms that are right",
    "alarms_per_1000": "alarms in 1,000 rows",
    "alarms_per_day": "alarms a day",
    "cost_per_1000": "cost of 1,000 rows",
    "f_beta": "F-beta",
    "accuracy": "decisions that are right",
    "mean_recall": "found of a class, on average",
}
FEW = 9.5  # below it counts are told with a decimal
SHARES = ("recall", "precision", "accuracy", "mean_recall")
EXPLAINED = {
    "log_loss": "Log loss measures how far the probabilities are from what happened. Less is better.",
    "average_precision": "Average precision measures how well the rare rows are ranked first. More is better.",
    "brier": "The Brier score is the mean square between probability and outcome. Less is better.",
}


def listed_names(found: Data, shown: int = 12) -> str:
    """Of `names_of`."""
    names, count = found["names"], found["count"]
    return ", ".join(names[:shown]) + (f" and {count - shown:,} more" if count > shown else "")


def about(count: float) -> str:
    """A count in 1,000 rows, as one says it."""
    return f"{count:.0f}" if count >= FEW else number(count, 2)


def table(data: Data) -> list[str]:
    facts, target = data["table"], data["target"]
    kinds = ", ".join(
        f"{count:,} {KINDS[kind][count != 1] if kind in KINDS else kind}" for kind, count in facts["kinds"].items()
    )
    rows = facts["rows_of_class"]
    said = [f"The table {facts['name']} has {counted(facts['rows'], 'row')} and {counted(facts['columns'], 'column')}."]
    if target["positive"] is not None:
        said.append(
            f"In {counted(rows[1], 'row')} ({percent(rows[1] / sum(rows))}) {target['name']} is {target['positive']}; "
            f"otherwise it is {target['classes'][0]}."
        )
    else:
        rarest = min(range(len(rows)), key=lambda k: rows[k])
        said.append(
            f"{target['name']} has {counted(len(rows), 'class')}; the rarest is {target['classes'][rarest]}, with "
            f"{counted(rows[rarest], 'row')} ({percent(rows[rarest] / sum(rows))})."
        )
    said.append(f"The model may use {counted(facts['used_columns'], 'column')}: {kinds}.")
    if facts["weight"] is not None:
        said.append(f"Rows count by their weight, {facts['weight']}.")
    return said


def split(data: Data) -> list[str]:
    parts, binary = data["split"], data["target"]["positive"] is not None
    tested = parts["test_of_class"]
    rare = f"{tested[1]:,} of them {data['target']['positive']}" if binary else f"{min(tested):,} of the rarest class"
    training, test = counted(parts["training"], "row"), counted(parts["test"], "row")
    if parts["by_time"] is not None:
        said = [
            f"It learnt from the first {training} in {parts['by_time']}, and was judged by the last {test}, {rare}."
        ]
    else:
        said = [f"It learnt from {training} and was judged by {test} drawn at random, {rare}."]
    said.append("Those are the final test: nothing was chosen by them, so what they say holds for new rows like them.")
    if parts["refit"]:
        said.append("Afterwards the saved model was trained once more on all rows; this page tells of the one before.")
    return said


def skill(data: Data) -> str:
    """How well the final test was ranked."""
    reached = data["verdict"]["scores"]["average_precision"]
    if data["curve"] is None or reached is None:
        return ""
    chance = number(data["curve"]["positives"] / 1000, 2)
    return f"On the final test its average precision is {number(reached)}, where chance reaches {chance}."


def verdict(data: Data) -> str:
    """In one plain sentence; the evidence is below it."""
    found = data["verdict"]
    name = found["winner"]
    if name == "logistic regression":
        saved, rival = "The model that was saved is logistic regression.", "trees with cross-entropy"
    else:
        rival = "cross-entropy"
        saved = f"The loss that was saved is {'plain ' * (name == 'cross-entropy')}{name}."
    if found["cross_entropy_won"]:
        if found["better"]:
            return f"{saved} It is simpler, and close on the folds; on the final test {found['better']} was better."
        return f"{saved} No other loss did better by more than noise."
    if found["better"] == name:
        return f"{saved} It beats {rival} by more than noise."
    return f"{saved} {rival.capitalize()} would have done about as well."


def lead(data: Data) -> str:
    """What the first decision does with 1,000 rows."""
    target, counts = data["target"], of_thousand(data)
    if target["positive"] is not None and counts is None:
        return ""
    if counts is None:
        confusion = data["classes"]["confusion"] if data["classes"] else []
        right, total = sum(row[k] for k, row in enumerate(confusion)), sum(map(sum, confusion))
        share = percent(right / max(total, 1))
        return f"Of the {counted(total, 'row')} of the final test, {right:,} ({share}) got the right class."
    threshold = data["decisions"][0]["threshold"]
    event = f"{target['name']} = {target['positive']}"
    if not counts["alarms"]:
        return (
            f"Of 1,000 rows like those of the final test, {about(counts['positives'])} have {event}; none is an alarm."
        )
    small = counts["positives"] < FEW
    of_all, found, missed = (
        about(counts[name]) if small else f"{count:.0f}"
        for name, count in (
            ("positives", counts["positives"]),
            ("hits", counts["hits"]),
            ("misses", round(counts["positives"]) - round(counts["hits"])),
        )
    )
    return (
        f"Of 1,000 rows like those of the final test, {of_all} have {event}. With alarms from a probability of "
        f"{percent(threshold)} on, the model raises {about(counts['alarms'])}: it finds {found} of the {of_all}, and "
        f"misses {missed}."
    )


def odds(threshold: float) -> float:
    """What a miss costs, in false alarms, where this threshold of a true probability is the cheapest (Elkan 2001)."""
    return float(f"{(1 - threshold) / max(threshold, 1e-9):.2g}")


def prices(data: Data) -> tuple[float, float]:
    """Of a miss and of a false alarm: those of the first decision, or those for which its threshold is the cheapest."""
    decision = data["decisions"][0]
    name, _, given = decision["rule"]["text"].partition(":")
    if name == "cost":
        miss, alarm = (float(part) for part in given.split(","))
        return miss, alarm
    threshold = decision["threshold"]
    return (1.0 if threshold is None or threshold >= 1 else odds(threshold)), 1.0


def costs(data: Data) -> dict[str, float]:
    """Of 1,000 rows, at these prices: with the decision, without any alarm, and with every row an alarm."""
    miss, alarm = prices(data)
    counts = of_thousand(data)
    assert counts is not None
    return {
        "decision": miss * counts["misses"] + alarm * counts["false_alarms"],
        "nothing": miss * counts["positives"],
        "everything": alarm * (1000 - counts["positives"]),
    }


def typed(value: float) -> str:
    """As an input of numbers takes it: no commas."""
    return f"{value:.12g}"


def money(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else number(value)


def measures(decision: Data) -> list[dict[str, Any]]:
    """The rows of a decision's table: what it is to give by the folds, and what it gave on the final test."""
    parts = {key: decision[key] for key in ("folds", "test") if decision[key]}
    names = list(dict.fromkeys(name for part in parts.values() for name in part["measures"]))
    known = [name for name in MEASURES if name in names] + [name for name in names if name not in MEASURES]
    return [
        {
            "name": MEASURES.get(name, name.replace("_", " ")),
            "cells": [
                measured(name, part["measures"].get(name), part["intervals"].get(name)) for part in parts.values()
            ],
        }
        for name in known
    ]


def measured(name: str, value: float | None, interval: list[float | None] | None) -> tuple[str, str]:
    """The value, and its interval."""
    if value is None:
        return "–", ""
    told = percent if name in SHARES else number
    if interval is None or None in interval:
        return told(value), ""
    low, high = (told(end or 0.0) for end in interval)
    return told(value), f"{low.removesuffix('%').strip()} to {high}"


def seconds(value: float) -> str:
    if value < 99.5:
        return f"{value:.1f} s" if value < 9.95 else f"{value:.0f} s"
    return f"{value / 60:.1f} min" if value < 5970 else f"{value / 3600:.1f} h"


def rises(data: Data) -> list[tuple[str, str, str]]:
    """The columns that the chart does not show: name, rise and interval, all with the decimals of the largest rise."""
    found = data["columns"]["importances"]
    decimals = max(2, 2 - math.floor(math.log10(max(found[0]["loss"], 1e-8))))

    def told(value: float) -> str:
        return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")

    return [(one["column"], told(one["loss"]), " to ".join(map(told, one["interval"]))) for one in found]


def group_size(data: Data) -> str:
    sizes = [group["rows"] for group in data["reliability"][-1]["groups"]]
    low, high = min(sizes), max(sizes)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def groups(data: Data) -> list[list[str]]:
    """The rows of the reliability's table, in percent."""
    return [
        [
            significant(100 * group["said"]),
            significant(100 * group["happened"]),
            "–".join(significant(100 * end, 2) for end in group["interval"]),
            f"{group['positives']:,}",
            f"{group['rows']:,}",
        ]
        for group in data["reliability"][-1]["groups"]
    ]


def scores(data: Data) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Of the final test: the names of the losses that were on it, and each metric with a number for each of them."""
    tested = [trial for trial in data["losses"]["trials"] if trial["test"] is not None]
    rows = [
        (
            title,
            [significant(trial["test"][metric], 4) if trial["test"][metric] is not None else "–" for trial in tested],
        )
        for metric, title in data["losses"]["metrics"].items()
    ]
    return [("★ " if trial["winner"] else "") + trial["name"] for trial in tested], rows


def confusions(data: Data, most: int = 12) -> list[tuple[str, str, int]]:
    """The most frequent: the class, what was decided, and rows."""
    names, table = data["target"]["classes"], data["classes"]["confusion"]
    pairs = [
        (count, names[k], names[j]) for k, row in enumerate(table) for j, count in enumerate(row) if k != j and count
    ]
    return [(label, decided, count) for count, label, decided in sorted(pairs, key=lambda pair: -pair[0])[:most]]
