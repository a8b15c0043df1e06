"""Whether another loss beats cross-entropy by more than noise.

Two judges must agree: the differences between both on the same folds (more than two standard errors), and the
difference on the final test (a 95 % bootstrap interval that excludes 0).  The rival was chosen by the folds, so their
difference flatters it; the final test was seen by no choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from parfocal.app.metrics import TITLES, weighted_scorer
from parfocal.app.options import Metric

RESAMPLES = 500
TIME_BLOCKS = 50


@dataclass(frozen=True)
class Comparison:
    """The best other loss minus cross-entropy, in the metric's own units."""

    metric: Metric
    rival: str
    fold_differences: np.ndarray
    test_difference: float
    test_interval: tuple[float, float]

    @property
    def rival_wins(self) -> bool:
        """Chosen by the folds alone; cross-entropy, the simpler, is kept when both are equal."""
        return self.metric.sign * float(self.fold_differences.mean()) > 0

    @property
    def beyond_noise(self) -> bool:
        mean, error = mean_and_error(self.metric.sign * self.fold_differences)
        worst_on_test = min(self.metric.sign * end for end in self.test_interval)
        return mean > 2 * error and worst_on_test > 0

    @property
    def sentence(self) -> str:
        mean, error = mean_and_error(self.fold_differences)
        low, high = self.test_interval
        evidence = (
            f"{TITLES[self.metric]} {mean:+.4f} ± {error:.4f} over {len(self.fold_differences)} folds, "
            f"{self.test_difference:+.4f} on the final test (95 % interval {low:+.4f} to {high:+.4f})"
        )
        if self.metric.sign < 0:
            evidence += "; less is better"
        if not self.rival_wins:
            return f"Cross-entropy won, focal loss bought nothing here; the next best was {self.rival}: {evidence}."
        if self.beyond_noise:
            return f"The winner, {self.rival}, beats cross-entropy by more than noise: {evidence}."
        return f"The winner, {self.rival}, does not beat cross-entropy by more than noise: {evidence}."


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """The mean and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def resampling_blocks(rows: int, by_time: bool) -> np.ndarray:
    """What the bootstrap draws: rows, or by time about 50 stretches of them, because neighbours share their storm."""
    numbers = np.arange(rows)
    return numbers * TIME_BLOCKS // rows if by_time and rows > TIME_BLOCKS else numbers


def bootstrap_interval(
    metric: Metric,
    labels: np.ndarray,
    rival: np.ndarray,
    baseline: np.ndarray,
    weights: np.ndarray | None,
    blocks: np.ndarray,
    seed: int,
) -> tuple[float, float]:
    """The 95 % interval of the rival minus the baseline: both are scored on the same resamples."""
    generator = np.random.default_rng(seed)
    of_rival, of_baseline = (weighted_scorer(metric, labels, probabilities) for probabilities in (rival, baseline))
    count = int(blocks.max()) + 1
    differences: list[float] = []
    for _ in range(RESAMPLES):
        drawn = np.bincount(generator.integers(count, size=count), minlength=count)[blocks].astype(np.float64)
        if weights is not None:
            drawn *= weights
        if drawn @ labels > 0:  # without any positive nothing can be said
            differences.append(of_rival(drawn) - of_baseline(drawn))
    low, high = np.quantile(differences, [0.025, 0.975])
    return float(low), float(high)
