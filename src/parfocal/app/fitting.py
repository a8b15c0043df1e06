"""`parfocal fit`: from a table to a folder that `parfocal predict` can use."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from rich.console import Console

from parfocal.app import files, plots, record, report
from parfocal.app.errors import BadInput
from parfocal.app.linear import check_installed
from parfocal.app.model import Model, calibration_of, check_texts, is_model_or_empty, write_model
from parfocal.app.names import features_of
from parfocal.app.options import Options
from parfocal.app.progress import Watch, progress
from parfocal.app.sample import Sample, read_sample
from parfocal.app.splits import split_by_class, split_by_time
from parfocal.app.study import Study, rows_of, study
from parfocal.app.tables import open_table
from parfocal.app.training import FinalFit, Training, fit_finally
from parfocal.boosters import Rows


def fit(options: Options, console: Console, progress_console: Console) -> None:
    began = time.monotonic()
    files.check_free(
        options.out, options.force, is_model_or_empty, "a parfocal model with nothing else in it, nor an empty folder"
    )
    options.check()
    check_installed(str(options.engine), f"--engine {options.engine}")
    table = open_table(options.table)
    sample = read_sample(table, options.roles, options.reading)
    classes = sample.target.classes
    check_speed(options, len(classes))
    if sample.times is None:
        split = split_by_class(sample.labels, options.seed, options.fast)
    else:
        split = split_by_time(sample.times, sample.labels, classes)
    learnt = sample.learn_categories(split.training)
    try:
        check_texts(learnt.target.name, classes, learnt.columns)  # what predict would refuse is better told now
    except ValueError as error:
        raise BadInput(f"{options.table}: {error}; leave the column out (--drop), or shorten it") from error
    report.print_sample(console, table, learnt, split, options)
    with progress(progress_console, "preparing the columns") as watch:
        rows, test = rows_of(learnt, split)
        if not options.refit:
            sample = learnt = replace(learnt, values={})  # the matrix has them
        found = study(options, learnt, split, rows, test, began, watch)
        final = refitted(found, sample, watch) if options.refit else found.winner.fit
    report.print_study(console, found)
    sample = sample.learn_categories(np.arange(len(sample.labels))) if options.refit else learnt
    model = to_model(found, final, sample)
    write_model(model, plots.draw_report(found), options.out, options.force)
    report.print_folder(console, options, model)


def check_speed(options: Options, classes: int) -> None:
    """A table of 2,000 rows and three classes was not done after ten minutes."""
    if options.engine == "catboost" and classes > 2:
        raise BadInput(
            "--engine catboost: with more than two classes CatBoost asks Python about every row of every tree, which "
            "takes hours; use --engine lightgbm or xgboost, or set one class against the rest with --positive"
        )


def refitted(found: Study, sample: Sample, watch: Watch) -> FinalFit:
    """The winner once more, on all rows, those of the final test too."""
    everything = sample.learn_categories(np.arange(len(sample.labels)))
    rows = Rows(
        everything.matrix(), everything.labels, everything.weights, everything.categorical, len(sample.target.classes)
    )
    watch.stage("training on all rows")
    training = Training(found.winner.fit.engine, found.options.seed, watch.advance)
    return fit_finally(training, [(found.winner.candidate, found.winner.trial.mean_rounds)], rows)[0]


def to_model(found: Study, final: FinalFit, sample: Sample) -> Model:
    return Model(
        booster=final.engine.named(final.booster, [feature.name for feature in features_of(sample.columns)]),
        engine=final.engine.name,
        target=sample.target.name,
        classes=sample.target.classes,
        columns=sample.columns,
        gamma=final.candidate.gamma,
        alpha=final.candidate.class_weights(final.prior),
        init_score=np.asarray(final.init_score).tolist(),
        prior=np.asarray(final.prior).tolist(),
        calibration=calibration_of(found.winner.calibrator),
        threshold=found.winner.threshold,
        rounds=final.rounds,
        fit=record.of(found),
    )
