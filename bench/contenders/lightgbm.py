"""50 rounds of LightGBM: its own log loss, and focal loss as an objective in Python."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial

import lightgbm
import numpy as np

from bench.contenders import FOCAL, PROMISED_DOUBLE, Contender, Tolerance
from bench.contenders.by_hand import CLIPPED, booster_objective, gradient_and_exact_curvature
from bench.contenders.ours import binary_loss
from bench.works import FEATURES, Data, Task
from parfocal.boosting import gradient_and_curvature

ROUNDS = 50


def contenders(task: Task, data: Data, library: str) -> Iterator[Contender]:
    random = np.random.default_rng(1)
    features = random.standard_normal((*task.shape, FEATURES), dtype=np.float32)
    features[:, 0] += data.labels  # something to learn
    parameters = {"num_threads": int(os.environ["OMP_NUM_THREADS"]), "verbosity": -1}
    table = lightgbm.Dataset(features, data.labels, params=parameters).construct()
    loss = binary_loss(FOCAL, "float64")

    def train(objective: str | Callable) -> None:
        lightgbm.train(parameters | {"objective": objective}, table, ROUNDS)

    def timed(name: str, objective: Callable, answer: Callable, tolerance: Tolerance, base: bool = False) -> Contender:
        """Two trees that differ in a digit may grow apart, so what is checked is the objective, at given margins."""
        return Contender(
            name,
            partial(train, lambda margins, table: objective(margins, table.get_label())),
            lambda _: answer(objective(data.logits, data.labels)),
            tolerance=tolerance,
            base=base,
        )

    yield timed(
        "LightGBM with parfocal",
        partial(gradient_and_curvature, loss),
        lambda result: dict(zip(("gradient", "curvature"), result, strict=True)),
        PROMISED_DOUBLE,
        base=True,
    )
    yield timed("LightGBM with NumPy by hand", booster_objective, gradient_and_exact_curvature, CLIPPED)
    yield Contender("LightGBM's log loss", partial(train, "binary"))
