"""What `--decide` can be given, read from its text.

f1  f2  f0.5          the best F-beta
cost:MISS,ALARM       the least cost, where a miss and a false alarm have their prices
recall:0.8            the fewest alarms that find this share of the positives
precision:0.5         the most positives found while this share of the alarms is right
alarms:5/1000         at most so many alarms among so many rows
alarms:100/day        at most so many alarms a day, on average
balanced              by multiples of the classes' shares in training
costs:FILE            more than two classes: a price for each pair of a true and a decided class
most-probable         more than two classes: the most probable one
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from parfocal.app.data.tables import is_csv, is_parquet, open_table
from parfocal.app.errors import BadInput, counted, listed, quoted, shown

PAGE = "docs/tables.md#decisions"
BALANCED, MOST_PROBABLE, COSTS = "balanced", "most-probable", "costs"
LARGEST = 1e9  # of a price and of a beta, and 1 over it the smallest: beyond it one of two prices means nothing


@dataclass(frozen=True)
class Rule:
    """How rows are decided, before any row is known."""

    text: str  # as `--decide` takes it
    kind: str  # f, cost, recall, precision, alarms, day, balanced, most-probable or costs
    numbers: tuple[float, ...] = ()
    costs: tuple[tuple[float, ...], ...] | None = None  # of costs:FILE: a row for each true class

    @property
    def words(self) -> str:
        """What it is after."""
        said = [f"{number:,.10g}" for number in self.numbers]
        alarms = f"alarm{'' if said[:1] == ['1'] else 's'}"
        return {
            "f": "the best F{}",
            "cost": "the least cost, where a miss costs {} and a false alarm {}",
            "recall": "a recall of {} at least",
            "precision": "a precision of {} at least",
            "alarms": f"{{}} {alarms} in {{}} rows at most",
            "day": f"{{}} {alarms} a day at most, on average",
            BALANCED: "the class with the largest probability, divided by its share in training",
            MOST_PROBABLE: "the most probable class",
            COSTS: "the class with the least expected cost",
        }[self.kind].format(*said)

    @property
    def prices(self) -> tuple[float, float] | None:
        """Of a miss and of a false alarm."""
        return (self.numbers[0], self.numbers[1]) if self.kind == "cost" else None

    def check_classes(self, classes: Sequence[str]) -> None:
        """Raise BadInput for a rule of two classes where there are more, or the other way round."""
        allowed = OF_TWO if len(classes) == 2 else OF_MORE
        if self.kind not in allowed:
            meant = f"cost{self.text.removeprefix(COSTS)}"  # costs:5,1
            hint = f"; did you mean {shown(meant)}?" if self.kind == COSTS and is_rule(meant) else ""
            raise refused(
                self.text, f"with {counted(len(classes), 'class')} it must be {one_of(allowed.values())}{hint}"
            )


OF_TWO = {
    "f": "f1 or f2",
    "cost": "cost:MISS,ALARM",
    "recall": "recall:0.8",
    "precision": "precision:0.5",
    "alarms": "alarms:5/1000",
    "day": "alarms:100/day",
    BALANCED: BALANCED,
}
OF_MORE = {MOST_PROBABLE: MOST_PROBABLE, BALANCED: BALANCED, COSTS: "costs:FILE.csv"}
ALL = {**OF_TWO, **OF_MORE}

NEEDS = {  # by the word before the colon
    "cost": "cost needs two numbers, of a miss and of an alarm: cost:5,1",
    "recall": "recall needs one number, the share of the positives to find: recall:0.8",
    "precision": "precision needs one number, the share of the alarms that are right: precision:0.5",
    "alarms": "alarms needs two numbers, of alarms and of rows, or one a day: alarms:5/1000 or alarms:100/day",
    BALANCED: f"{BALANCED} takes nothing after it",
    MOST_PROBABLE: f"{MOST_PROBABLE} takes nothing after it",
    COSTS: "costs needs a CSV file of costs: costs:FILE.csv",
}

DEFAULT_OF_TWO, DEFAULT_OF_MORE = Rule("f1", "f", (1.0,)), Rule(MOST_PROBABLE, MOST_PROBABLE)

NUMBER = r"(\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?)"
Check = Callable[[list[float]], str | None]  # what is wrong with the numbers


def default_rule(classes: int) -> Rule:
    return DEFAULT_OF_TWO if classes == 2 else DEFAULT_OF_MORE


def prices(numbers: list[float]) -> str | None:
    for what, number in zip(("a miss", "an alarm"), numbers, strict=True):
        if number == 0:
            return f"the cost of {what} is 0; it must be above 0"
    return above_zero(numbers)


def above_zero(numbers: list[float]) -> str | None:
    right = all(1 / LARGEST <= number <= LARGEST for number in numbers)
    return None if right else f"numbers must be {1 / LARGEST:g} to {LARGEST:,.0f}"


def share(numbers: list[float]) -> str | None:
    if 1 < numbers[0] <= 100:
        return f"the share must be above 0, and 1 at most; did you mean {numbers[0] / 100:g}?"
    return None if 0 < numbers[0] <= 1 else "the share must be above 0, and 1 at most"


def alarms_of_rows(numbers: list[float]) -> str | None:
    if not 0 < numbers[0] <= numbers[1] <= LARGEST:
        return "there must be more than 0 alarms, and not more than rows"
    return None


PATTERNS: dict[str, tuple[str, Check]] = {
    "f": (f"f{NUMBER}", above_zero),
    "cost": (f"cost:{NUMBER},{NUMBER}", prices),
    "recall": (f"recall:{NUMBER}", share),
    "precision": (f"precision:{NUMBER}", share),
    "alarms": (f"alarms:{NUMBER}/{NUMBER}", alarms_of_rows),
    "day": (f"alarms:{NUMBER}/day", above_zero),
    BALANCED: (BALANCED, lambda numbers: None),
    MOST_PROBABLE: (MOST_PROBABLE, lambda numbers: None),
}


def read_rule(text: str) -> Rule:
    """The rule of a text.  The table of costs:FILE is read later, when the classes are known: `with_costs`."""
    text = text.strip()
    if text.startswith(f"{COSTS}:") and text != f"{COSTS}:":
        return Rule(text, COSTS)
    for kind, (pattern, check) in PATTERNS.items():
        found = re.fullmatch(pattern, text, re.ASCII)
        if found:
            numbers = [float(number) for number in found.groups()]
            if wrong := check(numbers):
                raise refused(text, wrong)
            return Rule(text, kind, tuple(numbers))
    raise no_such_rule(text)


def is_rule(text: str) -> bool:
    try:
        read_rule(text)
    except BadInput:
        return False
    return True


def no_such_rule(text: str) -> BadInput:
    word, colon, rest = text.partition(":")
    if word in NEEDS:
        return refused(text, NEEDS[word], quoted)
    close = difflib.get_close_matches(word.lower(), ["f1", *NEEDS], n=1)
    if not close:
        return refused(text, f"there is no such rule; it must be {one_of(ALL.values())}", quoted)
    with_rest = f"{close[0]}{colon}{rest}"
    meant = with_rest if is_rule(with_rest) else ALL.get(close[0], close[0])
    return refused(text, f"there is no such rule; did you mean {shown(meant)}?", quoted)


def refused(text: str, why: str, named: Callable[[str], str] = shown) -> BadInput:
    """The error of a rule.  It ends with the page that explains rules, unless one on a file of costs names a page."""
    page = "" if "(docs/" in why else f" ({PAGE})"
    return BadInput(f"--decide {named(text)}: {why}{page}")


def one_of(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}"


def with_costs(rule: Rule, classes: Sequence[str]) -> Rule:
    """The rule that fits these classes, with the prices of its file.  Raises BadInput for what cannot be."""
    rule.check_classes(classes)
    if rule.kind != COSTS:
        return rule
    try:
        table = read_costs(Path(rule.text.removeprefix(f"{COSTS}:")), classes)
    except BadInput as error:
        raise refused(rule.text, str(error)) from error
    return Rule(rule.text, COSTS, costs=tuple(map(tuple, table.tolist())))


def read_costs(path: Path, classes: Sequence[str]) -> np.ndarray:
    """(classes, classes): what it costs that a row of a class, down, is decided for a class, across."""
    if not (path.exists() or is_csv(path) or is_parquet(path)):  # costs:5,1
        raise BadInput(f"{COSTS} takes a CSV file with a cost for each pair of classes, and there is no file {path}")
    table = open_table(path)
    frame = table.read(table.names)
    true = [str(name).strip() if name is not None else "" for name in frame[frame.columns[0]]]
    decided = [name.strip() for name in frame.columns[1:]]
    for what, names in (("first column", true), ("first line, from its second field on,", decided)):
        if sorted(names) != sorted(classes):
            known, has = listed(map(quoted, classes)), listed(map(quoted, names)) or "none"
            raise BadInput(f"the {what} must name each class once ({known}); it has {has}")
    costs = np.empty((len(classes), len(classes)))
    for row, name in enumerate(true):
        for place, other in enumerate(decided, 1):
            given = frame[frame.columns[place]][row]
            costs[classes.index(name), classes.index(other)] = price(given, f"{name}, {other}")
    return costs


def price(given: object, where: str) -> float:
    text = "" if given is None else str(given).strip()
    try:
        number = math.nan if "_" in text else float(text)
    except ValueError:
        number = math.nan
    if not abs(number) <= LARGEST:
        raise BadInput(
            f"{where}: the price is {repr(text) if text else 'missing'}; it must be a number such as 2.5, "
            f"{LARGEST:,.0f} at most"
        )
    return number
