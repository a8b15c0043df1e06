"""Which columns matter: what the log loss rises by when one is shuffled, and how each moves a probability.

(a) A column is shuffled by giving each row the value of another row of the final test (Breiman 2001).  The parts of a
    date move together, because a reader thinks of columns, not of features.
(b) Rows are drawn class by class, so that a rare class is well seen, and weighted back to their shares.
(c) Intervals are of 95 %, by a bootstrap over rows, or by time over stretches of rows, as in the verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from parfocal.app.data.columns import Column
from parfocal.app.model.linear import LINEAR
from parfocal.app.study.effects import Effect, effect_of
from parfocal.app.study.final_test import Finalist
from parfocal.app.study.metrics import of_rows
from parfocal.app.study.training import FinalFit
from parfocal.app.study.verdict import interval_of
from parfocal.boosters import Rows
from parfocal.calibrator import Calibrator

Said = Callable[[np.ndarray], np.ndarray]  # probabilities of a matrix of features

# Visits of a row to a tree: LightGBM makes 30 million of them in a second (2 slow cores; flights, Caravan), and a
# softmax of five classes 60 million.
SHUFFLED_VISITS, EFFECT_VISITS = 12_000_000, 3_000_000
CELLS = 10_000_000  # of the matrix that is shuffled: 80 MB
MOST_ROWS, FEWEST_ROWS, MOST_REPEATS = 4000, 200, 10
MOST_SHUFFLED = 40  # columns, those that the engine itself thinks most of
EFFECTS = 6
RESAMPLES = 500


@dataclass(frozen=True)
class Importance:
    """What the log loss rises by when a column is shuffled."""

    column: str
    loss: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class ColumnsMatter:
    """The columns of a model, the most important first."""

    importances: list[Importance]
    effects: list[Effect]
    unused: list[str]  # columns that the model never looks at
    not_shuffled: int  # columns that it hardly uses, of which there are too many
    rows: int  # of the final test that were shuffled
    repeats: int
    of_class: int  # whose probability the effects are of: the positive one, or the rarest


def columns_matter(
    winner: Finalist, test: Rows, columns: Sequence[Column], blocks: np.ndarray, seed: int
) -> ColumnsMatter:
    """Of the winner, by rows of the final test.  `blocks` are what the bootstrap draws."""
    fit = winner.fit
    groups = features_of_columns(columns)
    weight = np.array([fit.engine.importances(fit.booster)[group].sum() for group in groups])
    ranked = [place for place in np.argsort(-weight, kind="stable").tolist() if weight[place] > 0]
    shuffled, unused = ranked[:MOST_SHUFFLED], [columns[place].name for place in np.flatnonzero(weight <= 0).tolist()]
    said = calibrated(fit, winner.calibrator)
    row_cost = trees_of(fit, test.classes) + test.features.shape[1] / 10
    rows, repeats = rows_and_repeats(len(test.labels), test.features.shape[1], max(len(shuffled), 1), row_cost)
    found = importances(said, test, [groups[place] for place in shuffled], blocks, rows, repeats, seed)
    order = sorted(range(len(shuffled)), key=lambda number: -found[number][0])
    of_class = 1 if test.classes == 2 else int(np.argmin(np.bincount(test.labels, minlength=test.classes)))
    strongest = [shuffled[number] for number in order[:EFFECTS]]
    parts = sum(len(groups[place]) for place in strongest)
    few = int(np.clip(EFFECT_VISITS / (2 * max(parts, 1) * row_cost), FEWEST_ROWS, MOST_ROWS))
    some = test.part(np.sort(np.random.default_rng(seed).permutation(len(test.labels))[:few]))
    of_one = one_class(said, of_class)
    effects = [effect_of(columns[place], groups[place], of_one, some, others(groups, place)) for place in strongest]
    return ColumnsMatter(
        importances=[Importance(columns[shuffled[number]].name, *found[number]) for number in order],
        effects=[effect for effect in effects if effect is not None],
        unused=unused,
        not_shuffled=len(ranked) - len(shuffled),
        rows=rows,
        repeats=repeats,
        of_class=of_class,
    )


def features_of_columns(columns: Sequence[Column]) -> list[list[int]]:
    """The places of each column's features in the matrix."""
    ends = np.cumsum([len(column.parts) for column in columns]).tolist()
    return [list(range(end - len(column.parts), end)) for end, column in zip(ends, columns, strict=True)]


