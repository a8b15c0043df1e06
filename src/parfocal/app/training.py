"""The candidates, and gradient boosting with each of them.

(a) A candidate is a loss, gamma and class weights, and the settings of the booster.  Cross-entropy is gamma 0 without
    weights; balanced cross-entropy weighs the classes so that all count the same.  Without a budget all train with the
    same settings; only the loss differs.
(b) Each fit is one thread, and as many fits run as there are cores: 36 s against 63 s for one fit at a time with two
    threads (folds of flights, 2 cores).  Nothing is shared but the binned data, so it doesn't matter which ends first.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from parfocal import engines
from parfocal.app.errors import BadInput, counted, one_line
from parfocal.app.metrics import score, scores
from parfocal.app.options import Metric
from parfocal.app.splits import Split
from parfocal.boosting import Loss
from parfocal.engines import Engine
from parfocal.objectives import focal_loss

Job = TypeVar("Job")
Result = TypeVar("Result")

MOST_ROUNDS = 500
# Flights, average precision: the best rounds of all candidates and folds lie between 20 and 190.
PATIENCE = 50
SCORED_EVERY = 10
# LightGBM draws its bins from 200,000 rows.  On flights (252,568) that luck alone moved the average precision of the
# final test between 0.099 and 0.131 over five seeds, more than any loss did.
BIN_SAMPLE = 2_000_000
# A leaf of rare positives asks for a step of gradient / curvature = 1 / prior, 40 margins for flights, and one such
# leaf spoils the ranking.  The longest step is one logit of the posterior, which moves 1 + gamma times as fast as the
# margin where samples are easy.  Mean average precision over the folds of flights:
#                          cross-entropy   balanced   gamma 1: alpha 0.25, 0.5   gamma 2: alpha 0.25, 0.5
#     no limit                     0.135      0.151             0.138    0.144             0.147    0.152
#     1 margin                     0.156      0.152             0.148    0.148             0.144    0.152
#     1 logit of posterior         0.156      0.152             0.154    0.151             0.153    0.150
LONGEST_STEP = 1.0

DEFAULT_GAMMAS = (1.0, 2.0)
DEFAULT_ALPHAS = (0.25, 0.5)


@dataclass(frozen=True)
class Settings:
    """Of the booster; what is None is the engine's own."""

    learning_rate: float = 0.1
    leaves: int = 31
    l2: float | None = None
    feature_share: float = 1.0

    def of_engine(self, engine: str) -> dict[str, Any]:
        """What an engine calls those that a `Task` does not have."""
        l2, share = {
            "lightgbm": ("lambda_l2", "feature_fraction"),
            "xgboost": ("lambda", "colsample_bytree"),
            "catboost": ("l2_leaf_reg", "rsm"),
        }[engine]
        given = {share: self.feature_share, **({} if self.l2 is None else {l2: self.l2})}
        if engine == "lightgbm":
            given["bin_construct_sample_cnt"] = BIN_SAMPLE
        if engine == "catboost":
            given["depth"] = round(np.log2(self.leaves)) + 1  # 31 leaves are its default, 6
        return given

    def __str__(self) -> str:
        l2 = "" if self.l2 is None else f", L2 {self.l2:.2g}"
        share = "" if self.feature_share == 1 else f", {self.feature_share:.0%} of columns"
        return f"rate {self.learning_rate:.2g}, {counted(self.leaves, 'leaf', 'leaves')}{l2}{share}"


