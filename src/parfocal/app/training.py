"""The candidates, and gradient boosting with each of them.

(a) A candidate is a gamma and an alpha.  Cross-entropy is gamma 0, alpha 0.5; balanced cross-entropy is gamma 0 with
    alpha = 1 - prior, so that both classes weigh the same.  All train with the same rules; only the loss differs.
(b) LightGBM starts custom objectives at 0 and stores no init score.  The best constant score is added to its margins
    here, in the objective and in every prediction, so that one binned dataset serves all candidates.
(c) Gradient and curvature are divided by the mean curvature at the start.  That changes no split and no step, but makes
    LightGBM's absolute limits (min_sum_hessian_in_leaf) mean the same for every gamma, alpha and unit of weight.
(d) Each fit is one thread, and as many fits run as there are cores: 36 s against 63 s for one fit at a time with two
    threads (folds of flights, 2 cores).  Nothing is shared but the binned data, so it doesn't matter which ends first.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, TypeVar

import lightgbm as lgb
import numpy as np

from parfocal import BinaryFocalCrossentropy
from parfocal.app.errors import BadInput
from parfocal.app.metrics import score, scores
from parfocal.app.model import focal_loss, raw_margins, recovered
from parfocal.app.options import Metric
from parfocal.app.splits import Split
from parfocal.boosting import gradient_and_curvature

Job = TypeVar("Job")
Result = TypeVar("Result")

MOST_ROUNDS = 500
# Flights, average precision: the best rounds of all candidates and folds lie between 20 and 190.
PATIENCE = 50
SCORED_EVERY = 10
LEARNING_RATE = 0.1
# LightGBM draws its bins from 200,000 rows.  On flights (252,568) that luck alone moved the average precision of the
# final test between 0.099 and 0.131 over five seeds, more than any loss did.
BIN_SAMPLE = 2_000_000
LEAVES = 31
# A leaf of rare positives asks for a step of gradient / curvature = 1 / prior, 40 margins for flights, and one such
# leaf spoils the ranking.  The longest step is one logit of the posterior, which moves 1 + gamma times as fast as the
# margin where samples are easy.  Mean average precision over the folds of flights:
#                          cross-entropy   balanced   gamma 1: alpha 0.25, 0.5   gamma 2: alpha 0.25, 0.5
#     no limit                     0.135      0.151             0.138    0.144             0.147    0.152
#     1 margin                     0.156      0.152             0.148    0.148             0.144    0.152
#     1 logit of posterior         0.156      0.152             0.154    0.151             0.153    0.150
LONGEST_STEP = 1.0


@dataclass(frozen=True)
class Candidate:
    """A loss to try; alpha None balances the classes."""

    gamma: float
    alpha: float | None

    @property
    def name(self) -> str:
        if self.gamma > 0:
            return f"focal (gamma {self.gamma:g}, alpha {self.alpha:g})"
        if self.alpha is None:
            return "balanced cross-entropy"
        return "cross-entropy" if self.alpha == 0.5 else f"cross-entropy (alpha {self.alpha:g})"

    def loss(self, prior: float) -> BinaryFocalCrossentropy:
        return focal_loss(self.gamma, 1 - prior if self.alpha is None else self.alpha)


CROSS_ENTROPY = Candidate(0.0, 0.5)


def candidates(gammas: Sequence[float], alphas: Sequence[float]) -> list[Candidate]:
    """Both cross-entropies, then the grid: the simpler first."""
    grid = [Candidate(gamma, alpha) for gamma in gammas for alpha in alphas]
    return list(dict.fromkeys([CROSS_ENTROPY, Candidate(0.0, None), *grid]))


@dataclass(frozen=True)
class Rows:
    """Rows to train on or to be judged by."""

    matrix: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None
    categorical: list[int]

    def part(self, rows: np.ndarray) -> Rows:
        weights = None if self.weights is None else self.weights[rows]
        return Rows(self.matrix[rows], self.labels[rows], weights, self.categorical)

    @property
    def prior(self) -> float:
        return float(np.average(self.labels, weights=self.weights))

    def binned(self, seed: int, reference: lgb.Dataset | None = None) -> lgb.Dataset:
        """LightGBM's view of the rows, which can be shared between threads."""
        binned = lgb.Dataset(
            self.matrix,
            label=self.labels,
            categorical_feature=self.categorical,
            reference=reference,
            params=parameters(seed),
        ).construct()
        if all(binned.feature_num_bin(place) < 2 for place in range(binned.num_feature())):
            # LightGBM would abort.
            raise BadInput(
                f"the columns are constant in the {len(self.labels):,} rows that one of the folds trains on; "
                "use more rows, or other columns"
            )
        return binned


