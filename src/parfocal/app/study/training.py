"""Candidates trained on the folds, and the chosen ones on all training rows.

(a) Each fit is one thread, and as many fits run as there are cores: 36 s against 63 s for one fit at a time with two
    threads (folds of flights, 2 cores).  Nothing is shared but the binned data, so it doesn't matter which ends first.
(b) Training stops by the log loss of recovered probabilities, whatever the winner is chosen by.  A few dozen positives
    are too rough a measure of ranking to stop by: stopped by average precision, models had the worse log loss on eight
    tables of eight, and the worse average precision on six.
(c) The rows of all folds are binned once.  Bins are made of features alone, and of training rows alone.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from parfocal.app.data.splits import Fold
from parfocal.app.errors import BadInput, counted, one_line
from parfocal.app.model.linear import ENGINE as LINEAR_ENGINE
from parfocal.app.study.candidates import CROSS_ENTROPY, Candidate
from parfocal.app.study.metrics import scores
from parfocal.boosters import BoostingLoss, Engine, Objective, Rows, Task, Trained

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_ROUNDS = 500
# Flights: the best rounds of all candidates and folds lie between 20 and 190.
PATIENCE = 50
SCORED_EVERY = 5
# A leaf of rare positives asks for a step of gradient / curvature = 1 / prior, 40 margins for flights, and one such
# leaf spoils the ranking.  The longest step is one logit of the posterior, which moves 1 + gamma times as fast as the
# margin where samples are easy.  Mean average precision over the folds of flights:
#                          cross-entropy   balanced   gamma 1: alpha 0.25, 0.5   gamma 2: alpha 0.25, 0.5
#     no limit                     0.135      0.151             0.138    0.144             0.147    0.152
#     1 margin                     0.156      0.152             0.148    0.148             0.144    0.152
#     1 logit of posterior         0.156      0.152             0.154    0.151             0.153    0.150
# It takes up to half off the mean probability of a rare class, which the calibration on the folds puts back.
MAX_DELTA_STEP = 1.0


@dataclass(frozen=True)
class Training:
    """What all fits of a command share."""

    engine: Engine
    seed: int
    advance: Callable[[], None] = lambda: None

    def engine_of(self, candidate: Candidate) -> Engine:
        return LINEAR_ENGINE if candidate.linear else self.engine

    def task(self, candidate: Candidate, rows: Rows, rounds: int, **settings: Any) -> Task:
        usual = candidate.settings
        return Task(
            objective={"gamma": candidate.gamma, "alpha": candidate.class_weights(rows.prior)},
            rows=rows.scaled(),
            rounds=rounds,
            learning_rate=usual.learning_rate,
            max_leaf_nodes=usual.leaves,
            max_delta_step=MAX_DELTA_STEP / (1 + candidate.gamma),
            threads=1,
            seed=self.seed,
            engine_params=usual.of_engine(self.engine_of(candidate).name),
            **{"held_out": None, "early_stopping_rounds": PATIENCE, **settings},
        )

    def table(self, rows: Rows, usual: Candidate = CROSS_ENTROPY) -> Any:
        """The rows as the engine bins them, if fits can share that."""
        if not self.engine.shares_tables:
            return None
        try:
            return self.engine.table(self.task(usual, rows, 1))
        except ValueError as error:  # LightGBM would abort
            raise BadInput(
                f"the columns are constant in the {counted(len(rows.labels), 'row')} to train on; use more rows, or "
                "other columns"
            ) from error

    def train(self, candidate: Candidate, task: Task) -> Trained:
        engine = self.engine_of(candidate)
        try:
            return engine.train(task)
        except Exception as error:
            library = type(error).__module__.partition(".")[0]
            if isinstance(error, ValueError) or library.strip("_") == engine.name:
                raise BadInput(f"{candidate.name}: {one_line(error)}") from error
            raise


@dataclass(frozen=True)
class FoldResult:
    """A candidate trained on a fold to its best round, and its scores on the fold's validation rows."""

    candidate: Candidate
    fold: int
    rounds: int
    logits: np.ndarray  # of the posterior: log-odds (N,), or log-probabilities (N, classes)
    raw_scores: dict[str, float]
    recovered_scores: dict[str, float]


@dataclass(frozen=True)
class FinalFit:
    """A candidate trained on all training rows."""

    candidate: Candidate
    engine: Engine
    booster: Any
    loss: BoostingLoss
    init_score: Any
    prior: Any
    rounds: int

    def margins(self, features: np.ndarray) -> np.ndarray:
        return self.engine.margins(self.booster, self.init_score, features)