@dataclass(frozen=True)
class Candidate:
    """A loss to try.  Classes weigh prior ** -balance: 0 is alike, 1 is balanced; or alpha is that of the positive."""

    gamma: float
    alpha: float | None = None
    balance: float = 0.0
    settings: Settings = Settings()

    @property
    def is_cross_entropy(self) -> bool:
        return self.gamma == 0 and self.alpha is None and self.balance == 0

    @property
    def name(self) -> str:
        weighted = "" if self.alpha is None else f"alpha {self.alpha:.3g}"
        if self.balance:
            weighted = "balanced" if self.balance == 1 else f"balance {self.balance:.2g}"
        if self.gamma > 0:
            return f"focal (gamma {self.gamma:.3g}{', ' if weighted else ''}{weighted})"
        return f"{weighted} cross-entropy" if self.balance == 1 else "cross-entropy" + (weighted and f" ({weighted})")

    def class_weights(self, prior: Any) -> Any:
        """alpha of the loss: None, of two classes a number, else one for each class, on average 1."""
        if self.alpha is not None or not self.balance:
            return self.alpha
        shares = np.array([1 - prior, prior]) if np.ndim(prior) == 0 else np.asarray(prior)
        weights = shares**-self.balance
        if np.ndim(prior) == 0:
            return float(weights[1] / weights.sum())
        return (weights / (shares @ weights)).tolist()

    def loss(self, prior: Any) -> Loss:
        classes = None if np.ndim(prior) == 0 else len(prior)
        return focal_loss(classes, self.gamma, self.class_weights(prior), from_logits=True)


CROSS_ENTROPY = Candidate(0.0)
BALANCED = Candidate(0.0, balance=1.0)


def candidates(gammas: Sequence[float], alphas: Sequence[float], classes: int) -> list[Candidate]:
    """Both cross-entropies, then the grid: the simpler first.  Of more than two classes, alike or balanced ones."""
    gammas = gammas or DEFAULT_GAMMAS
    if classes > 2:
        if alphas:
            raise BadInput(
                f"--alpha is the weight of the positive class, and --target has {counted(classes, 'class')}, which are "
                "tried alike and balanced; leave --alpha out, or choose one class with --positive"
            )
        grid = [Candidate(gamma, balance=balance) for gamma in gammas for balance in (0.0, 1.0)]
    else:
        # At alpha 0.5 both classes weigh the same, as in plain cross-entropy.
        grid = [
            CROSS_ENTROPY if (gamma, alpha) == (0, 0.5) else Candidate(gamma, alpha)
            for gamma in gammas
            for alpha in alphas or DEFAULT_ALPHAS
        ]
    return list(dict.fromkeys([CROSS_ENTROPY, BALANCED, *grid]))


@dataclass(frozen=True)
class Rows:
    """Rows to train on or to be judged by."""

    matrix: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None
    categorical: list[int]
    classes: int = 2

    def part(self, rows: np.ndarray) -> Rows:
        weights = None if self.weights is None else self.weights[rows]
        return Rows(self.matrix[rows], self.labels[rows], weights, self.categorical, self.classes)

    @property
    def prior(self) -> Any:
        """The share of the positive class, or of each."""
        shares = np.bincount(self.labels.astype(np.int64), self.weights, self.classes)
        shares = shares / shares.sum()
        return float(shares[1]) if self.classes == 2 else shares

    def of_engine(self) -> engines.Rows:
        """Weights of mean 1, so that no limit on a leaf depends on their unit."""
        weights = None if self.weights is None else self.weights / self.weights.mean()
        return engines.Rows(self.matrix, self.labels, weights)


@dataclass(frozen=True)
class Training:
    """What all fits of a command share."""

    engine: Engine
    seed: int
    advance: Callable[[], None] = lambda: None

    def task(self, candidate: Candidate, rows: Rows, rounds: int, **more: Any) -> engines.Task:
        settings = candidate.settings
        return engines.Task(
            objective={"gamma": candidate.gamma, "alpha": candidate.class_weights(rows.prior)},
            rows=rows.of_engine(),
            rounds=rounds,
            learning_rate=settings.learning_rate,
            max_leaf_nodes=settings.leaves,
            longest_step=LONGEST_STEP / (1 + candidate.gamma),
            threads=1,
            seed=self.seed,
            classes=rows.classes,
            categorical=rows.categorical,
            more=settings.of_engine(self.engine.name),
            **{"held_out": None, "patience": PATIENCE, **more},
        )

    def tables(self, training: Rows, validation: Rows | None = None) -> tuple[Any, Any] | None:
        """The rows as the engine has them, if fits can share that."""
        if self.engine.tables is None:
            return None
        held_out = None if validation is None else validation.of_engine()
        try:
            return self.engine.tables(self.task(CROSS_ENTROPY, training, 1, held_out=held_out))
        except ValueError as error:  # LightGBM would abort
            raise BadInput(
                f"the columns are constant in the {counted(len(training.labels), 'row')} that one of the folds trains "
                "on; use more rows, or other columns"
            ) from error

    def train(self, candidate: Candidate, task: engines.Task) -> engines.Trained:
        try:
            return self.engine.train(task)
        except Exception as error:
            library = type(error).__module__.partition(".")[0]
            if isinstance(error, ValueError) or library.strip("_") == self.engine.name:
                raise BadInput(f"{candidate.name}: {one_line(error)}") from error
            raise


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
    engine: Engine
    booster: Any
    loss: Loss
    init_score: Any
    prior: Any
    rounds: int

    def margins(self, matrix: np.ndarray) -> np.ndarray:
        return self.engine.margins(self.booster, self.init_score, matrix)

    def raw_probabilities(self, matrix: np.ndarray) -> np.ndarray:
        """Focal scores as they are."""
        return as_people_use_them(self.margins(matrix))

    def probabilities(self, matrix: np.ndarray) -> np.ndarray:
        """Recovered."""
        return np.asarray(self.loss.posterior(self.margins(matrix)))