def parameters(seed: int) -> dict[str, Any]:
    return {
        "objective": "none",
        "metric": "none",
        "learning_rate": LEARNING_RATE,
        "num_leaves": LEAVES,
        "bin_construct_sample_cnt": BIN_SAMPLE,
        "seed": seed,
        "deterministic": True,
        "force_col_wise": True,
        "feature_pre_filter": False,  # LightGBM aborts if it filters all features out, as in tables of 40 rows
        "num_threads": 1,
        "verbosity": -1,
    }


class Boosting:
    """A booster that grows round by round with a candidate's loss."""

    def __init__(self, candidate: Candidate, rows: Rows, binned: lgb.Dataset, seed: int) -> None:
        self.loss = candidate.loss(rows.prior)
        self.init_score = self.loss.optimal_logit(rows.prior)
        self.labels, self.weights = rows.labels, rows.weights
        start = np.full(len(rows.labels), self.init_score)
        curvature = float(gradient_and_curvature(self.loss, start, self.labels, self.weights)[1].mean())
        if not curvature > np.finfo(np.float64).tiny:
            raise BadInput(
                f"{candidate.name} does not learn here: its curvature is {curvature:.1e}; use a smaller gamma"
            )
        self.scale = 1 / curvature
        step = LONGEST_STEP / (1 + candidate.gamma)
        self.booster = lgb.Booster({**parameters(seed), "max_delta_step": step}, binned)

    def objective(self, raw: np.ndarray, _: lgb.Dataset) -> tuple[np.ndarray, np.ndarray]:
        gradient, curvature = gradient_and_curvature(self.loss, raw + self.init_score, self.labels, self.weights)
        return gradient * self.scale, curvature * self.scale

    def grow(self) -> bool:
        """One more tree; False if no split is left that helps."""
        return not self.booster.update(fobj=self.objective)

    def validation_margins(self) -> np.ndarray:
        """Margins of the dataset that was added for validation, kept up to date by LightGBM tree by tree."""
        seen: list[np.ndarray] = []

        def copy(raw: np.ndarray, _: lgb.Dataset) -> tuple[str, float, bool]:
            seen.append(raw + self.init_score)
            return "margins", 0.0, True

        self.booster.eval_valid(feval=copy)
        return seen[0]


@dataclass(frozen=True)
class FoldFit:
    """A candidate's best round on a fold, and what it says about the fold's validation rows."""

    candidate: Candidate
    fold: int
    rounds: int
    probabilities: np.ndarray  # recovered
    raw_scores: dict[str, float]
    recovered_scores: dict[str, float]


@dataclass(frozen=True)
class FinalFit:
    """A candidate trained on all training rows."""

    candidate: Candidate
    booster: lgb.Booster
    loss: BinaryFocalCrossentropy
    init_score: float
    prior: float

    def raw_probabilities(self, matrix: np.ndarray) -> np.ndarray:
        """Focal scores as they are."""
        return sigmoid(raw_margins(self.booster, matrix) + self.init_score)

    def probabilities(self, matrix: np.ndarray) -> np.ndarray:
        """Recovered."""
        return recovered(self.booster, self.loss, self.init_score, matrix)


