"""A study and predictions as plain values, for model.json and for `--json`."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from parfocal.app.model.model import calibration_of
from parfocal.app.model.outcomes import Decided, Outcome
from parfocal.app.model.scoring import Scores

if TYPE_CHECKING:  # `predict` need not wait for what a study needs
    from parfocal.app.study.study import Study
    from parfocal.app.study.trials import Trial


def of_study(study: Study) -> dict[str, Any]:
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
        "decisions": [of_decision(one) for one in study.decisions],
        "out_of_reach": study.out_of_reach,
        "dropped_after_one_fold": sorted({candidate.name for candidate in study.dropped}),
        "candidates": [of_trial(trial) for trial in study.trials],
        "final_test": {result.name: result.scores for result in study.results},
        "calibration": {finalist.candidate.name: calibration_of(finalist.calibrator) for finalist in study.finalists},
        "by_class": {
            finalist.candidate.name: {
                name: asdict(result)
                for name, result in zip(study.sample.target.classes, finalist.by_class, strict=True)
            }
            for finalist in study.finalists
        },
    }


def of_fit(study: Study) -> dict[str, Any]:
    """What `fit --json` prints: the record in model.json, and what is not the same in every run or stands elsewhere."""
    sample, target = study.sample, study.sample.target
    rows = np.bincount(sample.labels, minlength=len(target.classes)).tolist()
    return {
        "model": {
            "folder": str(study.options.out),
            "files": study.files,
            "engine": study.saved.engine.name,
            "threshold": study.decisions[0].threshold,
            "columns": [{"name": column.name, "kind": column.kind} for column in study.saved_columns],
        },
        "target": {
            "name": target.name,
            "positive": target.positive if len(target.classes) == 2 else None,
            "rows": dict(zip(target.classes, rows, strict=True)),
            "left_out": {
                "without_label": target.missing_rows,
                "weight_0": target.weightless_rows,
                "rare_class": target.rare_rows,
            },
        },
        "columns_in_table": study.table_columns,
        "notes": sample.notes,
        "folds": len(study.split.folds),
        "split_by_time": study.split.by_time,
        **of_study(study),
        "seconds": study.seconds,
        "versions": study.versions,
    }


def of_decision(found: Decided) -> dict[str, Any]:
    """A rule, its threshold, and what it does: on new rows, and what it did in the final test."""
    return {
        "rule": found.rule.text,
        "words": found.decision.words,
        "threshold": found.threshold,
        "costs": found.rule.costs,
        "expected": of_outcome(found.folds),
        "final_test": of_outcome(found.test),
    }


def of_outcome(outcome: Outcome) -> dict[str, Any]:
    """JSON has no NaN: the precision of no alarms is null."""
    return {
        "measures": {name: finite(value) for name, value in outcome.measures.items()},
        "intervals": {name: [finite(end) for end in ends] for name, ends in outcome.intervals.items()},
        "without_a_model": outcome.baselines,
    }


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def of_trial(trial: Trial) -> dict[str, Any]:
    from parfocal.app.study.metrics import TITLES
    from parfocal.app.study.trials import CALIBRATED, RAW, RECOVERED

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


def of_scores(found: Scores) -> dict[str, Any]:
    """What `predict --json` prints."""
    model = found.model
    means = dict(zip(model.classes[-len(found.mean_probability) :], found.mean_probability, strict=True))
    return {
        "model": str(found.folder),
        "table": str(found.table),
        "file": str(found.file),
        "target": model.target,
        "rows_read": found.rows,
        "rows_written": sum(found.decided),
        "rule": found.decision.rule.text,
        "threshold": found.decision.threshold,
        "decisions": dict(zip(model.classes, found.decided, strict=True)),
        "mean_probability": means,
        "why": found.why or None,
        "cautions": found.cautions,
    }