def as_people_use_them(margins: np.ndarray) -> np.ndarray:
    """The sigmoid or softmax; for cross-entropy it is the posterior."""
    classes = margins.shape[1] if margins.ndim > 1 else None
    return np.asarray(focal_loss(classes, 0.0, None, from_logits=True).posterior(margins))


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


@dataclass(frozen=True)
class Folds:
    """The rows of each fold, binned once, on which any number of candidates can be tried."""

    training: Training
    select: Metric
    parts: list[tuple[Rows, Rows]]
    tables: list[tuple[Any, Any] | None] = field(repr=False)

    @classmethod
    def of(cls, training: Training, rows: Rows, split: Split, select: Metric) -> Folds:
        parts = [(rows.part(fold.training), rows.part(fold.validation)) for fold in split.folds]
        return cls(training, select, parts, [training.tables(*part) for part in parts])

    def fit(self, tried: Iterable[Candidate]) -> list[FoldFit]:
        """Every candidate on every fold, each stopped at its best round."""
        # Long fits first, so that no core waits for a last long one.
        longest_first = sorted(range(len(self.parts)), key=lambda fold: -len(self.parts[fold][0].labels))
        return in_threads(self.fit_one, [(candidate, fold) for fold in longest_first for candidate in tried])

    def fit_one(self, job: tuple[Candidate, int], stop: threading.Event) -> FoldFit:
        """Early stopping on the metric that chooses the winner, by recovered probabilities."""
        candidate, fold = job
        training, validation = self.parts[fold]
        loss = candidate.loss(training.prior)

        def recovered_score(margins: np.ndarray, labels: np.ndarray, weights: np.ndarray | None) -> float:
            return self.select.sign * score(self.select, labels, np.asarray(loss.posterior(margins)), weights)

        task = self.training.task(
            candidate,
            training,
            MOST_ROUNDS,
            held_out=validation.of_engine(),
            score=recovered_score,
            every=SCORED_EVERY,
            stop=stop.is_set,
            tables=self.tables[fold],
        )
        trained = self.training.train(candidate, task)
        margins = self.training.engine.margins(trained.booster, trained.objective.start_, validation.matrix)
        probabilities = np.asarray(loss.posterior(margins))
        self.training.advance()
        return FoldFit(
            candidate,
            fold,
            trained.rounds,
            probabilities,
            raw_scores=scores(validation.labels, as_people_use_them(margins), validation.weights),
            recovered_scores=scores(validation.labels, probabilities, validation.weights),
        )


def fit_finally(training: Training, chosen: Sequence[tuple[Candidate, int]], rows: Rows) -> list[FinalFit]:
    """Each candidate on all rows, for its number of rounds."""
    tables = training.tables(rows)

    def fit(job: tuple[Candidate, int], stop: threading.Event) -> FinalFit:
        candidate, rounds = job
        task = training.task(candidate, rows, rounds, stop=stop.is_set, tables=tables)
        trained = training.train(candidate, task)
        training.advance()
        start = trained.objective.start_
        prior, loss = rows.prior, candidate.loss(rows.prior)
        return FinalFit(candidate, training.engine, trained.booster, loss, start, prior, trained.rounds)

    return in_threads(fit, chosen)
