"""The command line: `parfocal fit` chooses a loss for a table and trains with it, `parfocal predict` scores tables.

The rooms, in the order in which a table walks through them:

    cli.py         the commands; every mistake becomes one line and exit status 2;  options.py  what they can ask
    fitting.py     `fit`, step by step
    predicting.py  `predict`, step by step
    tables.py      CSV and Parquet files;  csv_files.py  how a CSV is written
    columns.py     what a column is, and how it becomes numbers;  numerals.py  numbers as people write them
    sample.py      a table as labels, weights and a matrix;  rare.py  rare classes joined
    suspicions.py  columns that may know too much
    splits.py      folds and the final test
    candidates.py  what is tried: losses, trees or linear.py, settings;  search.py  a search that spends a time budget
    training.py    candidates on the folds;  trials.py  calibrated, raced and chosen between
    study.py       all of that, as one value
    metrics.py     how good probabilities are;  decisions.py  which class they are taken for
    verdict.py     whether one loss beats another by more than noise
    report.py      what is printed;  plots.py  what is drawn;  record.py  what model.json has
    model.py       the folder that a fit leaves;  names.py  its features' names
    files.py       writing all or nothing;  owners.py  what a kill left
    boosters.py    whether a booster's file is safe to open, with trees.py, trees_lightgbm.py and trees_xgboost.py
    errors.py      mistakes that the caller can put right;  progress.py  a bar for those who watch
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """The console command.  Returns the exit status: 0 done, 2 a mistake in what was given, 130 interrupted."""
    try:
        from parfocal.app.cli import run

        return run(arguments)
    except KeyboardInterrupt:  # while the libraries were still loading
        print("parfocal: interrupted; nothing was written", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "parfocal":
            raise
        print(
            f"parfocal: the command line needs {error.name}, which is not installed; "
            'run: python -m pip install "parfocal[app]"',
            file=sys.stderr,
        )
        return 2
