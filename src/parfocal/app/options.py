"""What the command line can ask of a fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from parfocal.app.errors import BadInput

DEFAULT_GAMMAS = (1.0, 2.0)
DEFAULT_ALPHAS = (0.25, 0.5)
LARGEST_GAMMA = 50.0  # beyond, the curvature of all but the worst samples underflows, and nothing is learnt


class Metric(StrEnum):
    """What the winner may be chosen by."""

    average_precision = "average_precision"
    log_loss = "log_loss"
    brier = "brier"

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if self is Metric.average_precision else -1


@dataclass(frozen=True)
class Roles:
    """What the options say about columns."""

    target: str
    positive: str | None = None
    drop: tuple[str, ...] = ()
    weight: str | None = None
    time: str | None = None


@dataclass(frozen=True)
class Options:
    table: Path
    out: Path
    roles: Roles
    gammas: Sequence[float] = DEFAULT_GAMMAS
    alphas: Sequence[float] = DEFAULT_ALPHAS
    select: Metric = Metric.average_precision
    seed: int = 0
    force: bool = False


def check_grid(gammas: Sequence[float], alphas: Sequence[float]) -> None:
    for gamma in gammas:
        if not 0 <= gamma <= LARGEST_GAMMA:
            raise BadInput(
                f"--gamma {gamma:g}: gamma must be a number from 0 to {LARGEST_GAMMA:g}; 0 is cross-entropy, 1 to 3 "
                "are usual"
            )
    for alpha in alphas:
        if not 0 < alpha < 1:
            raise BadInput(f"--alpha {alpha:g}: alpha must lie between 0 and 1; it is the weight of positives")