@dataclass(frozen=True)
class Folds:
    """The training rows and their folds, binned once, on which any number of candidates can be tried."""

    training: Training
    rows: Rows
    folds: Sequence[Fold]  # row numbers among `rows`
    whole: Any = field(repr=False)
    tables: list[tuple[Any, Any] | None] = field(repr=False)

    @classmethod
    def of(cls, training: Training, rows: Rows, folds: Sequence[Fold], usual: Candidate = CROSS_ENTROPY) -> Folds:
        whole, part = training.table(rows, usual), training.engine.part
        tables: list[tuple[Any, Any] | None] = [None] * len(folds)
        if training.engine.shares_tables:
            tables = [(part(whole, fold.training), part(whole, fold.validation)) for fold in folds]
        return cls(training, rows, folds, whole, tables)

    def fit(self, tried: Iterable[Candidate], numbers: Iterable[int] | None = None) -> list[FoldResult]:
        """Every candidate on every fold, or on some, each stopped at its best round."""
        numbers = range(len(self.folds)) if numbers is None else numbers
        # Long fits first, so that no core waits for a last long one.
        longest_first = sorted(numbers, key=lambda fold: -len(self.folds[fold].training))
        return in_threads(self.fit_one, [(candidate, fold) for fold in longest_first for candidate in tried])

    def fit_one(self, job: tuple[Candidate, int], stop: threading.Event) -> FoldResult:
        candidate, number = job
        engine, fold = self.training.engine_of(candidate), self.folds[number]
        tables = self.tables[number] if engine.shares_tables else None
        part = self.rows.part if tables is None else self.rows.without_features
        training, validation = part(fold.training), part(fold.validation)
        task = self.training.task(
            candidate,
            training,
            MOST_ROUNDS,
            held_out=validation.scaled(),
            score_every=SCORED_EVERY,
            stop=stop.is_set,
            tables=tables,
        )
        trained = self.training.train(candidate, task)
        margins = trained.held_out
        if margins is None:
            margins = engine.margins(trained.booster, trained.objective.start_, validation.features)
        loss = trained.objective.loss(training.num_class)
        self.training.advance()
        return FoldResult(
            candidate,
            number,
            trained.rounds,
            np.asarray(loss.posterior_logit(margins), dtype=np.float64),
            raw_scores=scores(validation.labels, raw_probabilities(margins), validation.weights),
            recovered_scores=scores(validation.labels, np.asarray(loss.posterior(margins)), validation.weights),
        )


def fit_finally(
    training: Training, chosen: Sequence[tuple[Candidate, int]], rows: Rows, table: Any = None
) -> list[FinalFit]:
    """Each candidate on all rows, for its number of rounds.  `table` holds the rows, binned, where that was done."""
    if table is None and not all(candidate.linear for candidate, _ in chosen):
        table = training.table(rows, chosen[0][0])

    def fit(job: tuple[Candidate, int], stop: threading.Event) -> FinalFit:
        candidate, rounds = job
        engine = training.engine_of(candidate)
        tables = (table, None) if engine.shares_tables else None
        task = training.task(candidate, rows, rounds, stop=stop.is_set, tables=tables)
        trained = training.train(candidate, task)
        training.advance()
        start = trained.objective.start_
        loss = trained.objective.loss(rows.num_class)
        return FinalFit(candidate, engine, trained.booster, loss, start, rows.prior, trained.rounds)

    return in_threads(fit, chosen)


def raw_probabilities(margins: np.ndarray) -> np.ndarray:
    """The sigmoid or softmax of the margins, which is the posterior of cross-entropy alone."""
    return Objective(0.0).posterior(margins)


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore warnings of single fits, which held-out rows judge.  Use it around threads, which share the filters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "y_pred ranks the classes", UserWarning)  # a Calibrator's
        yield


@quiet()
def in_threads(work: Callable[[Item, threading.Event], Result], items: Sequence[Item]) -> list[Result]:
    """Results in the order of items.  On an error or Ctrl-C the event tells running work to give up."""
    stop = threading.Event()
    # BLAS would add threads of its own, which wait for each other: 8 s instead of 3 (`--engine linear`, 600 rows).
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = [pool.submit(work, item, stop) for item in items]
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
