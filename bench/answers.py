"""Checks that each element of a result is within the tolerance that its contender states."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.contenders import Contender
from bench.references import path
from bench.works import Task


def check(folder: Path, task: Task, contender: Contender, result: object) -> tuple[str, dict[str, float]]:
    """The error in a result ("" if there is none), and its largest errors relative to the largest true value."""
    if contender.answer is None:
        return "", {}
    errors, wrong = {}, ""
    with np.load(path(folder, task, contender.question)) as exact:
        for name, got in contender.answer(result).items():
            errors[name], inside = compare(got, exact[name], task.copies, contender)
            if not inside:
                wrong = wrong or f"WRONG {name}: off by {errors[name]:.1e} of the largest"
    return wrong, errors


def compare(got: np.ndarray, exact: np.ndarray, copies: int, contender: Contender) -> tuple[float, bool]:
    """The largest error relative to the largest true value, and whether each element is within its tolerance.

    Repeated data have the same mean loss, and a gradient that is smaller by the number of copies.
    """
    largest = np.abs(exact).max()
    relative, absolute, _ = contender.tolerance
    if got.ndim == 0:
        copies = 1
    if got.size != copies * exact.size:
        return np.inf, False
    error, inside = 0.0, True
    for part in got.reshape(copies, -1):
        off = np.abs(part.astype(np.float64).reshape(exact.shape) * copies - exact)
        error = float(np.maximum(error, off.max() / largest))  # NaN stays
        inside &= bool((off <= relative * np.abs(exact) + absolute * largest).all())  # and False for NaN
    return error, inside
