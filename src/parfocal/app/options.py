"""What `parfocal fit` can be asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from parfocal.app.data.columns import AS_IT_IS, Reading
from parfocal.app.data.roles import Roles
from parfocal.app.errors import BadInput
from parfocal.app.model.rules import Rule, refused

LARGEST_GAMMA = 50.0  # beyond it the curvature underflows for all but the worst samples, and nothing is learnt


class Metric(StrEnum):
    """The metric that chooses the winner."""

    average_precision = "average_precision"
    log_loss = "log_loss"
    brier = "brier"

    @property
    def sign(self) -> int:
        """1 if more is better, -1 if less is."""
        return 1 if self is Metric.average_precision else -1


class EngineName(StrEnum):
    """The library that grows the trees, or linear models alone."""

    lightgbm = "lightgbm"
    xgboost = "xgboost"
    catboost = "catboost"
    linear = "linear"


class Dates(StrEnum):
    """How 1/2/2013 is read."""

    day_first = "day-first"
    month_first = "month-first"


class Decimal(StrEnum):
    """The decimal mark."""

    point = "point"
    comma = "comma"


def reading_of(missing: Sequence[str], decimal: Decimal | None, dates: Dates | None) -> Reading:
    marks = {None: None, Decimal.point: ".", Decimal.comma: ","}
    return Reading(tuple(missing), marks[decimal], None if dates is None else dates is Dates.month_first)


@dataclass(frozen=True)
class Options:
    """Without gammas and alphas the usual ones are tried; with a budget, in seconds, they are searched for."""

    table: Path
    out: Path
    roles: Roles
    gammas: Sequence[float] = ()
    alphas: Sequence[float] = ()
    engine: EngineName = EngineName.lightgbm
    reading: Reading = AS_IT_IS
    budget: float | None = None
    select: Metric = Metric.log_loss
    fast: bool = False
    refit: bool = False
    rules: tuple[Rule, ...] = ()
    seed: int = 0
    force: bool = False

    def check(self) -> None:
        """Raise what is wrong whatever the table holds."""
        for gamma in self.gammas:
            if not 0 <= gamma <= LARGEST_GAMMA:
                raise BadInput(
                    f"--gamma {gamma:g}: gamma must be a number from 0 to {LARGEST_GAMMA:g}; 0 is cross-entropy, 1 to "
                    "3 are usual"
                )
        for alpha in self.alphas:
            if not 0 < alpha < 1:
                raise BadInput(f"--alpha {alpha:g}: alpha must lie between 0 and 1; it is the weight of positives")
        for rule in self.rules:
            if rule.kind == "day" and self.roles.time is None:
                raise refused(rule.text, "alarms a day need days; name a column of dates with --time")
        given = "--gamma" if self.gammas else "--alpha" if self.alphas else None
        if self.budget is not None and given:
            raise BadInput(f"--budget and {given}: a budget is spent on searching them; leave one of the two out")
        if self.budget is not None and self.fast:
            raise BadInput("--budget and --fast: one spends more time, the other less; leave one of the two out")


def seconds(budget: str) -> float:
    """A time such as 90s, 5m or 1h30m."""
    parts = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", budget.strip())
    amounts = [int(part or 0) for part in parts.groups()] if parts else [0]
    total = float(sum(amount * unit for amount, unit in zip(amounts, (3600, 60, 1), strict=False)))
    if not parts or not 0 < total < 10**7:
        raise BadInput(f"--budget {budget}: give a time such as 90s, 5m or 1h30m")
    return total
