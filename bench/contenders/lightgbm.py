"""50 rounds of LightGBM: its own objectives, and focal losses as objectives in Python."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import lightgbm
import numpy as np

from bench.contenders import FOCAL, PROMISED_DOUBLE, Contender
from bench.contenders.by_hand import CLIPPED, booster_objective, gradient_and_exact_curvature
from bench.works import FEATURES, Data, Task
from parfocal.lightgbm import FocalObjective

ROUNDS = 50


def contenders(task: Task, data: Data, library: str) -> Iterator[Contender]:
    random = np.random.default_rng(1)
    features = random.standard_normal((task.shape[0], FEATURES), dtype=np.float32)
    features[:, 0] += data.labels  # something to learn
    parameters = {"num_threads": int(os.environ["OMP_NUM_THREADS"]), "verbosity": -1}
    table = lightgbm.Dataset(features, data.labels, params=parameters).construct()

    def training(more: dict[str, Any]) -> Callable[[], object]:
        return partial(lightgbm.train, parameters | more, table, ROUNDS)

    # Two trees that differ in a digit may grow apart, so what is checked is the objective, at given margins.
    objective = FocalObjective(FOCAL.gamma)
    ours = objective.params(data.labels)
    terms = partial(objective.terms_at, data.logits.astype(np.float64), data.labels, None)
    if len(task.shape) == 2:
        yield Contender(
            "LightGBM with parfocal",
            training(ours),
            lambda _: {"gradient": terms()[0] / len(data.labels)},
            tolerance=PROMISED_DOUBLE,
            base=True,
        )
        yield Contender("LightGBM's log loss", training({"objective": "multiclass", "num_class": task.shape[1]}))
        return
    yield Contender(
        "LightGBM with parfocal",
        training(ours),
        lambda _: dict(zip(("gradient", "curvature"), terms(), strict=True)),
        tolerance=PROMISED_DOUBLE,
        base=True,
    )
    yield Contender(
        "LightGBM with NumPy by hand",
        training({"objective": lambda margins, table: booster_objective(margins, table.get_label())}),
        lambda _: gradient_and_exact_curvature(booster_objective(data.logits, data.labels)),
        tolerance=CLIPPED,
    )
    yield Contender("LightGBM's log loss", training({"objective": "binary"}))
