"""What decisions do, as a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from parfocal.app.errors import escaped, shown
from parfocal.app.model.decisions import NEVER, Decision
from parfocal.app.model.outcomes import Decided, Outcome
from parfocal.app.tell.tables import Numbers

HEADINGS = {
    "recall": "recall",
    "precision": "precision",
    "accuracy": "share\nright",
    "mean_recall": "mean\nrecall",
    "alarms_per_1000": "alarms\nper 1,000",
    "alarms_per_day": "alarms\na day",
    "cost_per_1000": "cost\nper 1,000",
}
LEAST_RULE = 28  # every rule but one with a long path has room


def print_decisions(console: Console, found: Sequence[Decided], target: str, classes: Sequence[str]) -> None:
    """Each decision: what it will give on new rows with its interval, what it gave on the final test."""
    measures = [name for name in HEADINGS if any(name in one.folds.measures for one in found)]
    table = Numbers("Decisions, chosen on the folds", "  rule", LEAST_RULE, [HEADINGS[name] for name in measures])
    for number, one in enumerate(found):
        usual = number == 0
        table.add(("* " if usual else "  ") + escaped(one.rule.text), style="bold" if usual else "")
        table.add("    to expect", [cell(one.folds, name) for name in measures])
        table.add(Text("    95 % interval", style="dim"), [ends(one.folds, name) for name in measures])
        table.add("    final test", [cell(one.test, name) for name in measures])
    table.print(console)
    for one in found:
        for sentence in sentences(one, target, classes):
            console.print(Text(sentence))
    if len(found) > 1:
        console.print(Text("* decides where predict is not told otherwise", style="dim"))
    console.print()


# Deciding without a model.
BASELINES = {
    "no_alarm": "no alarm at all",
    "every_row": "an alarm for every row",
    "one_class": "the cheapest class for every row",
}


def sentences(one: Decided, target: str, classes: Sequence[str]) -> list[str]:
    """How rows are decided, in words; and what deciding without a model costs."""
    said = [f"{escaped(one.rule.text)}: {how(one.decision, target, classes)}."]
    if one.folds.baselines:
        costs = [f"{BASELINES[name]} would cost {number(cost)}" for name, cost in one.folds.baselines.items()]
        tested = " and ".join(map(number, one.test.baselines.values()))
        said.append(f"Per 1,000 rows {', '.join(costs)}; on the final test {tested}.")
    return said


def how(decision: Decision, target: str, classes: Sequence[str]) -> str:
    words = decision.words
    if decision.threshold is None:
        return f"each row gets {words}"
    decided = f"{shown(target)} = {shown(classes[1])}"
    if decision.threshold == NEVER:
        why = "; more rows than that share the highest probability" if decision.rule.kind in ("alarms", "day") else ""
        return f"no row is decided as {decided} ({words}{why})"
    return f"{decided} from a probability of {decision.threshold:.4g} on ({words})"


def cell(outcome: Outcome, name: str) -> str:
    return number(outcome.measures[name]) if name in outcome.measures else ""


def ends(outcome: Outcome, name: str) -> Text:
    low, high = outcome.intervals.get(name, (math.nan, math.nan))
    if math.isnan(low):
        return Text("")
    return Text(f"{number(low, 2)} to {number(high, 2)}", style="dim")


def number(value: float, digits: int = 3) -> str:
    """Two or three digits, and no more than four decimals; "none" where there is nothing to tell."""
    if math.isnan(value):
        return "none"
    rounded = float(f"{float(f'{value:.4f}'):.{digits}g}") + 0.0  # never -0
    if abs(rounded) < 10 ** (digits - 1):
        return f"{rounded:.{digits}g}"
    return f"{value:,.0f}"
