"""`parfocal fit`: a table becomes a folder that `parfocal predict` and `parfocal.load_model` can use."""

from __future__ import annotations

import numpy as np
from rich.console import Console

from parfocal.app import files
from parfocal.app.model import evidence
from parfocal.app.model.evidence import JUDGED
from parfocal.app.model.feature_names import features_of
from parfocal.app.model.model import PAGE, PICTURE, Model, calibration_of
from parfocal.app.model.saved import is_model_or_empty, write_model
from parfocal.app.options import Options
from parfocal.app.study.study import Study, prepare, rows_of, study
from parfocal.app.tell import page, plots, record, text
from parfocal.app.tell.progress import progress


def fit(options: Options, console: Console, progress_console: Console) -> Study:
    """Write the folder, and print what was found as soon as it is known."""
    files.check_free(
        options.out, options.force, is_model_or_empty, "a parfocal model with nothing else in it, nor an empty folder"
    )
    prepared = prepare(options)
    text.print_sample(console, prepared)
    with progress(progress_console, "preparing the columns") as watch:
        rows, test = rows_of(prepared.sample, prepared.split)
        if not options.refit:
            prepared = prepared.without_values()
        found = study(prepared, rows, test, watch)
    text.print_study(console, found)
    more = {
        JUDGED: evidence.dump(found.winner.evidence),
        PICTURE: plots.draw_report(found),
        PAGE: page.page_of(found).encode(),
    }
    write_model(model_of(found), more, options.out, options.force)
    text.print_folder(console, found)
    return found


def model_of(found: Study) -> Model:
    saved, target, decision = found.saved, found.sample.target, found.decisions[0].decision
    features = [feature.name for feature in features_of(found.saved_columns)]
    return Model(
        booster=saved.engine.named(saved.booster, features),
        engine=saved.engine.name,
        target=target.name,
        classes=target.classes,
        columns=found.saved_columns,
        gamma=saved.candidate.gamma,
        alpha=saved.candidate.class_weights(saved.prior),
        init_score=np.asarray(saved.init_score).tolist(),
        prior=np.asarray(saved.prior).tolist(),
        calibration=calibration_of(found.winner.calibrator),
        threshold=decision.threshold,
        rule=decision.rule.text,
        costs=None if decision.costs is None else decision.costs.tolist(),
        rows_per_day=found.sample.rows_per_day,
        rounds=saved.rounds,
        record=record.of_study(found),
    )