def sigmoid(margins: np.ndarray) -> np.ndarray:
    """Scores as people use them; for cross-entropy they are the posterior."""
    return np.asarray(CROSS_ENTROPY.loss(0.5).posterior(margins))


class Stopped(Exception):
    """Another thread failed, or the user interrupted."""


def in_threads(work: Callable[[Job, threading.Event], Result], jobs: Sequence[Job]) -> list[Result]:
    """Results in the order of jobs.  On an error or Ctrl-C the event tells running jobs to give up."""
    stop = threading.Event()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = [pool.submit(work, job, stop) for job in jobs]
        try:
            # With a limit, because polars handles SIGINT so that a wait without one sleeps through Ctrl-C.
            while (state := wait(futures, timeout=0.2, return_when=FIRST_EXCEPTION)).not_done:
                if any(future.exception() for future in state.done):
                    break
            return [future.result() for future in futures]
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def fit_folds(
    tried: Sequence[Candidate],
    rows: Rows,
    split: Split,
    select: Metric,
    seed: int,
    advance: Callable[[], None],
) -> list[FoldFit]:
    """Every candidate on every fold, each stopped at its best round."""
    parts = [(rows.part(fold.training), rows.part(fold.validation)) for fold in split.folds]
    datasets = []
    for training, validation in parts:
        binned = training.binned(seed)
        datasets.append((binned, validation.binned(seed, reference=binned)))

    def fit(job: tuple[Candidate, int], stop: threading.Event) -> FoldFit:
        candidate, fold = job
        boosting = Boosting(candidate, parts[fold][0], datasets[fold][0], seed)
        boosting.booster.add_valid(datasets[fold][1], "validation")
        result = fit_to_best_round(boosting, job, parts[fold][1], select, stop)
        advance()
        return result

    # Long fits first, so that no core waits for a last long one.
    longest_first = sorted(range(len(parts)), key=lambda fold: -len(parts[fold][0].labels))
    return in_threads(fit, [(candidate, fold) for fold in longest_first for candidate in tried])


def fit_to_best_round(
    boosting: Boosting, job: tuple[Candidate, int], validation: Rows, select: Metric, stop: threading.Event
) -> FoldFit:
    """Early stopping on the metric that chooses the winner, by recovered probabilities."""
    best_rounds, best_score, best_margins = 0, -np.inf, np.empty(0)
    for number in range(1, MOST_ROUNDS + 1):
        if stop.is_set():
            raise Stopped
        growing = boosting.grow()
        if number % SCORED_EVERY and growing:
            continue
        margins = boosting.validation_margins()
        probabilities = boosting.loss.posterior(margins)
        reached = select.sign * score(select, validation.labels, probabilities, validation.weights)
        if reached > best_score:
            best_rounds, best_score, best_margins = number, reached, margins
        if not growing or number - best_rounds >= PATIENCE:
            break
    probabilities = boosting.loss.posterior(best_margins)
    return FoldFit(
        *job,
        best_rounds,
        probabilities,
        raw_scores=scores(validation.labels, sigmoid(best_margins), validation.weights),
        recovered_scores=scores(validation.labels, probabilities, validation.weights),
    )


def fit_finally(
    chosen: Sequence[tuple[Candidate, int]], rows: Rows, seed: int, advance: Callable[[], None]
) -> list[FinalFit]:
    """Each candidate on all rows, for its number of rounds."""
    binned = rows.binned(seed)

    def fit(job: tuple[Candidate, int], stop: threading.Event) -> FinalFit:
        candidate, rounds = job
        boosting = Boosting(candidate, rows, binned, seed)
        for _ in range(rounds):
            if stop.is_set():
                raise Stopped
            if not boosting.grow():
                break
        advance()
        booster = boosting.booster
        return FinalFit(candidate, booster, boosting.loss, boosting.init_score, rows.prior)

    return in_threads(fit, chosen)