def others(groups: Sequence[list[int]], place: int) -> list[int]:
    return [feature for number, group in enumerate(groups) if number != place for feature in group]


def calibrated(fit: FinalFit, calibrator: Calibrator) -> Said:
    return lambda features: np.asarray(
        calibrator.posterior(np.asarray(fit.loss.posterior_logit(fit.margins(features))))
    )


def one_class(said: Said, number: int) -> Said:
    def of_class(features: np.ndarray) -> np.ndarray:
        probabilities = said(features)
        return probabilities if probabilities.ndim == 1 else probabilities[:, number]

    return of_class


def trees_of(fit: FinalFit, classes: int) -> int:
    """That a row visits."""
    if fit.engine.name == LINEAR:
        return 1
    return fit.rounds * (1 if classes == 2 else classes)


def rows_and_repeats(available: int, features: int, columns: int, row_cost: float) -> tuple[int, int]:
    """As many rows as the time allows; where there are few, each is shuffled several times."""
    shuffles = int(SHUFFLED_VISITS / (columns * row_cost))
    rows = min(available, max(FEWEST_ROWS, min(MOST_ROWS, shuffles // 2, CELLS // features)))
    return rows, int(np.clip(shuffles // rows, 1, MOST_REPEATS))


def importances(
    said: Said, test: Rows, groups: Sequence[Sequence[int]], blocks: np.ndarray, rows: int, repeats: int, seed: int
) -> list[tuple[float, tuple[float, float]]]:
    """Of each group of features: what the log loss rises by when its values are those of other rows, and the interval.

    Class by class, the interval of the most important column of flights was .0022 long; with rows drawn alike .0060
    (4,000 rows of 84,208, 1.8 % of them positive; two repeats, means of 12 seeds).
    """
    if not groups:  # a model without a split
        return []
    generator = np.random.default_rng(seed)
    drawn, weights = draw_by_class(test, rows, generator)
    features, labels = np.tile(test.features[drawn], (repeats, 1)), np.tile(test.labels[drawn], repeats)
    before = of_rows("log_loss", labels[: len(drawn)], said(features[: len(drawn)]))
    rises = np.zeros((len(groups), len(drawn)))
    for group, rise in zip(groups, rises, strict=True):
        kept = features[:, group]
        features[:, group] = test.features[donors(test, len(features), generator)[:, None], group]
        rise += of_rows("log_loss", labels, said(features)).reshape(repeats, -1).mean(axis=0) - before
        features[:, group] = kept
    count = int(blocks.max()) + 1
    totals = np.bincount(blocks[drawn], weights, count)
    of_blocks = np.stack([np.bincount(blocks[drawn], weights * rise, count) for rise in rises])
    present = np.flatnonzero(totals)
    counts = generator.multinomial(len(present), np.full(len(present), 1 / len(present)), size=RESAMPLES)
    resampled = (counts @ of_blocks[:, present].T) / np.maximum(counts @ totals[present], np.finfo(float).tiny)[:, None]
    return [
        (float(weights @ rise / weights.sum()), interval_of(again))
        for rise, again in zip(rises, resampled.T, strict=True)
    ]


def draw_by_class(test: Rows, rows: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows, the same number of each class where there are so many; and weights that give the classes their shares."""
    sizes = np.bincount(test.labels, minlength=test.classes)
    everything = np.ones(len(test.labels)) if test.weights is None else test.weights
    drawn, weights = [], []
    left = rows
    for number, label in enumerate(np.argsort(sizes, kind="stable")):
        members = np.flatnonzero(test.labels == label)
        take = min(len(members), left // (test.classes - number))
        left -= take
        some = generator.permutation(members)[:take]
        drawn.append(some)
        weights.append(everything[some] * (len(members) / max(take, 1)))
    places = np.concatenate(drawn)
    order = np.argsort(places)
    return places[order], np.concatenate(weights)[order]


def donors(test: Rows, count: int, generator: np.random.Generator) -> np.ndarray:
    if test.weights is None:
        return generator.integers(len(test.labels), size=count)
    return generator.choice(len(test.labels), size=count, p=test.weights / test.weights.sum())
