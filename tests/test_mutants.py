"""The tests can fail: break the formula in one place, and the checks against the oracle must turn red."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import parfocal

SOURCE = Path(parfocal.__file__).parent
TESTS = Path(__file__).parent

MUTANTS = {
    "a sign in the slope": (
        "exact::test_binary_hard_labels",
        "formula.py",
        "(g * at.p * at.u - at.q)",
        "(g * at.p * at.u + at.q)",
    ),
    "a sign in the curvature": ("exact::test_binary_hard_labels", "formula.py", "- g * g * p * u", "+ g * g * p * u"),
    "the constant of the curvature": (
        "exact::test_binary_hard_labels",
        "formula.py",
        "(1 + g * (u + 2))",
        "(1 + g * (u + 1))",
    ),
    "the low part is lost": (
        "exact::test_binary_hard_labels",
        "formula.py",
        "return xp.exp(high) * (1 + low)",
        "return xp.exp(high)",
    ),
    "v and u are swapped": (
        "exact::test_binary_hard_labels",
        "formula.py",
        "times_gamma(xp, gamma, at.v, at.v_low)",
        "times_gamma(xp, gamma, at.u, at.v_low)",
    ),
    "the weights are swapped": (
        "exact::test_binary_hard_labels",
        "formula.py",
        "w = 2 * y - 1, y * w_1 + (1 - y) * w_0",
        "w = 2 * y - 1, y * w_0 + (1 - y) * w_1",
    ),
    "the softmax forgets the others' sign": (
        "exact::test_softmax_hard_labels",
        "formula.py",
        "xp.where(target, a, -a * r)",
        "xp.where(target, a, a * r)",
    ),
    "1 - r by subtraction": (
        "exact::test_softmax_hard_labels",
        "formula.py",
        "xp.where(largest, below, top + (below - values))",
        "top + (below - values)",
    ),
    "the logit difference is rounded": (
        "exact::test_softmax_hard_labels",
        "formula.py",
        "exponentials = xp.exp(high) * (1 + low)",
        "exponentials = xp.exp(high)",
    ),
    "a term of the linear rule": (
        "exact::test_binary_soft_labels",
        "formula.py",
        "gradient = weight * (d + g * k * cross_entropy)",
        "gradient = weight * (d - g * k * cross_entropy)",
    ),
    "the clip stops the gradient": (
        "exact::test_categorical_probabilities",
        "probability.py",
        "(first * rest - formula.sum_of_others(xp, first * p))",
        "(first * rest)",
    ),
    "the gammas of the pair are swapped": (
        "exact::test_a_gamma_pair_is_negatives_then_positives",
        "parameters.py",
        "= self.gamma if isinstance",
        "= self.gamma[::-1] if isinstance",
    ),
    "the class axis is the last": (
        "identities::test_the_class_axis_may_lie_anywhere",
        "backends/numpy.py",
        "scores = np.moveaxis(y_pred, axis, -1)",
        "scores = y_pred",
    ),
    "the mean counts ignored samples": (
        "reduction::test_ignored_samples_leave_the_mean",
        "reduction.py",
        "if valid is None else valid.sum())",
        "if True else valid.sum())",
    ),
    "alpha is left out of the posterior": (
        "posterior::test_softmax",
        "posterior.py",
        "gamma, m_low) - np.log(weights)",
        "gamma, m_low)",
    ),
    "smoothing is left in the posterior": (
        "posterior::test_softmax",
        "posterior.py",
        "- smoothing / classes) / (1 - smoothing)",
        "- 0) / (1 - smoothing)",
    ),
}


def run_check(check: str, package: Path) -> int:
    """pytest's exit code for one check, "file::function", with the copy of parfocal in the folder `package`."""
    file, function = check.split("::")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "-W", "ignore"]
    result = subprocess.run(
        [*command, "--rootdir", str(TESTS), f"{TESTS}/test_{file}.py::{function}"],
        env={**os.environ, "PYTHONPATH": f"{package}{os.pathsep}{TESTS}"},
        capture_output=True,
        text=True,
    )
    assert result.returncode in (0, 1), result.stdout[-2000:] + result.stderr[-2000:]
    return result.returncode


def copy_of_parfocal(folder: Path) -> Path:
    return Path(shutil.copytree(SOURCE, folder / "parfocal", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.mark.parametrize("check", sorted({mutant[0] for mutant in MUTANTS.values()}))
def test_the_formula_as_it_is_keeps_it_green(check: str, tmp_path: Path) -> None:
    copy_of_parfocal(tmp_path)
    assert run_check(check, tmp_path) == 0


@pytest.mark.parametrize(("check", "file", "original", "broken"), MUTANTS.values(), ids=list(MUTANTS))
def test_a_broken_formula_turns_the_suite_red(
    check: str, file: str, original: str, broken: str, tmp_path: Path
) -> None:
    target = copy_of_parfocal(tmp_path) / file
    text = target.read_text()
    assert text.count(original) == 1, f"{file} no longer holds {original!r} once; mend the mutant"
    target.write_text(text.replace(original, broken))
    assert run_check(check, tmp_path) == 1
