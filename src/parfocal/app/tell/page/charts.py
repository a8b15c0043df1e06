"""The charts of the page, each a function of the page's data."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from parfocal.app.errors import counted, trimmed
from parfocal.app.tell.page.svg import WIDTH, Chart, Row, Scale, domain_of, dots, number, percent, place

Data = Mapping[str, Any]
LEFT, BOTTOM = 46, 44  # margins
HEIGHT = 300
SHAPES = ("circle", "diamond", "square", "triangle")  # of decisions
ACROSS, DOWN = 40, 25  # a picture of 1,000 rows
PITCH = WIDTH / ACROSS
WEEKDAYS = ("", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
LARGEST_LINEAR = 20.0  # ratio of the largest to the smallest probability; above it the reliability has logarithmic axes


def whole(share: float) -> str:
    return percent(share)


def plot(label: str, x: Scale, y: Scale, height: float = HEIGHT) -> Chart:
    return Chart(label, height, x, y)


def across(low: float, high: float, log: bool = False) -> Scale:
    return Scale(low, high, LEFT, WIDTH - 10, log)


def upwards(low: float, high: float, height: float = HEIGHT, log: bool = False) -> Scale:
    return Scale(low, high, height - BOTTOM, 30, log)


# -- decisions


def precision_recall(data: Data) -> Markup:
    """With the decisions on it."""
    curve = data["curve"]
    positives, chance = curve["positives"], curve["positives"] / 1000
    counts = zip(curve["alarms"], curve["hits"], strict=True)
    points = [(hits / positives, hits / alarms) for alarms, hits in counts if alarms]
    told = [
        found for one in data["decisions"] if (found := one["test"]) and has(found["measures"], "precision", "recall")
    ]
    tops = [found["intervals"].get("precision", [0, 0])[1] for found in told]
    seen = [precision for recall, precision in points if recall >= 0.02] or [1.0]  # the first few alarms are luck
    _, top = domain_of([max([*seen, *(end or 0 for end in tops), 2 * chance])], zero=True)
    chart = plot("Precision against recall, with the decision", across(0, 1), upwards(0, min(top, 1.0)))
    chart.y_axis(whole, "precision: alarms that are right")
    chart.x_axis(whole, "recall: share that is found")
    chart.segment((0, chance), (1, chance), "chance")
    chart.text((0, chance), f"chance {percent(chance)}", "soft", dx=4, dy=-6)
    chart.line(points, "curve blue")
    for k, decision in enumerate(data["decisions"]):
        found = decision["test"]
        if found not in told:
            continue
        recall, precision = found["measures"]["recall"], found["measures"]["precision"]
        for name, ends in found["intervals"].items():
            if name == "recall" and None not in ends:
                chart.segment((ends[0], precision), (ends[1], precision), "whisker red")
            if name == "precision" and None not in ends:
                chart.segment((recall, ends[0]), (recall, ends[1]), "whisker red")
        said = f"{decision['rule']['text']}: recall {percent(recall)}, precision {percent(precision)}"
        chart.mark((recall, precision), SHAPES[k % len(SHAPES)], "mark red", said, 6)
        left = recall > 0.6
        chart.text(
            (recall, precision),
            decision["rule"]["text"],
            "name red",
            "end" if left else "start",
            -10 if left else 10,
            -9,
        )
    chart.mark(points[-1], "circle", "ring js", size=9, name="pr-dot")
    chart.data |= {"x": f"0,1,{chart.x.begin},{chart.x.end}", "y": f"0,{chart.y.high},{chart.y.begin},{chart.y.end}"}
    return chart.svg()


def has(measures: Mapping[str, Any], *names: str) -> bool:
    return all(measures.get(name) is not None for name in names)


def of_thousand(data: Data, decision: Data | None = None) -> dict[str, float] | None:
    """What a decision, the first if none is given, does with 1,000 rows like those of the final test."""
    decision = decision or data["decisions"][0]
    if data["curve"] is None or decision["test"] is None:
        return None
    measures, positives = decision["test"]["measures"], data["curve"]["positives"]
    hits = (measures["recall"] or 0.0) * positives
    alarms = measures["alarms_per_1000"]
    return {
        "alarms": alarms,
        "hits": hits,
        "misses": positives - hits,
        "false_alarms": max(alarms - hits, 0.0),
        "positives": positives,
        "quiet": 1000 - alarms - (positives - hits),
    }


def thousand(data: Data) -> Markup:
    """A picture of 1,000 rows: found, missed, false alarms, and those that are left alone."""
    counts = of_thousand(data)
    assert counts is not None
    hits, positives, alarms = (round(counts[name]) for name in ("hits", "positives", "alarms"))
    ends = [hits, max(positives, hits), max(positives, hits) + max(alarms - hits, 0), ACROSS * DOWN]
    height = PITCH * DOWN
    parts, begin = [], 0
    for name, end in zip(("hits", "misses", "false-alarms", "quiet"), ends, strict=True):
        d = "".join(dot(k, name) for k in range(begin, end))
        parts.append(Markup('<path id="rows-{}" class="rows {}" d="{}"/>').format(name, name, d))
        begin = max(begin, end)
    label = f"Of 1,000 rows {hits} are found, {positives - hits} missed, and {alarms - hits} are false alarms"
    return Markup('<svg class="chart thousand" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, place(height), label, Markup("").join(parts)
    )


def dot(k: int, name: str) -> str:
    """The outline of one row; script.js has the same."""
    x, y = (k % ACROSS + 0.5) * PITCH, (k // ACROSS + 0.5) * PITCH
    return {
        "hits": f"M{x:.4g},{y:.4g}h0",
        "misses": f"M{x - 3:.4g},{y:.4g}a3,3 0 1,0 6,0a3,3 0 1,0 -6,0",
        "false-alarms": f"M{x - 2.5:.4g},{y - 2.5:.4g}l5,5m0,-5l-5,5",
        "quiet": f"M{x:.4g},{y:.4g}h0",
    }[name]


# -- how good it is


def reliability(data: Data) -> Markup:
    before, after = data["reliability"]
    groups = before["groups"] + after["groups"]
    said = [group["said"] for group in groups if group["said"] > 0]
    log = max(said) / min(said) > LARGEST_LINEAR
    seen = [*said, *(group["happened"] for group in groups if group["happened"] > 0)]
    ends = [group["interval"][1] for group in after["groups"]]
    if log:
        low = max(min(seen) * 0.7, 1e-6)
        high = min(max(seen + ends) * 1.2, 1.0)
    else:
        low, high = 0.0, min(domain_of(seen + ends, zero=True)[1], 1.0)
    x, y = across(low, high, log), upwards(low, high, log=log)
    chart = plot("What was said against what happened, before and after calibrating", x, y)
    chart.y_axis(whole, "what happened: share in the group", 5)
    chart.x_axis(whole, "what was said: mean probability")
    chart.segment((low, low), (high, high), "chance")
    for group in after["groups"]:
        if group["interval"][1] > low:
            chart.segment(
                (group["said"], max(group["interval"][0], low)), (group["said"], group["interval"][1]), "whisker blue"
            )
    for kind, shape, css in ((before, "square", "mark hollow red"), (after, "circle", "mark blue")):
        shown = [group for group in kind["groups"] if group["said"] > 0]
        drawn = [(group["said"], group["happened"]) for group in shown if group["happened"] > 0 or not log]
        if len(drawn) > 1:
            chart.line(drawn, "thin dashed red" if kind is before else "thin blue")
        for group in shown:
            counts = f"{group['positives']:,} of {counted(group['rows'], 'row')}"
            words = f"said {percent(group['said'])}, happened {percent(group['happened'])}: {counts}"
            chart.mark((group["said"], group["happened"]), shape, css, words, 4)
    return chart.svg()


def gain_points(data: Data) -> list[tuple[float, float]]:
    """Share of the rows that are looked at, the most probable first, and share of the positives among them."""
    curve = data["curve"]
    points = [
        (alarms / 1000, hits / curve["positives"]) for alarms, hits in zip(curve["alarms"], curve["hits"], strict=True)
    ]
    return [(0.0, 0.0), *points, *([(1.0, 1.0)] if points[-1][0] < 1 else [])]


def found_at(points: Sequence[tuple[float, float]], share: float) -> float:
    """The share of the positives in this share of the rows, between two points of the curve."""
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= share <= x1:
            return y1 if x1 == x0 else y0 + (y1 - y0) * (share - x0) / (x1 - x0)
    return 1.0


def gain(data: Data) -> Markup:
    points = gain_points(data)
    chart = plot("Cumulative gain", across(0, 1), upwards(0, 1))
    chart.y_axis(whole, "share of all that is found", 5)
    chart.x_axis(whole, "share of rows looked at, most probable first")
    chart.segment((0, 0), (1, 1), "chance")
    chart.text((0.72, 0.66), "in any order", "soft", dy=14)
    chart.line(points, "curve blue")
    for share in (0.05, 0.2, 0.5):
        found = found_at(points, share)
        chart.mark((share, found), "circle", "mark blue", f"{percent(share)} of the rows hold {percent(found)}", 4)
        chart.text((share, found), percent(found, 2), "name blue", dx=8, dy=14)
    return chart.svg()


def lift(data: Data) -> Markup:
    points = [(share, found / share) for share, found in gain_points(data) if share >= 0.001 and found > 0]
    if not points:
        points = [(1.0, 1.0)]
    _, top = domain_of([*(value for _, value in points), 1.0], zero=True)
    low = min(0.1, max(points[0][0], 0.001))
    chart = plot("Lift", across(low, 1, log=True), upwards(0, top))
    chart.y_axis(lambda value: f"{number(value)} ×", "lift: as often as among all rows")
    chart.x_axis(whole, "share of rows looked at, most probable first")
    chart.segment((low, 1), (1, 1), "chance")
    chart.line(points, "curve blue")
    for share in (0.01, 0.05, 0.2):
        if share > low:
            value = found_at(gain_points(data), share) / share
            chart.mark(
                (share, value), "circle", "mark blue", f"the first {percent(share)}: {number(value)} × as many", 4
            )
            chart.text((share, value), f"{number(value, 2)} ×", "name blue", dx=8, dy=-6)
    return chart.svg()


# -- losses


def name_of(trial: Data) -> str:
    return "★ " * trial["winner"] + trial["name"] + (f" · {trial['settings']}" if trial["settings"] else "")


def colour_of(trial: Data) -> str:
    return "blue" if trial["winner"] else "plain"


def losses(data: Data) -> Markup:
    """Scores on the folds with standard errors, and on the final test."""
    metric, rows = data["losses"]["metric"], []
    for trial in data["losses"]["trials"]:
        mean, error = trial["folds"][metric]
        more: tuple[tuple[float, str, str, str], ...] = ()
        if trial["test"] is not None:
            value = trial["test"][metric]
            more = ((value, "diamond", "hollow red", f"{trial['name']} on the final test: {number(value, 4)}"),)
        rows.append(Row(name_of(trial), mean, (mean - error, mean + error), colour_of(trial), more=more))
    title = data["losses"]["title"] + (": left is better" if data["losses"]["less_is_better"] else ": right is better")
    return dots("Each loss on the folds, with standard errors", rows, lambda value: number(value, 4), title)


def differences(data: Data) -> Markup:
    """From cross-entropy on the same folds."""
    rows = []
    for trial in data["losses"]["trials"]:
        if trial["difference"] is not None:
            mean, error = trial["difference"]
            rows.append(Row(name_of(trial), mean, (mean - 2 * error, mean + 2 * error), colour_of(trial)))
    title = (
        "difference: left of 0 is better" if data["losses"]["less_is_better"] else "difference: right of 0 is better"
    )
    return dots("Differences from cross-entropy", rows, lambda value: number(value, 2), title, zero=True)


# -- columns

SHOWN = 12


SKEWED = 4.0  # how much longer the upper half of the rows is than the lower, where the axis is logarithmic


def importance(data: Data) -> Markup:
    rows = [
        Row(one["column"], one["loss"], tuple(one["interval"]), "blue" if one["interval"][0] > 0 else "plain")
        for one in data["columns"]["importances"][:SHOWN]
    ]
    title = "rise of the log loss"
    return dots("What shuffling a column costs", rows, lambda value: number(value, 2), title, zero=True, beside=True)


def told_by(effect: Data) -> Callable[[float], str]:
    """How a value of a column is written on an axis."""
    if effect["part"] == "weekday":
        return lambda value: WEEKDAYS[int(value)] if value == int(value) and 1 <= value <= 7 else ""
    if effect["part"] == "month":
        return lambda value: MONTHS[int(value)] if value == int(value) and 1 <= value <= 12 else ""
    if effect["part"] == "days":
        return lambda value: (dt.date(1970, 1, 1) + dt.timedelta(days=int(value))).strftime("%b %Y")
    return compact


def compact(value: float) -> str:
    """A value of a column: 2013 and not 2,013, 350k and 1.5M."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= max(unit, 1e5):
            return number(value / unit) + letter
    return number(value, 5).replace(",", "")


