"""The candidates on the folds: their calibration, a race, and the choice between them.

(a) Probabilities are calibrated before they are compared, because a model delivers calibrated ones.  Those of a
    fold come from a `Calibrator` fitted on the other folds, so no row calibrates itself.
(b) In a race all candidates train on one fold.  Those that lose by more than two standard errors are dropped.
    Only there is a candidate calibrated on the rows that judge it.
(c) The best of many looks better than it is.  So of the candidates within one standard error of the best, by
    the paired differences over folds, the simplest is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parfocal.app.options import Metric
from parfocal.app.study.candidates import Candidate
from parfocal.app.study.metrics import score, scores
from parfocal.app.study.training import FoldResult, Folds, in_threads, quiet
from parfocal.app.study.verdict import bootstrap_differences, mean_and_error
from parfocal.boosters import Rows, focal_loss
from parfocal.calibrator import Calibrator

RACE_ERRORS = 2.0
RACE_RESAMPLES = 100

RAW, RECOVERED, CALIBRATED = "raw", "recovered", "calibrated"


@dataclass(frozen=True, eq=False)
class Trial:
    """A candidate and its results on all folds, in their order."""

    candidate: Candidate
    fits: list[FoldResult]
    calibrated: list[np.ndarray]  # probabilities of each fold's validation rows, by a calibrator of the other folds
    calibrated_scores: list[dict[str, float]]

    def per_fold(self, metric: str, kind: str = CALIBRATED) -> np.ndarray:
        of_folds = {
            RAW: [fit.raw_scores for fit in self.fits],
            RECOVERED: [fit.recovered_scores for fit in self.fits],
            CALIBRATED: self.calibrated_scores,
        }[kind]
        return np.array([of_fold[metric] for of_fold in of_folds])

    def mean(self, metric: Metric) -> float:
        """The mean over folds, with the sign that makes more better."""
        return metric.sign * float(self.per_fold(metric).mean())

    @property
    def mean_rounds(self) -> int:
        return round(float(np.mean([fit.rounds for fit in self.fits])))

    def forgotten(self) -> Trial:
        """Without the values of each row, which only finalists need, to save memory."""
        return replace(self, fits=[replace(fit, logits=np.empty(0)) for fit in self.fits], calibrated=[])


def to_trials(fits: Sequence[FoldResult], folds: Folds) -> list[Trial]:
    """A trial for each candidate, in their order."""
    found: dict[Candidate, list[FoldResult]] = {}
    for fit in fits:
        found.setdefault(fit.candidate, []).append(fit)
    return in_threads(lambda of_candidate, stop: to_trial(of_candidate, folds), list(found.values()))


def to_trial(fits: Sequence[FoldResult], folds: Folds) -> Trial:
    """The fits of a candidate on all folds, with calibrated probabilities."""
    fits = sorted(fits, key=lambda fit: fit.fold)
    parts = [folds.rows.without_features(fold.validation) for fold in folds.folds]
    calibrated = []
    for number, fit in enumerate(fits):
        others = [other for other in range(len(fits)) if other != number]
        labels, logits = (
            np.concatenate([parts[k].labels for k in others]),
            np.concatenate([fits[k].logits for k in others]),
        )
        weights = [parts[k].weights for k in others]
        together = None if parts[number].weights is None else np.concatenate([w for w in weights if w is not None])
        fitted = fitted_calibrator(folds.rows.classes, labels, logits, together)
        calibrated.append(np.asarray(fitted.posterior(fit.logits)))
    of_folds = [scores(part.labels, said, part.weights) for part, said in zip(parts, calibrated, strict=True)]
    return Trial(fits[0].candidate, fits, calibrated, of_folds)


@dataclass(frozen=True)
class Race:
    """The results of the candidates that a race left, and those that it dropped."""

    fits: list[FoldResult]
    dropped: list[Candidate]


def race(
    folds: Folds,
    tried: Sequence[Candidate],
    select: Metric,
    blocks_of: Sequence[np.ndarray],
    seed: int,
    expect: Callable[[int], None] = lambda steps: None,
) -> Race:
    """All candidates on the last fold, which by time has the most training rows; then the survivors on the others."""
    last = len(folds.folds) - 1
    fits = folds.fit(tried, [last])
    kept = survivors(fits, folds.rows.without_features(folds.folds[last].validation), select, blocks_of[last], seed)
    expect(len(tried) + len(kept) * last)
    fits = [fit for fit in fits if fit.candidate in kept] + folds.fit(kept, range(last))
    return Race(fits, [candidate for candidate in tried if candidate not in kept])


@quiet()
def survivors(fits: Sequence[FoldResult], rows: Rows, select: Metric, blocks: np.ndarray, seed: int) -> list[Candidate]:
    """Those within two standard errors of the best; and, for the verdict, plain cross-entropy and one focal loss."""
    said = {
        fit.candidate: np.asarray(
            fitted_calibrator(rows.classes, rows.labels, fit.logits, rows.weights).posterior(fit.logits)
        )
        for fit in fits
    }
    reached = {
        candidate: select.sign * score(select, rows.labels, of_candidate, rows.weights)
        for candidate, of_candidate in said.items()
    }
    best = max(reached, key=lambda candidate: reached[candidate])
    focal = [candidate for candidate in said if candidate.gamma > 0]
    kept = {candidate for candidate in said if candidate.is_plain} | {best}
    kept |= {max(focal, key=lambda candidate: reached[candidate])} if focal else set()
    for candidate in said.keys() - kept:
        differences = bootstrap_differences(
            select, rows.labels, said[candidate], said[best], rows.weights, blocks, seed, RACE_RESAMPLES
        )
        error = float(np.std(differences)) if len(differences) else np.inf
        if reached[best] - reached[candidate] <= RACE_ERRORS * error:
            kept.add(candidate)
    return [fit.candidate for fit in fits if fit.candidate in kept]


def best_of_each(trials: Sequence[Trial], select: Metric) -> list[Trial]:
    """The trial with the best settings of each loss and model."""
    best: dict[tuple[str, bool], Trial] = {}
    for trial in trials:
        key = trial.candidate.name, trial.candidate.linear
        if key not in best or trial.mean(select) > best[key].mean(select):
            best[key] = trial
    return list(best.values())


def choose(trials: Sequence[Trial], select: Metric) -> Trial:
    """The simplest trial within one standard error of the best; of equally simple ones the best."""
    best = max(trials, key=lambda trial: trial.mean(select))

    def close(trial: Trial) -> bool:
        worse, error = mean_and_error(select.sign * (best.per_fold(select) - trial.per_fold(select)))
        return worse <= error

    near = [trial for trial in trials if trial is best or close(trial)]
    return min(near, key=lambda trial: (trial.candidate.simplicity, -trial.mean(select)))


def choose_finalists(trials: Sequence[Trial], winner: Trial, select: Metric) -> list[Trial]:
    """The finalists: cross-entropy, the best focal loss, which the user asks about, and the winner.

    A search tries cross-entropy with many settings; the best of them represents it.
    """

    def best(some: Sequence[Trial]) -> Trial:
        return max(some, key=lambda trial: trial.mean(select))

    plain = [trial for trial in trials if trial.candidate.is_plain]
    others = [trial for trial in trials if not trial.candidate.is_plain]
    focal = [trial for trial in others if trial.candidate.gamma > 0]
    standing = winner if winner.candidate.is_plain else best(plain)
    return list(dict.fromkeys([standing, best(focal or others), winner]))


def fitted_calibrator(
    classes: int, labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None
) -> Calibrator:
    """Fitted with weights of mean 1, so that their unit does not change how much the calibrator's prior counts."""
    return calibrator(classes).fit(labels, logits, None if weights is None else weights / weights.mean())


def calibrator(classes: int) -> Calibrator:
    """A calibrator of posterior logits, which are the margins of cross-entropy."""
    return Calibrator(focal_loss(classes, 0.0, None, from_logits=True))
