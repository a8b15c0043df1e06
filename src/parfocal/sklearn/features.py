"""The features of a table: categories become codes, and an error names the columns that are not numbers.

No booster sees a category itself: LightGBM, given a categorical column of Arrow, aborts the process.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from numbers import Integral
from typing import Any

import narwhals as nw  # scikit-learn needs it too
import numpy as np
from scipy import sparse
from sklearn.utils.validation import check_array, validate_data

from parfocal.weights import is_missing

# Of each categorical column, by its place: the code of each category.
Categories = dict[int, dict[Any, int]]

DATES = (nw.Date, nw.Datetime, nw.Duration, nw.Time)
NESTED = (nw.List, nw.Array, nw.Struct, nw.Binary)
CATEGORICAL = (nw.Categorical, nw.Enum)

BOOSTING_CURES = {
    "text": 'make categories of text (.astype("category") in pandas, .cast(pl.Categorical) in polars), name its '
    "columns in categorical_features=, or leave them out",
    "categories": "categorical_features='from_dtype' uses columns of categories",
}
LINEAR_CURES = {
    "text": "encode text with sklearn.preprocessing.OneHotEncoder, or leave it out",
    "categories": "encode categories with sklearn.preprocessing.OneHotEncoder, or leave them out",
}
CURES = {
    "dates or times": "make numbers of dates and times, such as the month or the days since a day",
    "objects": "leave out what is not a number, or make numbers of it",
}


class Table:
    """The columns of a data frame that narwhals knows, or of an array; none of what is neither."""

    def __init__(self, given: Any) -> None:
        self.given = given
        self.names: list[Any] | None = None  # and types, as narwhals has them: of a frame alone
        self.dtypes: list[nw.dtypes.DType] | None = None
        self.frame: nw.DataFrame[Any] | None = None
        self.array: np.ndarray | None = None
        if nw.dependencies.is_polars_lazyframe(given):
            raise TypeError("X is a LazyFrame, which holds no values yet; give X.collect()")
        if nw.dependencies.is_into_dataframe(given):
            self.frame = nw.from_native(given)
            self.names, self.dtypes = list(self.frame.columns), list(self.frame.schema.values())
        elif not sparse.issparse(given):
            array = as_array(given)
            self.array = array if array is not None and array.ndim == 2 else None

    @property
    def width(self) -> int:
        return self.frame.shape[1] if self.frame is not None else 0 if self.array is None else self.array.shape[1]

    def name(self, place: int) -> str:
        return f"column {place}" if self.names is None else repr(self.names[place])

    def values(self, place: int) -> list[Any]:
        if self.frame is not None:
            return self.frame[:, place].to_list()
        assert self.array is not None
        return self.array[:, place].tolist()

    def dtype(self, place: int) -> nw.dtypes.DType | None:
        return None if self.dtypes is None else self.dtypes[place]

    def with_columns(self, columns: dict[int, np.ndarray]) -> Any:
        """What was given with other columns in some places, as the same kind."""
        if self.frame is None or self.names is None:
            assert self.array is not None
            changed = self.array.astype(np.float64 if self.array.dtype.kind in "biuf" else object)
            for place, values in columns.items():
                changed[:, place] = values
            return changed
        kind = self.frame.implementation
        series = [nw.new_series(self.names[place], values, backend=kind) for place, values in columns.items()]
        return self.frame.with_columns(*series).to_native()


def as_array(given: Any) -> np.ndarray | None:
    if isinstance(given, np.ndarray):
        return given
    try:
        array = np.asarray(given)
        return array if array.dtype.kind not in "US" else np.asarray(given, dtype=object)
    except Exception:  # no array: what validates it has the right words
        return None


# -- categories


def categorical_places(table: Table, chosen: Any) -> list[int]:
    """Which columns hold categories, by scikit-learn's rules for `categorical_features`."""
    if chosen is None:
        return []
    if isinstance(chosen, str) and chosen == "from_dtype":
        return [place for place in range(table.width) if isinstance(table.dtype(place), CATEGORICAL)]
    items = list(chosen) if isinstance(chosen, Iterable) and not isinstance(chosen, str | bytes | dict) else None
    if not items and items is not None:
        return []
    if sparse.issparse(table.given):
        raise ValueError("categorical_features needs dense features: X is a sparse matrix; give None, or X.toarray()")
    if items and table.width:
        if all(isinstance(item, bool | np.bool_) for item in items):
            if len(items) != table.width:
                raise ValueError(
                    f"categorical_features as a mask needs one True or False for each of the {table.width} columns of "
                    f"X; got {len(items)}"
                )
            return np.flatnonzero(items).tolist()
        if all(isinstance(item, Integral) and not isinstance(item, bool) for item in items):
            beyond = [item for item in items if not 0 <= item < table.width]
            if beyond:
                raise ValueError(
                    f"categorical_features holds the place {beyond[0]}; X has the places 0 to {table.width - 1}"
                )
            return sorted({int(item) for item in items})
        if all(isinstance(item, str) for item in items):
            if table.names is None:
                raise ValueError(
                    f"categorical_features={items!r} are names, and X has none; give places, or X as a data frame"
                )
            unknown = [item for item in items if item not in table.names]
            if unknown:
                raise ValueError(f"categorical_features holds {unknown[0]!r}, and the columns of X are {table.names!r}")
            return [place for place, name in enumerate(table.names) if name in items]
    elif items:
        return []  # X has no columns, and what validates it says so
    raise ValueError(
        "categorical_features must be 'from_dtype', None, or a list: of names, of places, or of True and False for "
        f"every column; got {chosen!r}"
    )