def effect_name(effect: Data) -> str:
    return effect["column"] + (f" ({effect['part']})" if effect["part"] else "")


def axis_name(effect: Data) -> str:
    missing = f", {percent(effect['missing'], 2)} missing" if effect["missing"] >= 0.001 else ""
    return trimmed(effect_name(effect), 34) + missing


def effects(data: Data) -> list[Markup]:
    """On one scale, so that they can be compared."""
    drawn = data["columns"]["effects"]
    if not drawn:
        return []
    everything = [min(max(value, 0.0), 1.0) for effect in drawn for value in effect["probabilities"]]
    _, high = domain_of(everything, zero=True)
    return [effect_chart(effect, min(high, 1.0)) for effect in drawn]


def effect_chart(effect: Data, high: float) -> Markup:
    values, chances = effect["values"], effect["probabilities"]
    names = effect["names"] or (["false", "true"] if effect["kind"] == "boolean" and len(values) == 2 else None)
    if names is not None:
        return category_chart(effect, names, high)
    height = 220
    label = f"How the probability moves with {effect_name(effect)}"
    middle = values[len(values) // 2]
    skewed = values[0] > 0 and not effect["part"] and values[-1] - middle > SKEWED * (middle - values[0])
    chart = plot(label, across(values[0], values[-1], skewed), upwards(0, high, height), height)
    chart.y_axis(whole, "probability", 4)
    about = 7 if effect["part"] == "weekday" else 6 if effect["part"] else 5
    chart.x_axis(told_by(effect), axis_name(effect), 3 if effect["part"] == "days" else about)
    chart.line(list(zip(values, chances, strict=True)), "curve blue")
    steps = effect["rows"][0] == 0  # from quantile to quantile, with as many rows in each
    for value, chance, share in zip(values, chances, effect["rows"], strict=True):
        words = f"{told_by(effect)(value) or number(value)}: {percent(chance)}"
        chart.mark((value, chance), "circle", "mark blue", words, 2.5 if steps else size_of(share))
    return chart.svg()


def size_of(share: float) -> float:
    """Of a dot for so many of the rows."""
    return 2.5 + 4 * math.sqrt(max(share, 0.0))


def category_chart(effect: Data, names: Sequence[str], high: float) -> Markup:
    row, top = 20, 20
    height = max(220, top + row * len(names) + BOTTOM)
    begin = min(150, 20 + 7.5 * max(len(trimmed(name, 18)) for name in names))
    x = Scale(0, high, begin, WIDTH - 14)
    bottom = top + row * len(names)
    chart = Chart(f"How the probability moves with {effect['column']}", height, x, Scale(0, bottom - top, bottom, top))
    chart.x_axis(whole, axis_name(effect), 3, grid=True)
    for k, (name, chance, share) in enumerate(zip(names, effect["probabilities"], effect["rows"], strict=True)):
        y = bottom - top - row * (len(names) - k - 0.5)
        chart.text((0, y), trimmed(name, 18), "", "end", -8, 4)
        chart.segment((0, y), (chance, y), "stem")
        chart.mark(
            (chance, y),
            "circle",
            "mark blue",
            f"{name}: {percent(chance)}; {percent(share)} of the rows",
            size_of(share),
        )
    return chart.svg()


# -- classes

CLASSES = 20


def classes(data: Data) -> Markup:
    """The average precision of each class, the rarest first; a tick is what chance reaches."""
    results, names, winner = data["classes"]["results"], data["target"]["classes"], data["verdict"]["winner"]
    rarest = sorted(range(len(names)), key=lambda k: results[winner][k]["rows"])[:CLASSES]
    rows = []
    for label in rarest:
        own = results[winner][label]
        more = [(own["share"], "tick", "soft", f"chance: {percent(own['share'])}")]
        for other, result in results.items():
            if other != winner:
                value = result[label]["average_precision"]
                more.append((value, "diamond", "hollow red", f"{other}: {number(value)}"))
        rows.append(Row(names[label], own["average_precision"], None, "blue", counted(own["rows"], "row"), tuple(more)))
    title = "average precision"
    return dots("Average precision of each class", rows, lambda value: number(value, 2), title, domain=(0, 1))
