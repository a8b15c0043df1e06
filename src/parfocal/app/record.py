"""A study as model.json has it: how the model came to be."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from parfocal.app.metrics import TITLES
from parfocal.app.model import calibration_of
from parfocal.app.study import Study
from parfocal.app.trials import CALIBRATED, RAW, RECOVERED, Trial


def of(study: Study) -> dict[str, Any]:
    options, winner, joined = study.options, study.winner, study.sample.target.joined
    return {
        "table": str(options.table),
        "roles": asdict(options.roles),
        "left_out": study.sample.left_out,
        "other": None if joined is None else asdict(joined),
        "selection_metric": options.select.value,
        "seed": options.seed,
        "budget_seconds": options.budget,
        "fast": options.fast,
        "refitted_on_all_rows": options.refit,
        "rows": {"training": len(study.split.training), "final_test": len(study.split.test)},
        "winner": winner.candidate.name,
        "settings": asdict(winner.candidate.settings),
        "verdict": " ".join(study.verdict),
        "cautions": study.cautions,
        "dropped_after_one_fold": sorted({candidate.name for candidate in study.dropped}),
        "candidates": [of_trial(trial) for trial in study.trials],
        "final_test": {curve.name: curve.scores for curve in study.curves},
        "calibration": {finalist.candidate.name: calibration_of(finalist.calibrator) for finalist in study.finalists},
        "by_class": {
            finalist.candidate.name: {
                name: asdict(result)
                for name, result in zip(study.sample.target.classes, finalist.by_class, strict=True)
            }
            for finalist in study.finalists
        },
    }


def of_trial(trial: Trial) -> dict[str, Any]:
    candidate = trial.candidate
    return {
        "name": candidate.name,
        "gamma": candidate.gamma,
        "alpha": candidate.alpha,
        "balance": candidate.balance,
        "linear": candidate.linear,
        "settings": asdict(candidate.settings),
        "rounds": [fit.rounds for fit in trial.fits],
        **{
            kind: {metric: trial.per_fold(metric, kind).tolist() for metric in TITLES}
            for kind in (RAW, RECOVERED, CALIBRATED)
        },
    }
