"""What the page tells, as plain values: `render` needs nothing else, and the page carries them as JSON.

Names are as they can be shown: model.json has the true ones.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np

from parfocal.app.errors import shown, trimmed
from parfocal.app.model.model import calibration_of
from parfocal.app.model.outcomes import Decided
from parfocal.app.study.curves import confusion, ranking, reliability
from parfocal.app.study.effects import Effect
from parfocal.app.study.metrics import TITLES
from parfocal.app.study.mistakes import Mistake, false_alarms, misses, values_of, wrong_classes
from parfocal.app.study.study import Study
from parfocal.app.study.trials import CALIBRATED, RAW, RECOVERED, Trial
from parfocal.app.study.verdict import mean_and_error

FORMAT = 1
DIGITS = 6  # of what only draws a curve
MISTAKES = 5  # of each kind
VALUES = 8  # columns of each of them, the most important
LONGEST_VALUE = 40  # characters
NAMES = 200  # of columns left out, for each reason


def data_of(study: Study) -> dict[str, Any]:
    """Every number of the page."""
    sample, target = study.sample, study.sample.target
    binary = len(target.classes) == 2
    test = study.test
    data = {
        "format": FORMAT,
        "target": {
            "name": shown(target.name),
            "classes": [shown(name) for name in target.classes],
            "positive": shown(target.positive) if binary else None,
        },
        "table": table_of(study),
        "split": split_of(study),
        "verdict": verdict_of(study),
        "decisions": decisions_of(study.decisions),
        "curve": curve_of(test.labels, study.winner.probabilities, test.weights, study.decisions) if binary else None,
        "classes": None if binary else classes_of(study),
        "reliability": reliability_of(study),
        "losses": losses_of(study),
        "columns": columns_of(study),
        "mistakes": mistakes_of(study),
        "left_out": {reason: names_of(names) for reason, names in sample.left_out.items()},
        "left_out_rows": {
            "without a label": target.missing_rows,
            "with weight 0": target.weightless_rows,
            "of a rare class": target.rare_rows,
        },
        "other": None if target.joined is None else target.joined.sentence,
        "cautions": study.cautions + study.out_of_reach,
        "notes": sample.notes,
        "seconds": study.seconds,
        "versions": study.versions,
    }
    return plain(data)


def decisions_of(found: Iterable[Decided]) -> list[dict[str, Any]]:
    """What each rule is to give, and what it gave on the final test; by the first `predict` decides."""
    return [
        {
            "rule": {"text": shown(one.rule.text), "words": one.decision.words},
            "threshold": one.threshold,
            "folds": {"measures": one.folds.measures, "intervals": one.folds.intervals},
            "test": {"measures": one.test.measures, "intervals": one.test.intervals},
            "baselines": one.test.baselines,
        }
        for one in found
    ]


def table_of(study: Study) -> dict[str, Any]:
    sample, target = study.sample, study.sample.target
    counts = np.bincount(sample.labels, minlength=len(target.classes))
    kinds = Counter(column.kind for column in sample.columns)
    return {
        "name": trimmed(study.options.table.name, 60),
        "rows": len(sample.labels) + target.missing_rows + target.weightless_rows + target.rare_rows,
        "used_rows": len(sample.labels),
        "columns": study.table_columns,
        "used_columns": len(sample.columns),
        "kinds": dict(kinds.most_common()),
        "rows_of_class": counts.tolist(),
        "weight": None if study.options.roles.weight is None else shown(study.options.roles.weight),
    }


def split_of(study: Study) -> dict[str, Any]:
    sample, split = study.sample, study.split
    of_class = [
        np.bincount(sample.labels[rows], minlength=len(sample.target.classes)) for rows in (split.training, split.test)
    ]
    return {
        "by_time": None if not split.by_time else shown(study.options.roles.time or ""),
        "training": len(split.training),
        "test": len(split.test),
        "training_of_class": of_class[0].tolist(),
        "test_of_class": of_class[1].tolist(),
        "folds": len(split.folds),
        "refit": study.options.refit,
    }


def verdict_of(study: Study) -> dict[str, Any]:
    return {
        "winner": study.winner.candidate.name,
        "engine": study.saved.engine.name,
        "settings": str(study.winner.candidate.settings),
        "rounds": study.saved.rounds,
        "cross_entropy_won": study.winner.candidate.is_plain,
        "better": next((comparison.rival for comparison in study.comparisons if comparison.beyond_noise), None),
        "sentences": study.verdict,
        "scores": study.winner.results[CALIBRATED].scores,
        "calibration": calibration_of(study.winner.calibrator),
    }


def curve_of(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None, found: Iterable[Decided]
) -> dict[str, Any]:
    kept = [one.threshold for one in found if one.threshold is not None and one.threshold <= 1]
    return brief(asdict(ranking(labels, probabilities, weights, kept)))


def classes_of(study: Study) -> dict[str, Any]:
    test, winner = study.test, study.winner
    return {
        "results": {
            finalist.candidate.name: [asdict(result) for result in finalist.by_class] for finalist in study.finalists
        },
        "confusion": confusion(test.labels, winner.decision(winner.probabilities), test.classes),
    }


def reliability_of(study: Study) -> list[dict[str, Any]]:
    """Before and after calibrating."""
    results = study.winner.results
    before = RAW if RAW in results else RECOVERED
    names = {RAW: "raw scores", RECOVERED: "before calibrating", CALIBRATED: "calibrated"}
    labels, weights = study.test.labels, study.test.weights
    return [
        {
            "name": names[kind],
            "error": results[kind].scores["calibration_error"],
            "groups": [brief(asdict(group)) for group in reliability(labels, results[kind].probabilities, weights)],
        }
        for kind in (before, CALIBRATED)
    ]


def losses_of(study: Study) -> dict[str, Any]:
    """Each loss on the folds, calibrated: scores, and differences from cross-entropy on the same folds."""
    select = study.options.select
    baseline, finalists = study.finalists[0].trial, {finalist.trial: finalist for finalist in study.finalists}

    def told(trial: Trial) -> dict[str, Any]:
        finalist = finalists.get(trial)
        differences = trial.per_fold(select) - baseline.per_fold(select)
        settings = "" if trial.candidate.settings == study.usual else str(trial.candidate.settings)
        return {
            "name": trial.candidate.name,
            "settings": settings,
            "winner": trial is study.winner.trial,
            "baseline": trial is baseline,
            "folds": {metric: list(mean_and_error(trial.per_fold(metric))) for metric in TITLES},
            "difference": None if trial is baseline else list(mean_and_error(differences)),
            "test": None if finalist is None else finalist.results[CALIBRATED].scores,
        }

    trials = sorted(study.shown_trials, key=lambda trial: -trial.mean(select))
    return {
        "metric": select.value,
        "title": TITLES[select],
        "metrics": TITLES,
        "less_is_better": select.sign < 0,
        "best": study.best_trial.candidate.name,
        "trials": [told(trial) for trial in trials],
        "dropped": list(dict.fromkeys(candidate.name for candidate in study.dropped)),
        "tried": len(study.trials),
    }


def columns_of(study: Study) -> dict[str, Any]:
    matter = study.matter
    return {
        "importances": [
            {"column": shown(one.column), "loss": one.loss, "interval": list(one.interval)}
            for one in matter.importances
        ],
        "log_loss": study.winner.results[CALIBRATED].scores["log_loss"],
        "unused": names_of(matter.unused),
        "not_shuffled": matter.not_shuffled,
        "rows": matter.rows,
        "repeats": matter.repeats,
        "of_class": shown(study.sample.target.classes[matter.of_class]),
        "effects": [effect_data(effect) for effect in matter.effects],
    }


def effect_data(effect: Effect) -> dict[str, Any]:
    names = None if effect.names is None else [trimmed(name, LONGEST_VALUE) or '""' for name in effect.names]
    return brief({**asdict(effect), "column": shown(effect.column), "names": names})


def mistakes_of(study: Study) -> dict[str, Any]:
    """The worst of the final test, by kind."""
    test, winner = study.test, study.winner
    decided = winner.decision(winner.probabilities)
    if test.classes > 2:
        found = {"wrong": wrong_classes(test.labels, winner.probabilities, decided, MISTAKES + 1)}
    else:
        rows = test.labels, winner.probabilities, decided, MISTAKES
        found = {"misses": misses(*rows), "false_alarms": false_alarms(*rows)}
    wanted = [one.column for one in study.matter.importances[:VALUES]]
    columns = {column.name for column in study.sample.columns}
    wanted += [name for name in (column.name for column in study.sample.columns) if name not in wanted]
    wanted = [name for name in wanted if name in columns][:VALUES]
    return {kind: [mistake_of(study, mistake, wanted) for mistake in mistakes] for kind, mistakes in found.items()}


def mistake_of(study: Study, mistake: Mistake, wanted: list[str]) -> dict[str, Any]:
    sample, place = study.sample, int(study.split.test[mistake.place])
    time = None if sample.times is None else float(sample.times[place])
    values = values_of(study.test.features[mistake.place], sample.columns, time)
    classes, target = sample.target.classes, sample.target
    all_rows = not (target.missing_rows or target.weightless_rows or target.rare_rows)
    return {
        "place": mistake.place,
        "row": place + 1 if all_rows else None,  # of the table, while none was left out before it
        "class": shown(classes[mistake.label]),
        "decided": shown(classes[mistake.decided]),
        "probability": mistake.probability,
        "values": [
            [shown(name), None if values[name] is None else trimmed(str(values[name]), LONGEST_VALUE)]
            for name in wanted
        ],
    }


def names_of(names: list[str]) -> dict[str, Any]:
    return {"count": len(names), "names": [shown(name) for name in names[:NAMES]]}


def brief(value: Any) -> Any:
    """Floats with as many digits as a drawing needs."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: brief(one) for key, one in value.items()}
    return [brief(one) for one in value] if isinstance(value, list | tuple) else value


def plain(value: Any) -> Any:
    """As JSON gives it back: lists, strings as keys, and None for what is not a finite number."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
