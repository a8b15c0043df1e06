"""For tests and doctests alike: settings are put back after each, no test is skipped in silence, and two tiers."""

from __future__ import annotations

import os
from collections.abc import Iterator

# Read when the frameworks are imported; a test that wants something else has a process of its own.
os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "PYTEST_XDIST_WORKER" in os.environ:  # a worker a core: threads beyond that wait for each other
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings

import parfocal
from parfocal import kernel

# The same examples in every run; `pytest --hypothesis-profile=default` looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# node id: reason.  A skip that is not here turns the run red.
ALLOWED_SKIPS: dict[str, str] = {}

skipped: list[str] = []

# It has no doctest, and would bring TensorFlow to every worker.
collect_ignore = ["src/parfocal/backends/tensorflow.py"]

# Pages that belong to the second tier: they start a cluster.
FULL_PAGES = ("docs/scale.md",)


@pytest.fixture(autouse=True)
def settings_stay() -> Iterator[None]:
    before = parfocal.kernel_info()
    with np.printoptions():
        yield
    kernel.use(before["kernel"])
    parfocal.set_num_threads(before["threads"])
    parfocal.config.set_floatx("float32")
    parfocal.config.set_epsilon(1e-7)


@pytest.hookimpl(tryfirst=True)  # before pytest looks for the mark
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(FULL_PAGES):
            item.add_marker(pytest.mark.full)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    note_skipped(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    note_skipped(report)


def note_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    """The reports of the workers come to the process that started them, where the group follows the node id."""
    if report.skipped and not {report.nodeid, report.nodeid.rpartition("@")[0]} & ALLOWED_SKIPS.keys():
        skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if skipped:
        print(f"\nskipped, but not in ALLOWED_SKIPS (conftest.py): {', '.join(sorted(set(skipped)))}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.option.markexpr == "not full":
        terminalreporter.write_line('This was the first tier.  The whole suite: python -m pytest -m ""')
