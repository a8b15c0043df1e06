"""Which rows train, which validate, and which are the final test that no choice may see.

By time, each part follows the rows that it is judged by, and rows with equal times stay together:

    training rows, 75 %                                   final test, 25 %
    [ block 1 ][ block 2 ][ block 3 ][ block 4 ]          [              ]
      train      validate                                   fold 1
      train      train      validate                        fold 2
      train      train      train      validate             fold 3

Otherwise a stratified 20 % is the final test, and the rest makes five stratified folds, or three of many rows.
Labels are codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedKFold, train_test_split

from parfocal.app.errors import BadInput, counted, quoted

BLOCKS = 4
TIME_TEST_SHARE = 0.25
TEST_SHARE = 0.20
FOLDS, FEWER_FOLDS = 5, 3
MANY_ROWS = 300_000  # with more rows three folds say enough, and five take long


@dataclass(frozen=True)
class Fold:
    training: np.ndarray
    validation: np.ndarray


@dataclass(frozen=True)
class Split:
    """Row numbers.  With `by_time` every part is in the order of time."""

    folds: tuple[Fold, ...]
    training: np.ndarray
    test: np.ndarray
    by_time: bool

    @property
    def inner_folds(self) -> tuple[Fold, ...]:
        """The folds as places in `training`."""
        places = np.full(len(self.training) + len(self.test), -1)
        places[self.training] = np.arange(len(self.training))
        return tuple(Fold(places[fold.training], places[fold.validation]) for fold in self.folds)


def split_by_time(times: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Split:
    """Forward-rolling folds and the last quarter as the final test; every part needs all classes."""
    order = np.argsort(times, kind="stable")
    shares = [(1 - TIME_TEST_SHARE) * block / BLOCKS for block in range(1, BLOCKS + 1)]
    ends = [nearest_change(times[order], round(len(order) * share)) for share in shares]
    blocks = np.split(order, ends)
    names = [f"block {number} of {BLOCKS} of the training rows" for number in range(1, BLOCKS + 1)] + ["final test"]
    if times.min() == times.max():
        raise BadInput("--time: all times are equal, so nothing comes before or after; leave --time out")
    for name, block in zip(names, blocks, strict=True):
        check_classes(name, labels[block], classes)
    folds = tuple(Fold(np.concatenate(blocks[:number]), blocks[number]) for number in range(1, BLOCKS))
    return Split(folds, np.concatenate(blocks[:BLOCKS]), blocks[BLOCKS], by_time=True)


def nearest_change(ordered_times: np.ndarray, place: int) -> int:
    """The place nearest to `place` at which the time changes."""
    here = ordered_times[min(place, len(ordered_times) - 1)]
    before, after = (int(np.searchsorted(ordered_times, here, side)) for side in ("left", "right"))
    return before if place - before <= after - place else after


def check_classes(name: str, labels: np.ndarray, classes: Sequence[str]) -> None:
    rows = np.bincount(labels.astype(np.int64), minlength=len(classes))
    if rows.all():
        return
    lacking = int(np.argmin(rows))
    of_two = len(classes) == 2
    which = ("negative row", "positive row")[lacking] if of_two else f"row of the class {quoted(classes[lacking])}"
    raise BadInput(
        f"--time: the {name} ({counted(len(labels), 'row')}) has no {which}; every part needs "
        f"{'both classes' if of_two else 'all classes'}, so use a table that covers more time, or leave "
        f"--time out{'' if of_two else ', or join rare classes with --other, or choose one with --positive'}"
    )


def split_by_class(labels: np.ndarray, seed: int, fast: bool = False) -> Split:
    """Stratified folds and a stratified final test."""
    folds = FEWER_FOLDS if fast or len(labels) >= MANY_ROWS else FOLDS
    rows = np.arange(len(labels))
    training, test = train_test_split(rows, test_size=TEST_SHARE, stratify=labels, random_state=seed)
    training, test = np.sort(training), np.sort(test)
    kept = StratifiedKFold(folds, shuffle=True, random_state=seed).split(training, labels[training])
    parts = tuple(Fold(training[inner], training[outer]) for inner, outer in kept)
    return Split(parts, training, test, by_time=False)
