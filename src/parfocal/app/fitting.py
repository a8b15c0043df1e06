"""`parfocal fit`: from a table to a folder that `parfocal predict` can use."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Console

from parfocal.app import files, plots, report
from parfocal.app.errors import BadInput, one_line
from parfocal.app.metrics import TITLES, best_f1_threshold, by_class, scores
from parfocal.app.model import Model, is_model_or_empty, write_model
from parfocal.app.options import Metric, Options
from parfocal.app.progress import progress
from parfocal.app.sample import Sample, read_sample
from parfocal.app.splits import Split, split_by_class, split_by_time
from parfocal.app.tables import open_table
from parfocal.app.training import Candidate, FinalFit, FoldFit, Folds, Rows, Training, candidates, fit_finally
from parfocal.app.verdict import Comparison, bootstrap_interval, resampling_blocks
from parfocal.engines import ENGINES, door


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
        if self.candidate.is_cross_entropy:
            return self.candidate.name
        return f"{self.candidate.name}, {'recovered' if self.recovered else 'raw'}"


def fit(options: Options, console: Console, progress_console: Console) -> None:
    began = time.monotonic()
    files.check_free(
        options.out, options.force, is_model_or_empty, "a parfocal model with nothing else in it, nor an empty folder"
    )
    options.check()
    check_engine(options.engine)
    table = open_table(options.table)
    sample = read_sample(table, options.roles)
    classes = sample.target.classes
    check_speed(options, len(classes))
    tried = [] if options.budget else candidates(options.gammas, options.alphas, len(classes))
    if sample.times is None:
        split = split_by_class(sample.labels, options.seed)
    else:
        split = split_by_time(sample.times, sample.labels, classes)
    sample = sample.learn_categories(split.training)
    report.print_sample(console, table, sample, split, options)

    rows = Rows(sample.matrix(), sample.labels, sample.weights, sample.categorical, len(classes))
    steps = None if options.budget else len(tried) * len(split.folds) + 2
    with progress(progress_console, "comparing losses", steps) as advance:
        training = Training(ENGINES[options.engine], options.seed, advance)
        folds = Folds.of(training, rows, split, options.select)
        fits = folds.fit(tried) if tried else searched(folds, options, len(classes), began)
        trials = to_trials(fits)
        winner = choose(trials, options.select)
        finalists = choose_finalists(trials, winner, options.select)
        chosen = [(trial.candidate, trial.mean_rounds) for trial in finalists]
        finals = fit_finally(training, chosen, rows.part(split.training))
    report.print_trials(console, trials, finalists, winner, options, split)

    test = rows.part(split.test)
    curves = [curve for final in finals for curve in judge(final, test)]
    report.print_test(console, curves, winner.candidate, test)
    thresholds = [threshold_from_folds(trial, rows, split) for trial in finalists]
    by_classes = {
        trial.candidate: by_class(test.labels, recovered(curves, trial).probabilities, threshold, test.weights)
        for trial, threshold in sorted(zip(finalists, thresholds, strict=True), key=lambda pair: pair[0] is not winner)
    }
    report.print_classes(console, classes, by_classes)

    verdict = [
        compare(finalists[0], rival, winner, curves, test, options, split).sentence
        for rival in sorted(finalists[1:], key=lambda trial: trial is not winner)
    ]
    report.print_verdict(console, verdict)

    place = finalists.index(winner)
    facts = fit_record(options, trials, winner, curves, verdict, sample, split) | {
        "by_class": {
            candidate.name: {name: asdict(result) for name, result in zip(classes, results, strict=True)}
            for candidate, results in by_classes.items()
        }
    }
    model = to_model(finals[place], sample, thresholds[place], facts)
    write_model(model, plots.draw_report(test, curves, sample.target, by_classes), options.out)
    report.print_folder(console, options, model)


def check_engine(name: str) -> None:
    try:
        door(str(name))
    except ModuleNotFoundError as error:
        raise BadInput(f"--engine {name}: {one_line(error)}") from error


def check_speed(options: Options, classes: int) -> None:
    """A table of 2,000 rows and three classes was not done after ten minutes."""
    if options.engine == "catboost" and classes > 2:
        raise BadInput(
            "--engine catboost: with more than two classes CatBoost asks Python about every row of every tree, which "
            "takes hours; use --engine lightgbm or xgboost, or set one class against the rest with --positive"
        )


def searched(folds: Folds, options: Options, classes: int, began: float) -> list[FoldFit]:
    from parfocal.app import search  # here, because Optuna takes a second to import

    assert options.budget is not None
    return search.search(folds, classes, options.select, options.seed, began + options.budget)


def to_trials(fits: Sequence[FoldFit]) -> list[Trial]:
    """The fits of each candidate, in the order of folds; candidates in the order in which they came."""
    found: dict[Candidate, list[FoldFit]] = {}
    for fit in fits:
        found.setdefault(fit.candidate, []).append(fit)
    return [Trial(candidate, sorted(fits, key=lambda fit: fit.fold)) for candidate, fits in found.items()]


def choose(trials: Sequence[Trial], select: Metric) -> Trial:
    """The best mean over folds of recovered probabilities; of equals the first, which is the simpler."""
    return max(trials, key=lambda trial: select.sign * float(trial.per_fold(select).mean()))


def choose_finalists(trials: Sequence[Trial], winner: Trial, select: Metric) -> list[Trial]:
    """Who meets on the final test: cross-entropy, the best focal loss (what the user asks about), and the winner.

    A search tries cross-entropy with many settings; the best of them stands for it.
    """
    plain = [trial for trial in trials if trial.candidate.is_cross_entropy]
    others = [trial for trial in trials if not trial.candidate.is_cross_entropy]
    focal = [trial for trial in others if trial.candidate.gamma > 0]
    return list(dict.fromkeys([choose(plain, select), choose(focal or others, select), winner]))


def recovered(curves: Sequence[Curve], trial: Trial) -> Curve:
    return next(curve for curve in curves if curve.candidate == trial.candidate and curve.recovered)


def judge(final: FinalFit, test: Rows) -> list[Curve]:
    """The final test of a fit, by raw scores and by recovered probabilities, which are one for cross-entropy."""
    kinds = [(True, final.probabilities(test.matrix))]
    if not final.candidate.is_cross_entropy:
        kinds.insert(0, (False, final.raw_probabilities(test.matrix)))
    return [Curve(final.candidate, kind, said, scores(test.labels, said, test.weights)) for kind, said in kinds]


def threshold_from_folds(trial: Trial, rows: Rows, split: Split) -> float | None:
    """The threshold with the best F1 on the validation rows of all folds: the final test must not choose it."""
    if rows.classes > 2:
        return None
    validation = rows.part(np.concatenate([fold.validation for fold in split.folds]))
    probabilities = np.concatenate([fit.probabilities for fit in trial.fits])
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
    of_rival, of_baseline = recovered(curves, rival), recovered(curves, baseline)
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


def to_model(final: FinalFit, sample: Sample, threshold: float | None, facts: dict[str, Any]) -> Model:
    return Model(
        booster=final.booster,
        engine=final.engine.name,
        target=sample.target.name,
        classes=sample.target.classes,
        columns=sample.columns,
        gamma=final.candidate.gamma,
        alpha=final.candidate.class_weights(final.prior),
        init_score=np.asarray(final.init_score).tolist(),
        prior=np.asarray(final.prior).tolist(),
        threshold=threshold,
        rounds=final.rounds,
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
        "budget_seconds": options.budget,
        "rows": {"training": len(split.training), "final_test": len(split.test)},
        "winner": winner.candidate.name,
        "settings": asdict(winner.candidate.settings),
        "verdict": " ".join(verdict),
        "candidates": [
            {
                "name": trial.candidate.name,
                "gamma": trial.candidate.gamma,
                "alpha": trial.candidate.alpha,
                "balance": trial.candidate.balance,
                "settings": asdict(trial.candidate.settings),
                "rounds": [fit.rounds for fit in trial.fits],
                "raw": {metric: trial.per_fold(metric, recovered=False).tolist() for metric in TITLES},
                "recovered": {metric: trial.per_fold(metric).tolist() for metric in TITLES},
            }
            for trial in trials
        ],
        "final_test": {curve.name: curve.scores for curve in curves},
    }
