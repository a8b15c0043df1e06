"""`--budget`: a search in place of the grid, on clocks of our own."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from app_fits import described, few_rounds, made_table
from parfocal.app import main
from parfocal.app.data.roles import Roles
from parfocal.app.options import Metric, Options
from parfocal.app.study import search, study, training
from parfocal.app.study.candidates import Candidate, candidates
from parfocal.app.study.study import tried_losses
from parfocal.app.study.trials import Trial
from parfocal.boosters import ENGINES

impatience = few_rounds(8, 30)


def test_a_budget_is_spent_on_both_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a clock of ours a candidate takes a second: 9 for the usual ones, then 2 a round, and 2 for the final fits."""
    clock, fit_folds = [0.0], training.Folds.fit

    def fit(folds: training.Folds, tried: Any) -> list[training.FoldResult]:
        clock[0] += len(tried)
        return fit_folds(folds, tried)

    monkeypatch.setattr(training.Folds, "fit", fit)
    for module in (study, search):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    made_table(600).write_csv(tmp_path / "t.csv")
    given = ["fit", str(tmp_path / "t.csv"), "--target", "event", "--out", str(tmp_path / "model"), "--budget", "18s"]
    assert main(given) == 0
    assert clock[0] == 15
    facts = described(tmp_path / "model")["fit"]
    assert facts["budget_seconds"] == 18
    found = facts["candidates"]
    assert list(dict.fromkeys(c["name"] for c in found[:9])) == [c.name for c in candidates((), (), 2)]
    searched = found[9:]
    assert len(searched) == 6
    plain = [c for c in searched if c["gamma"] == 0]
    assert 2 * len(plain) == len(searched)  # cross-entropy gets the same
    assert len({json.dumps(c["settings"]) for c in searched}) == len(searched)
    said = " ".join(capsys.readouterr().out.split())
    assert f"the best of {len(found)} candidates" in said


@pytest.mark.parametrize("classes", [2, 3])
def test_the_search_learns_and_ends(monkeypatch: pytest.MonkeyPatch, classes: int) -> None:
    """With fits that take a second each on a clock of ours, and a best gamma of 3."""
    clock = [0.0]
    monkeypatch.setattr(search.time, "monotonic", lambda: clock[0])

    class FakeFolds:
        def __init__(self) -> None:
            self.tried: list[Candidate] = []
            self.rows = training.Rows(np.zeros((40, 200)), np.arange(40) % classes, None, [], classes)
            self.training = training.Training(ENGINES["lightgbm"], seed=0)

        def fit(self, tried: list[Candidate]) -> list[training.FoldResult]:
            clock[0] += 1.0 if self.tried else len(tried)
            self.tried += tried
            return [training.FoldResult(candidate, 0, 1, np.ones(3), {}, {}) for candidate in tried]

    def to_trials(fits: list[training.FoldResult], _: Any) -> list[Trial]:
        return [Trial(fit.candidate, [fit], [np.ones(3)], [{"log_loss": abs(fit.candidate.gamma - 3)}]) for fit in fits]

    monkeypatch.setattr(search, "to_trials", to_trials)
    folds = FakeFolds()
    usual = tried_losses(Options(Path(), Path(), Roles("y")), folds.rows)
    found = search.search(folds, usual, Metric.log_loss, seed=0, deadline=len(usual) + 60.0)
    assert clock[0] == len(usual) + 59.0  # another round and the final fits would pass the deadline
    first, second = folds.tried[len(usual) : len(usual) + 2]
    assert (first.gamma, second.gamma > 0) == (0, True)
    searched = [candidate.settings for candidate in folds.tried[len(usual) :]]
    assert len(set(searched)) == len(searched)  # drawn with one seed, some would be the other side's
    assert {settings.bins for settings in searched} == {63}  # as wide tables have
    reached, best = [abs(trial.candidate.gamma - 3) for trial in found[len(usual) :]][1::2], np.inf
    for loss, trial in zip(reached, found[len(usual) :][1::2], strict=True):
        assert bool(trial.calibrated) == bool(len(trial.fits[0].logits)) == (loss < best)  # others need no memory
        best = min(best, loss)
    gammas = [trial.candidate.gamma for trial in found[len(usual) :] if trial.candidate.gamma]
    assert len(gammas) == 59
    assert min(abs(gamma - 3) for gamma in gammas) < 0.1
    late = np.abs(np.array(gammas[-20:]) - 3).mean()
    assert late < 0.6 * np.abs(np.array(gammas[:10]) - 3).mean()
    if classes == 3:
        assert all(0 <= trial.candidate.balance <= 1 and trial.candidate.alpha is None for trial in found)
