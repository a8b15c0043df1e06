"""A search that spends a time budget, in place of a grid.

Cross-entropy and focal loss get the same: in each round Optuna proposes booster settings for the one, and a gamma,
class weights and settings for the other, and both are tried on the same folds.  So a focal loss that comes out ahead
was not just tuned for longer.  The losses that are tried without a budget come first, with the usual settings.

How many rounds fit into a budget depends on the machine, so the same seed need not give the same model.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import optuna

from parfocal.app.options import Metric
from parfocal.app.training import Candidate, FoldFit, Folds, Settings, candidates

FINAL_FITS = 1.0  # what they take, in rounds of the search: a finalist sees all training rows, but no folds


class Side:
    """One of the two that compete: an Optuna study, and how its proposals become candidates."""

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


def settings(trial: Any) -> Settings:
    return Settings(
        learning_rate=trial.suggest_float("learning_rate", 0.02, 0.3, log=True),
        leaves=trial.suggest_int("leaves", 7, 127, log=True),
        l2=trial.suggest_float("l2", 1e-2, 30.0, log=True),
        feature_share=trial.suggest_float("feature_share", 0.4, 1.0),
    )


def cross_entropy(trial: Any) -> Candidate:
    return Candidate(0.0, settings=settings(trial))


def focal(classes: int) -> Callable[[Any], Candidate]:
    def propose(trial: Any) -> Candidate:
        gamma = trial.suggest_float("gamma", 0.1, 5.0)
        if classes > 2:
            return Candidate(gamma, balance=trial.suggest_float("balance", 0.0, 1.0), settings=settings(trial))
        return Candidate(gamma, alpha=trial.suggest_float("alpha", 0.05, 0.95), settings=settings(trial))

    return propose


def search(folds: Folds, classes: int, select: Metric, seed: int, deadline: float) -> list[FoldFit]:
    """Fits of all that was tried, in order; it ends where another round and the final fits would pass the deadline."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seeds = np.random.SeedSequence(seed).generate_state(2).tolist()  # with one, both sides would draw alike
    sides = Side(cross_entropy, seeds[0]), Side(focal(classes), seeds[1])
    usual, began = candidates((), (), classes), time.monotonic()
    fits = folds.fit(usual)
    estimate = (time.monotonic() - began) * len(sides) / len(usual)
    rounds: list[float] = []  # what each took
    while (started := time.monotonic()) + max(rounds, default=estimate) * (1 + FINAL_FITS) <= deadline:
        asked = [side.ask() for side in sides]
        found = folds.fit(asked)
        for side, candidate in zip(sides, asked, strict=True):
            own = [fit for fit in found if fit.candidate == candidate]
            if not side.tell(select.sign * float(np.mean([fit.recovered_scores[select] for fit in own]))):
                own = [replace(fit, probabilities=np.empty(0)) for fit in own]  # only a finalist needs them
            fits += own
        rounds.append(time.monotonic() - started)
    return fits