def learn_categories(table: Table, places: Iterable[int]) -> Categories:
    categories: Categories = {}
    for place in places:
        try:
            seen = {value for value in table.values(place) if not is_missing(value)}
        except TypeError as error:
            raise ValueError(
                f"{table.name(place)} of X cannot hold categories: {error}; leave it out, or make text of it"
            ) from error
        categories[place] = {category: code for code, category in enumerate(in_order(seen))}
    return categories


def in_order(categories: Collection[Any]) -> list[Any]:
    try:
        return sorted(categories)
    except TypeError:  # of several types
        return sorted(categories, key=lambda category: (type(category).__name__, str(category)))


def encode(table: Table, categories: Categories) -> Any:
    """X with codes in place of categories, NaN for those that `categories` lacks.

    A column of text where there were numbers, or the other way round, would be all NaN: a ValueError.
    """
    columns = {}
    for place, codes in categories.items():
        values = table.values(place)
        try:
            found = np.fromiter((codes.get(value, np.nan) for value in values), dtype=np.float64, count=len(values))
        except TypeError as error:
            raise ValueError(f"{table.name(place)} of X cannot hold categories: {error}") from error
        if codes and np.isnan(found).all():
            known, given = next(iter(codes)), next((value for value in values if not is_missing(value)), None)
            if given is not None and isinstance(known, str) != isinstance(given, str):
                raise ValueError(
                    f"{table.name(place)} of X holds {given!r} ({type(given).__name__}), and in fit it held categories "
                    f"such as {known!r} ({type(known).__name__}); give the same type"
                )
        columns[place] = found
    return table.with_columns(columns)


# -- columns that are not numbers


def validated_for_fit(
    estimator: Any, table: Table, y: Any, cures: dict[str, str], rules: dict[str, Any], categories: Categories
) -> Any:
    """`validate_data` after categories have become codes; the error for columns that are not numbers names them."""
    refuse_columns(table, categories, cures)
    try:
        return validate_data(estimator, encode(table, categories) if categories else table.given, y, **rules)
    except (TypeError, ValueError) as error:
        refuse_columns(table, categories, cures, error)
        raise


def validated(estimator: Any, given: Any, cures: dict[str, str], rules: dict[str, Any], categories: Categories) -> Any:
    """The same for a table that must have the columns of fit."""
    table = Table(given)
    named = table.names is not None
    if named:  # first, as of columns in another order each may hold what it should not
        validate_data(estimator, given, reset=False, skip_check_array=True)
    refuse_columns(table, categories, cures)
    try:
        if not categories and not named:
            return validate_data(estimator, given, reset=False, **rules)
        if not named:
            validate_data(estimator, given, reset=False, skip_check_array=True)  # the number of columns
        encoded = encode(table, categories) if categories else given
        return check_array(encoded, estimator=estimator, input_name="X", **rules)
    except (TypeError, ValueError) as error:
        refuse_columns(table, categories, cures, error)
        raise


def refuse_columns(
    table: Table, categories: Collection[int], cures: dict[str, str], error: Exception | None = None
) -> None:
    """Names the columns that are not numbers; without an `error` only those whose type says so."""
    held = {
        place: what_else(table, place, error is not None) for place in range(table.width) if place not in categories
    }
    problems = {place: what for place, what in held.items() if what is not None}
    if not problems:
        return
    columns = [f"{table.name(place)} ({what}{example})" for place, (what, example) in list(problems.items())[:5]]
    columns += [f"and {len(problems) - 5} more"] if len(problems) > 5 else []
    kinds = dict.fromkeys(what for what, _ in problems.values())
    said = f" ({str(error).partition(chr(10))[0]})" if error is not None else ""
    kind = TypeError if isinstance(error, TypeError) and set(kinds) == {"objects"} else ValueError
    raise kind(
        f"features must be numbers, and X holds {', '.join(columns)}: "
        f"{'; '.join({**CURES, **cures}[what] for what in kinds)}{said}"
    ) from error


def what_else(table: Table, place: int, look: bool) -> tuple[str, str] | None:
    """What a column holds, if not numbers, and an example; `look` at its values where its type doesn't say."""
    dtype = table.dtype(place)
    if dtype is None:
        assert table.array is not None
        if table.array.dtype.kind in "biufcmM":
            return ("dates or times", "") if table.array.dtype.kind in "mM" else None
    elif isinstance(dtype, DATES):
        return "dates or times", ""
    elif isinstance(dtype, NESTED):
        return "objects", f" of type {dtype}"
    elif dtype.is_numeric() or dtype == nw.Boolean:
        return None
    if not look:
        return None
    for row, value in enumerate(table.values(place)):
        if is_missing(value):
            continue
        try:
            float(value)
        except (TypeError, ValueError):
            what = "categories" if isinstance(dtype, CATEGORICAL) else kind_of(value)
            value = value.item() if isinstance(value, np.generic) else value
            return what, f", such as {value!r} in row {row}"
    return None


def kind_of(value: Any) -> str:
    if isinstance(value, str | bytes):
        return "text"
    dated = any(hasattr(value, part) for part in ("isoformat", "total_seconds", "to_timestamp"))
    return "dates or times" if dated or isinstance(value, np.datetime64 | np.timedelta64) else "objects"


def mask(places: Sequence[int], width: int) -> np.ndarray | None:
    """True where a column is categorical; None where none is."""
    return np.isin(np.arange(width), list(places)) if places else None
