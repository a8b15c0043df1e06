"""Models that `parfocal fit` saved, in Python.  What reads them is imported when it is called for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from parfocal.app.model.model import Model

__all__ = ["load_model"]


def load_model(folder: str | os.PathLike[str]) -> Model:
    """Read a model that `parfocal fit` wrote, of this version or an earlier one.

    It needs the extra `app`: `python -m pip install "parfocal[app]"`.  No code in the folder is run, and its trees are
    checked before they are opened; docs/tables.md says what that proves.

    Parameters
    ----------
    folder : the `--out` of `parfocal fit`.

    Returns
    -------
    A model with

    - `predict_proba(frame)`: float64 (N, classes), calibrated probabilities of the rows of a pandas or polars DataFrame
      or a polars LazyFrame, in the order of `classes`; of two classes (negative, positive);
    - `decide(frame)`: (N,), what `parfocal predict` writes as `decision`, by `rule`;
    - `explain(frame)`: what each column adds to the margin of each row, see below;
    - `classes`, `target`, `columns` (each with a `name` and a `kind`: number, boolean, category, date or datetime),
      `threshold` (None for more than two classes) and `prior`, the classes' shares in training;
    - `record`: what the fit found, a dict with the keys of `parfocal fit --json` that model.json has.

    What `explain` returns has `columns`, `contributions` (N, columns), `base` and `margins`, their sum: exact Shapley
    values on the scale of the margin, the score before it becomes a probability.  More than two classes have a margin
    each, and contributions (N, columns, classes).

    Raises
    ------
    ValueError if the folder is not a model, is damaged, is of a later version, or its booster is not installed.
    ImportError if the extra `app` is not installed.

    Examples
    --------

    >>> import parfocal, polars
    >>> model = parfocal.load_model("tests/saved/fit-lightgbm")
    >>> [f"{column.name}: {column.kind}" for column in model.columns]
    ['x: number', 'z: number', 'town: category', 'born: date']
    >>> table = polars.read_csv("tests/saved/table.csv")
    >>> print(model.classes, model.predict_proba(table)[:2].round(3).tolist())
    ('false', 'true') [[0.862, 0.138], [0.851, 0.149]]
    >>> print(model.decide(table)[:2], round(model.threshold, 3))
    [False False] 0.184
    >>> found = model.explain(table)
    >>> print(found.columns, found.contributions[0].round(3), round(found.base, 3))
    ('x', 'z', 'town', 'born') [ 0.006 -0.029  0.     0.01 ] -1.08
    >>> model.record["winner"]
    'focal (gamma 2, alpha 0.25)'
    """
    from pathlib import Path  # 3 ms, a quarter of `import parfocal`

    try:
        from parfocal.app.model.saved import read_model
    except ModuleNotFoundError as error:
        raise ImportError(
            f"parfocal.load_model needs {error.name}, which is not installed; run: "
            'python -m pip install "parfocal[app]"'
        ) from error
    return read_model(Path(folder))
