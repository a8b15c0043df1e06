"""Whether another loss beats cross-entropy by more than noise.

Two tests must agree: the differences on the same folds (more than two standard errors) and the difference on the final
test (a 95 % bootstrap interval that excludes 0).  The rival was chosen on the folds, which therefore flatter it; no
choice used the final test.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from parfocal.app.errors import counted
from parfocal.app.options import Metric
from parfocal.app.study.candidates import CROSS_ENTROPY
from parfocal.app.study.metrics import TITLES, weighted_scorer

RESAMPLES = 500
TIME_BLOCKS = 50
FEWEST_FOR_INTERVAL = 10  # rows of the rarest class; an interval from two rows says nothing


@dataclass(frozen=True)
class Comparison:
    """Another loss minus cross-entropy, in the metric's own units."""

    metric: Metric
    rival: str
    winner: str  # the best on the folds: the rival, cross-entropy, or a third
    fold_differences: np.ndarray
    test_difference: float
    test_interval: tuple[float, float] | None  # None: the final test has too few rows of some class
    test_rarest: int  # how many it has of the rarest

    @property
    def beyond_noise(self) -> bool:
        if self.test_interval is None:
            return False
        mean, error = mean_and_error(self.metric.sign * self.fold_differences)
        worst_on_test = min(self.metric.sign * end for end in self.test_interval)
        return mean > 2 * error and worst_on_test > 0

    @property
    def evidence(self) -> str:
        mean, error = mean_and_error(self.fold_differences)
        if self.test_interval is None:
            digits = decimals(error, self.test_difference)
            interval = f"{counted(self.test_rarest, 'row')} of the rarest class are too few for an interval"
        else:
            low, high = self.test_interval
            digits = decimals(error, low, high)
            interval = f"95 % interval {low:+.{digits}f} to {high:+.{digits}f}"
        less = "; less is better" if self.metric.sign < 0 else ""
        folds = counted(len(self.fold_differences), "fold")
        return (
            f"{TITLES[self.metric]} {mean:+.{digits}f} ± {error:.{digits}f} over {folds}, "
            f"{self.test_difference:+.{digits}f} on the final test "
            f"({interval}){less}"
        )

    @property
    def sentence(self) -> str:
        if self.winner == self.rival:
            who = f"The winner, {self.rival},"
            if self.beyond_noise:
                return f"{who} beats cross-entropy by more than noise: {self.evidence}."
            return (
                f"{who} was better on the folds by more than a standard error, but it does not beat cross-entropy by "
                f"more than noise: {self.evidence}."
            )
        focal = self.rival.startswith("focal")
        if self.winner == CROSS_ENTROPY.name:
            if focal:
                won = "Cross-entropy was saved, focal loss bought nothing here; the best focal loss was"
                if self.beyond_noise:
                    won = (
                        "Cross-entropy was saved, which is simpler and within a standard error on the folds; on the "
                        "final test it lost to the best focal loss,"
                    )
                return f"{won} {self.rival}: {self.evidence}."
            return f"Cross-entropy was saved, and no focal loss was tried; the next was {self.rival}: {self.evidence}."
        who = f"The best focal loss, {self.rival}," if focal else f"{self.rival}"
        beats = "beats" if self.beyond_noise else "does not beat"
        return f"{who} {beats} cross-entropy by more than noise: {self.evidence}."


def decimals(*sizes: float) -> int:
    """Enough decimals for two digits of the smallest size that is not 0, and at least four."""
    smallest = min((abs(size) for size in sizes if size), default=1.0)
    return int(np.clip(1 - np.floor(np.log10(smallest)), 4, 8))


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """The mean and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def resampling_blocks(rows: int, by_time: bool) -> np.ndarray:
    """What the bootstrap draws: rows, or by time about 50 stretches of them, because neighbours share an event."""
    numbers = np.arange(rows)
    return numbers * TIME_BLOCKS // rows if by_time and rows > TIME_BLOCKS else numbers


def interval_of(differences: np.ndarray) -> tuple[float, float]:
    """The middle 95 %."""
    low, high = np.quantile(differences, [0.025, 0.975])
    return float(low), float(high)


def bootstrap_differences(
    metric: Metric,
    labels: np.ndarray,
    rival: np.ndarray,
    baseline: np.ndarray,
    weights: np.ndarray | None,
    blocks: np.ndarray,
    seed: int,
    resamples: int = RESAMPLES,
) -> np.ndarray:
    """The rival minus the baseline on the same resamples; those without any positive are left out."""
    generator = np.random.default_rng(seed)
    of_rival, of_baseline = (weighted_scorer(metric, labels, probabilities) for probabilities in (rival, baseline))
    count = int(blocks.max()) + 1
    differences: list[float] = []
    for _ in range(resamples):
        drawn = np.bincount(generator.integers(count, size=count), minlength=count)[blocks].astype(np.float64)
        if weights is not None:
            drawn *= weights
        difference = of_rival(drawn) - of_baseline(drawn)
        if not np.isnan(difference):
            differences.append(difference)
    return np.array(differences)
