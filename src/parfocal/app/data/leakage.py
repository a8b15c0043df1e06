"""Columns that may leak the target: they number the rows, the target is sorted by them, or they give it away alone.

None is left out.  Such a column may be honest; the user knows whether it is known before the event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl
from scipy.stats import rankdata

from parfocal.app.data.columns import Column

FEWEST_ROWS = 50
GIVES_AWAY = 0.995  # ROC AUC of one column alone
SORTED_ERRORS = 8.0  # standard errors of the number of runs
NEARLY_ALL = 0.95  # of the values are different


def leaking_columns(
    values: Mapping[str, pl.Series], columns: Sequence[Column], labels: np.ndarray
) -> Iterator[tuple[Column, str]]:
    """One sentence for each suspicious column of the rows that have a label."""
    if len(labels) < FEWEST_ROWS:
        return
    rarest = int(np.argmin(np.bincount(labels)))
    event = labels == rarest
    for column in columns:
        given = values[column.name]
        if column.kind == "category":
            if category_gives_away(given, event):
                yield column, "its categories alone tell the target; is it known before? --drop leaves it out"
            continue
        numbers = order_of(given)
        known = ~np.isnan(numbers)
        if event[known].all() or not event[known].any():
            continue
        alone = roc_auc(event[known], numbers[known])
        if known.mean() > NEARLY_ALL and max(alone, 1 - alone) >= GIVES_AWAY:
            auc = f"ROC AUC {max(alone, 1 - alone):.3f}"
            yield column, f"this column alone tells the target ({auc}); is it known before? --drop leaves it out"
        elif column.kind == "number" and is_row_number(numbers):
            yield column, "it counts the rows; if it says nothing else, --drop leaves it out"
        elif column.kind == "number" and is_sorted_by(numbers[known], event[known]):
            yield (
                column,
                "the target comes in blocks when the rows are sorted by it, as by numbers of rows or files; is it "
                "known before? --drop leaves it out",
            )


def order_of(values: pl.Series) -> np.ndarray:
    numbers = values.dt.epoch("us") if isinstance(values.dtype, pl.Datetime) else values
    return numbers.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def roc_auc(event: np.ndarray, numbers: np.ndarray) -> float:
    """By ranks (Mann and Whitney 1947): scikit-learn's checks of its arguments took 30 s for 20,000 columns."""
    positives = int(event.sum())
    above = rankdata(numbers)[event].sum() - positives * (positives + 1) / 2
    return float(above / (positives * (len(event) - positives)))


def is_row_number(numbers: np.ndarray) -> bool:
    """Whole numbers that only rise; some are missing where rows without a label were left out."""
    steps = np.diff(numbers)
    whole = bool((numbers == np.floor(numbers)).all())
    return len(steps) > 0 and whole and bool((steps > 0).all()) and bool(np.ptp(numbers) < 2 * len(numbers))


def is_sorted_by(numbers: np.ndarray, event: np.ndarray) -> bool:
    """Far fewer runs of equal labels than in a random order (Wald and Wolfowitz 1940), for possible row numbers.

    Row numbers are whole, nearly all different and close together.  Any good feature brings equal labels together too.
    """
    whole = bool((numbers == np.floor(numbers)).all())
    if not whole or len(np.unique(numbers)) < NEARLY_ALL * len(numbers) or np.ptp(numbers) > 2 * len(numbers):
        return False
    ordered = event[np.argsort(numbers, kind="stable")]
    positives, rows = int(event.sum()), len(event)
    runs = 1 + int((ordered[1:] != ordered[:-1]).sum())
    expected = 1 + 2 * positives * (rows - positives) / rows
    variance = (expected - 1) * (expected - 2) / (rows - 1)
    return bool(variance > 0) and expected - runs > SORTED_ERRORS * variance**0.5


def category_gives_away(values: pl.Series, event: np.ndarray) -> bool:
    """Whether nearly all rows belong to categories with one label each, which are not names of single rows."""
    table = pl.DataFrame({"value": values.cast(pl.String), "event": event}).drop_nulls()
    if not len(table) or table["event"].n_unique() < 2:
        return False
    each = table.group_by("value").agg(rows=pl.len(), events=pl.col("event").sum())
    if len(each) > len(table) / 10:
        return False
    pure = each.filter((pl.col("events") == 0) | (pl.col("events") == pl.col("rows")))
    return float(pure["rows"].sum()) >= GIVES_AWAY * len(table)
