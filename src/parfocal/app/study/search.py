"""A search that spends a time budget, in place of a grid.

Cross-entropy and focal loss get the same: in each round Optuna proposes booster settings for the one, and a gamma,
class weights and settings for the other, and both are tried on the same folds.  So a focal loss that comes out ahead
was not just tuned for longer.  The losses of a fit without a budget come first, with the usual settings.

How many rounds fit into a budget depends on the machine, so the same seed need not give the same model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import optuna

from parfocal.app.model.linear import LINEAR
from parfocal.app.options import Metric
from parfocal.app.study.candidates import Candidate, Settings
from parfocal.app.study.training import Folds
from parfocal.app.study.trials import Trial, to_trials

FINAL_FITS = 1.0  # time reserved for the final fits, in rounds of the search


class Proposer:
    """Proposes candidates for one loss: an Optuna study, and how its proposals become candidates."""

    def __init__(self, propose: Callable[[Any], Candidate], seed: int) -> None:
        self.propose = propose
        self.study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        self.asked: Any = None
        self.best = -np.inf

    def ask(self) -> Candidate:
        self.asked = self.study.ask()
        return self.propose(self.asked)

    def tell(self, reached: float) -> bool:
        """Whether that is the best so far."""
        self.study.tell(self.asked, reached)
        better, self.best = reached > self.best, max(reached, self.best)
        return better


class Space:
    """What can be proposed for a table: the usual settings say how many bins it has and how wide it is."""

    def __init__(self, folds: Folds, usual: Settings) -> None:
        self.classes, self.usual = folds.rows.classes, usual
        self.linear = folds.training.engine.name == LINEAR

    def settings(self, trial: Any) -> Settings:
        if self.linear:
            return Settings(inverse_penalty=trial.suggest_float("inverse_penalty", 1e-3, 1e2, log=True))
        return replace(
            self.usual,
            learning_rate=trial.suggest_float("learning_rate", 0.02, 0.3, log=True),
            leaves=trial.suggest_int("leaves", 4, 127, log=True),
            l2=trial.suggest_float("l2", 1e-2, 30.0, log=True),
            feature_share=self.usual.feature_share * trial.suggest_float("feature_share", 0.4, 1.0),
        )

    def cross_entropy(self, trial: Any) -> Candidate:
        return Candidate(0.0, settings=self.settings(trial))

    def focal(self, trial: Any) -> Candidate:
        gamma = trial.suggest_float("gamma", 0.1, 5.0)
        if self.classes > 2:
            balance = trial.suggest_float("balance", 0.0, 1.0)
            return Candidate(gamma, balance=balance, settings=self.settings(trial))
        return Candidate(gamma, alpha=trial.suggest_float("alpha", 0.05, 0.95), settings=self.settings(trial))


def search(folds: Folds, usual: Sequence[Candidate], select: Metric, seed: int, deadline: float) -> list[Trial]:
    """All trials, in order.  The search ends before a round that, with the final fits, would pass the deadline."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seeds = np.random.SeedSequence(seed).generate_state(2).tolist()  # with one, both proposers would draw alike
    space = Space(folds, usual[0].settings)
    proposers = Proposer(space.cross_entropy, seeds[0]), Proposer(space.focal, seeds[1])
    began = time.monotonic()
    trials = to_trials(folds.fit(usual), folds)
    estimate = (time.monotonic() - began) * len(proposers) / len(usual)
    rounds: list[float] = []  # what each took
    while (started := time.monotonic()) + max(rounds, default=estimate) * (1 + FINAL_FITS) <= deadline:
        found = to_trials(folds.fit([proposer.ask() for proposer in proposers]), folds)
        for proposer, trial in zip(proposers, found, strict=True):
            trials.append(trial if proposer.tell(trial.mean(select)) else trial.forgotten())
        rounds.append(time.monotonic() - started)
    return trials
