"""The command line: `parfocal fit` chooses a loss for a table and trains with it, `parfocal predict` scores tables.

    cli.py         the commands; every mistake becomes one line and exit status 2;  options.py  what `fit` can be asked
    fitting.py     `fit`, step by step;  predicting.py  `predict`, step by step
    deciding.py    `decide`: another rule, without training;  demo/  `demo`, and its table
    data/          a table becomes labels, weights and a matrix: files, columns, classes, folds
    model/         what is saved and read again, and its predictions
    study/         candidates are trained, compared and judged; all of it is one value, a Study
    tell/          views of a Study: text, picture, JSON, progress
    files.py       outputs are written whole or not at all;  owners.py  what a killed process left behind
    consoles.py    the two streams, and the help;  errors.py  mistakes that the caller can put right

`tell` imports `study`, `study` imports `model`, `model` imports `data`, and never the other way round.  In a file,
values come first, and a function comes before those that it calls.
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
