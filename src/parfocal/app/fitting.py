"""`parfocal fit`: from a table to a folder that `parfocal predict` can use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Console

from parfocal.app import files, plots, report
from parfocal.app.metrics import TITLES, best_f1_threshold, score, scores
from parfocal.app.model import Model, is_model_or_empty, write_model
from parfocal.app.options import Metric, Options, check_grid
from parfocal.app.progress import progress
from parfocal.app.sample import Sample, read_sample
from parfocal.app.splits import Split, split_by_class, split_by_time
from parfocal.app.tables import open_table
from parfocal.app.training import (
    CROSS_ENTROPY,
    Candidate,
    FinalFit,
    FoldFit,
    Rows,
    candidates,
    fit_finally,
    fit_folds,
)
from parfocal.app.verdict import Comparison, bootstrap_interval, resampling_blocks


@dataclass(frozen=True)
class Trial:
    """A candidate and its fits, in the order of folds."""

    candidate: Candidate
    fits: list[FoldFit]

    def per_fold(self, metric: str, recovered: bool = True) -> np.ndarray:
        return np.array([(fit.recovered_scores if recovered else fit.raw_scores)[metric] for fit in self.fits])

    @property
    def mean_rounds(self) -> int:
        return round(float(np.mean([fit.rounds for fit in self.fits])))


@dataclass(frozen=True)
class FinalTest:
    """Probabilities of the final test."""

    baseline: np.ndarray
    rival_raw: np.ndarray
    rival: np.ndarray

    def named(self, rival: str) -> dict[str, np.ndarray]:
        return {
            CROSS_ENTROPY.name: self.baseline,
            f"{rival}, raw": self.rival_raw,
            f"{rival}, recovered": self.rival,
        }


def fit(options: Options, console: Console, progress_console: Console) -> None:
    files.check_free(options.out, options.force, is_model_or_empty, "a parfocal model or an empty folder")
    check_grid(options.gammas, options.alphas)
    table = open_table(options.table)
    sample = read_sample(table, options.roles)
    if sample.times is None:
        split = split_by_class(sample.labels, options.seed)
    else:
        split = split_by_time(sample.times, sample.labels)
    sample = sample.learn_categories(split.training)
    report.print_sample(console, table, sample, split, options.roles)

    rows = Rows(sample.matrix(), sample.labels, sample.weights, sample.categorical)
    tried = candidates(options.gammas, options.alphas)
    with progress(progress_console, "comparing losses", len(tried) * len(split.folds) + 2) as advance:
        fits = fit_folds(tried, rows, split, options.select, options.seed, advance)
        trials = [Trial(candidate, in_fold_order(fits, candidate)) for candidate in tried]
        # Cross-entropy and its best rival meet on the final test; the better one of the two is the winner.
        finalists = baseline, rival = trials[0], choose(trials[1:], options.select)
        winner = choose(finalists, options.select)
        chosen = [(trial.candidate, trial.mean_rounds) for trial in finalists]
        finals = fit_finally(chosen, rows.part(split.training), options.seed, advance)
    report.print_trials(console, trials, winner, options.select, split)

    test = rows.part(split.test)
    curves = FinalTest(
        baseline=finals[0].probabilities(test.matrix),
        rival_raw=finals[1].raw_probabilities(test.matrix),
        rival=finals[1].probabilities(test.matrix),
    )
    named_curves = curves.named(rival.candidate.name)
    test_scores = {name: scores(test.labels, curve, test.weights) for name, curve in named_curves.items()}
    report.print_test(console, test_scores, test)

    threshold = threshold_from_folds(winner, rows, split)
    verdict = compare(baseline, rival, curves, test, options, split).sentence
    report.print_verdict(console, verdict)

    facts = told(options, trials, winner, test_scores, verdict, sample, split)
    model = to_model(finals[finalists.index(winner)], sample, threshold, facts)
    title = f"{options.roles.target} = {sample.target.positive}: the final test of {len(test.labels):,} rows"
    write_model(model, plots.draw_report(test.labels, test.weights, named_curves, title), options.out)
    report.print_folder(console, options.table, options.out, threshold, sample.target)


def in_fold_order(fits: Sequence[FoldFit], candidate: Candidate) -> list[FoldFit]:
    return sorted((fit for fit in fits if fit.candidate == candidate), key=lambda fit: fit.fold)


def choose(trials: Sequence[Trial], select: Metric) -> Trial:
    """The best mean over folds of recovered probabilities; of equals the first, which is the simpler."""
    return max(trials, key=lambda trial: select.sign * float(trial.per_fold(select).mean()))


def threshold_from_folds(winner: Trial, rows: Rows, split: Split) -> float:
    """The threshold with the best F1 on the validation rows of all folds: the final test must not choose it."""
    validation = rows.part(np.concatenate([fold.validation for fold in split.folds]))
    probabilities = np.concatenate([fit.probabilities for fit in winner.fits])
    return best_f1_threshold(validation.labels, probabilities, validation.weights)


def compare(baseline: Trial, rival: Trial, curves: FinalTest, test: Rows, options: Options, split: Split) -> Comparison:
    """The rival against cross-entropy, on the folds and on the final test."""
    metric = options.select
    on_test = [score(metric, test.labels, curve, test.weights) for curve in (curves.rival, curves.baseline)]
    blocks = resampling_blocks(len(test.labels), split.by_time)
    interval = bootstrap_interval(
        metric, test.labels, curves.rival, curves.baseline, test.weights, blocks, options.seed
    )
    return Comparison(
        metric=metric,
        rival=rival.candidate.name,
        fold_differences=rival.per_fold(metric) - baseline.per_fold(metric),
        test_difference=on_test[0] - on_test[1],
        test_interval=interval,
    )


def to_model(final: FinalFit, sample: Sample, threshold: float, facts: dict[str, Any]) -> Model:
    return Model(
        booster=final.booster,
        target=sample.target.name,
        positive=sample.target.positive,
        negative=sample.target.negative,
        columns=sample.columns,
        gamma=final.candidate.gamma,
        alpha=float(final.loss.alpha),
        init_score=final.init_score,
        prior=final.prior,
        threshold=threshold,
        rounds=final.booster.current_iteration(),
        fit=facts,
    )


def told(
    options: Options,
    trials: Sequence[Trial],
    winner: Trial,
    test_scores: dict[str, dict[str, float]],
    verdict: str,
    sample: Sample,
    split: Split,
) -> dict[str, Any]:
    """How the model came to be, for model.json."""
    return {
        "table": str(options.table),
        "roles": asdict(options.roles),
        "left_out": sample.left_out,
        "selection_metric": options.select.value,
        "seed": options.seed,
        "rows": {"training": len(split.training), "final_test": len(split.test)},
        "winner": winner.candidate.name,
        "verdict": verdict,
        "candidates": [
            {
                "name": trial.candidate.name,
                "gamma": trial.candidate.gamma,
                "alpha": "balanced" if trial.candidate.alpha is None else trial.candidate.alpha,
                "rounds": [fit.rounds for fit in trial.fits],
                "raw": {metric: trial.per_fold(metric, recovered=False).tolist() for metric in TITLES},
                "recovered": {metric: trial.per_fold(metric).tolist() for metric in TITLES},
            }
            for trial in trials
        ],
        "final_test": test_scores,
    }
