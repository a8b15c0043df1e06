"""The numbers of Keras's pages for R, from R: docs/r/keras_pages.R through reticulate."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

DOCS = Path(__file__).parents[1] / "docs"

# What the pages print, and by how many units of float32 rounding it may differ, as in test_keras.py: Keras's own 1 - p
# costs it up to four of them.
PAGES = {
    "binary function, gamma 2": ("0.32986466 0.20579838", 1),
    "binary, four, gamma 2": ("0.6912122", 5),
    "binary, four, gamma 2, balanced": ("0.5101333", 5),
    "binary, two rows, gamma 3": ("0.6469951", 5),
    "binary, two rows, gamma 3, weighted": ("0.13312504", 5),
    "binary, two rows, gamma 3, balanced": ("0.48214132", 5),
    "binary, two rows, gamma 3, balanced, weighted": ("0.09735977", 5),
    "binary, two rows, gamma 4, sum": ("1.2218808", 5),
    "binary, two rows, gamma 4, balanced, sum": ("0.9140807", 5),
    "binary, two rows, gamma 5, balanced, none": ("4.3709317e-04 8.6707699e-01", 5),
    "categorical function": ("2.63401289e-04 6.75912094e-01", 1),
    "categorical function, second": ("3.20583090e-05 4.66273481e-01", 1),
    "categorical": ("0.23315276", 1),
    "categorical, weighted": ("0.16320053", 1),
    "categorical, sum": ("0.46630552", 1),
    "categorical, none": ("3.2058331e-05 4.6627346e-01", 1),
}


@cache
def what_is_missing() -> str:
    """Why R cannot be asked here; empty where it can."""
    if shutil.which("Rscript") is None:
        return "Rscript is not installed: apt-get install r-base-core r-cran-reticulate"
    asked = subprocess.run(["Rscript", "-e", "library(reticulate)"], capture_output=True, check=False)
    return "R has no reticulate: apt-get install r-cran-reticulate" if asked.returncode else ""


@pytest.mark.full
def test_r_prints_the_numbers_of_keras_pages() -> None:
    if why := what_is_missing():
        pytest.skip(why)
    environment = {**os.environ, "RETICULATE_PYTHON": sys.executable}
    command = ["Rscript", str(DOCS / "r/keras_pages.R")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    printed = dict(line.split(": ", 1) for line in result.stdout.splitlines())
    for what, (page, units) in PAGES.items():
        expected = np.array(page.split(), dtype=np.float32)
        values = np.array(printed[what].split(), dtype=float)
        # printed with 8 digits, here and there
        assert (np.abs(values - expected) <= (units + 0.5) * np.spacing(expected)).all(), (what, printed[what])
    assert printed["binary metric, gamma 2"] == printed["binary function, gamma 2"]
    assert printed["categorical metric"] == printed["categorical function"]
    assert printed["sparse"] == printed["categorical function, second"] == printed["axis 2 is the last of two"]
    assert printed["posterior of 0.154, 0.5, 0.7"].split()[1:] == ["0.500000000", "0.906437513"]
    assert printed["floatx"] == "float32"


def test_the_r_page_shows_what_the_files_have() -> None:
    page, files = (DOCS / "r/index.md").read_text(encoding="utf-8"), (DOCS / "r/parfocal.R").read_text(encoding="utf-8")
    defined = set(re.findall(r"^([a-z_]+) <- function", files, re.M))
    called = set(re.findall(r"\b((?:loss|metric|config)_[a-z_]+|posterior|optimal_logit)\(", page))
    assert called <= defined
