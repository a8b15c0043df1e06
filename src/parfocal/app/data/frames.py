"""Data frames of pandas and polars as polars columns.  Nothing of the caller's is changed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from parfocal.app.errors import BadInput, quoted


def polars_of(frame: Any, names: Sequence[str]) -> pl.DataFrame:
    """Those of the named columns that a frame has, in the order of its rows."""
    if isinstance(frame, pl.LazyFrame):
        there = frame.collect_schema()
        return frame.select(name for name in names if name in there).collect()
    if isinstance(frame, pl.DataFrame):
        known = set(frame.columns)
        return frame.select(name for name in names if name in known)
    pandas = sys.modules.get("pandas")  # a pandas frame exists only where pandas was imported
    if pandas is not None and isinstance(frame, pandas.DataFrame):
        return pl.DataFrame([of_pandas(frame[name], name, pandas) for name in names if name in frame.columns])
    raise TypeError(
        f"a pandas or polars DataFrame or a polars LazyFrame is needed, and {type(frame).__name__} was given; "
        "pandas.DataFrame or polars.DataFrame makes one"
    )


def of_pandas(values: Any, name: str, pandas: Any) -> pl.Series:
    """A column of pandas without pyarrow, which polars.from_pandas needs for text."""
    if isinstance(values, pandas.DataFrame):
        raise BadInput(f"the frame has more than one column {quoted(name)}; keep one of them")
    dtype = values.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "biuf":
        return pl.Series(name, values.to_numpy(), nan_to_null=True)
    if isinstance(dtype, np.dtype) and dtype.kind in "mM":
        unit = "timedelta64[us]" if dtype.kind == "m" else "datetime64[us]"
        return pl.Series(name, values.to_numpy().astype(unit))
    if isinstance(dtype, pandas.DatetimeTZDtype):
        moments = pl.Series(name, values.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy().astype("datetime64[us]"))
        return in_zone(moments.dt.replace_time_zone("UTC"), str(dtype.tz))
    missing = values.isna().to_numpy()
    items = [None if gone else value for value, gone in zip(values.astype(object), missing, strict=True)]
    kinds = {type(item) for item in items} - {type(None)}
    try:
        return pl.Series(name, items, dtype=pl.Float64 if kinds == {int, float} else None)
    except (TypeError, pl.exceptions.PolarsError) as error:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise BadInput(
            f"column {quoted(name)} of the frame holds values of type {names}, which are not one kind of column; make "
            f"them one, for example with frame[{name!r}].astype(str)"
        ) from error


def in_zone(moments: pl.Series, zone: str) -> pl.Series:
    try:
        return moments.dt.convert_time_zone(zone)
    except pl.exceptions.PolarsError:  # a fixed offset, which no data base of time zones has
        return moments
