"""`parfocal fit`: from a table to a folder that `parfocal predict` can use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Console

from parfocal.app import files, plots, report
from parfocal.app.metrics import TITLES, best_f1_threshold, scores
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


@dataclass(frozen=True, eq=False)
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
class Curve:
    """What a candidate says of the final test, raw or recovered."""

    candidate: Candidate
    recovered: bool
    probabilities: np.ndarray
    scores: dict[str, float]

    @property
    def name(self) -> str:
        if self.candidate == CROSS_ENTROPY:
            return self.candidate.name
        return f"{self.candidate.name}, {'recovered' if self.recovered else 'raw'}"


def fit(options: Options, console: Console, progress_console: Console) -> None:
    files.check_free(
        options.out, options.force, is_model_or_empty, "a parfocal model with nothing else in it, nor an empty folder"
    )
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
        winner = choose(trials, options.select)
        finalists = choose_finalists(trials, winner, options.select)
        chosen = [(trial.candidate, trial.mean_rounds) for trial in finalists]
        finals = fit_finally(chosen, rows.part(split.training), options.seed, advance)
    report.print_trials(console, trials, winner, options.select, split)

    test = rows.part(split.test)
    curves = [curve for final in finals for curve in judge(final, test)]
    report.print_test(console, curves, winner.candidate, test)

    threshold = threshold_from_folds(winner, rows, split)
    verdict = [
        compare(trials[0], rival, winner, curves, test, options, split).sentence
        for rival in sorted(finalists[1:], key=lambda trial: trial is not winner)
    ]
    report.print_verdict(console, verdict)

    facts = fit_record(options, trials, winner, curves, verdict, sample, split)
    model = to_model(finals[finalists.index(winner)], sample, threshold, facts)
    title = f"{options.roles.target} = {sample.target.positive}: the final test of {len(test.labels):,} rows"
    write_model(model, plots.draw_report(test.labels, test.weights, curves, title), options.out)
    report.print_folder(console, options.table, options.out, threshold, sample.target)


def in_fold_order(fits: Sequence[FoldFit], candidate: Candidate) -> list[FoldFit]:
    return sorted((fit for fit in fits if fit.candidate == candidate), key=lambda fit: fit.fold)


def choose(trials: Sequence[Trial], select: Metric) -> Trial:
    """The best mean over folds of recovered probabilities; of equals the first, which is the simpler."""
    return max(trials, key=lambda trial: select.sign * float(trial.per_fold(select).mean()))


def choose_finalists(trials: Sequence[Trial], winner: Trial, select: Metric) -> list[Trial]:
    """Who meets on the final test: cross-entropy, the best focal loss (what the user asks about), and the winner."""
    focal = [trial for trial in trials if trial.candidate.gamma > 0]
    asked_about = choose(focal or trials[1:], select)
    return list(dict.fromkeys([trials[0], asked_about, winner]))


def judge(final: FinalFit, test: Rows) -> list[Curve]:
    """The final test of a fit, by raw scores and by recovered probabilities, which are one for cross-entropy."""
    kinds = [(True, final.probabilities(test.matrix))]
    if final.candidate != CROSS_ENTROPY:
        kinds.insert(0, (False, final.raw_probabilities(test.matrix)))
    return [
        Curve(final.candidate, recovered, said, scores(test.labels, said, test.weights)) for recovered, said in kinds
    ]


def threshold_from_folds(winner: Trial, rows: Rows, split: Split) -> float:
    """The threshold with the best F1 on the validation rows of all folds: the final test must not choose it."""
    validation = rows.part(np.concatenate([fold.validation for fold in split.folds]))
    probabilities = np.concatenate([fit.probabilities for fit in winner.fits])
    return best_f1_threshold(validation.labels, probabilities, validation.weights)


def compare(
    baseline: Trial,
    rival: Trial,
    winner: Trial,
    curves: Sequence[Curve],
    test: Rows,
    options: Options,
    split: Split,
) -> Comparison:
    """The rival against cross-entropy, on the folds and on the final test."""
    metric = options.select
    of_rival, of_baseline = (
        next(curve for curve in curves if curve.candidate == trial.candidate and curve.recovered)
        for trial in (rival, baseline)
    )
    blocks = resampling_blocks(len(test.labels), split.by_time)
    interval = bootstrap_interval(
        metric,
        test.labels,
        of_rival.probabilities,
        of_baseline.probabilities,
        test.weights,
        blocks,
        options.seed,
    )
    return Comparison(
        metric=metric,
        rival=rival.candidate.name,
        winner=winner.candidate.name,
        fold_differences=rival.per_fold(metric) - baseline.per_fold(metric),
        test_difference=of_rival.scores[metric] - of_baseline.scores[metric],
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


def fit_record(
    options: Options,
    trials: Sequence[Trial],
    winner: Trial,
    curves: Sequence[Curve],
    verdict: Sequence[str],
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
        "verdict": " ".join(verdict),
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
        "final_test": {curve.name: curve.scores for curve in curves},
    }
