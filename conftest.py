"""For tests and doctests: settings are restored after each, no test is skipped silently, and there are two tiers."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from importlib import metadata
from typing import Any

# Read when the frameworks are imported; a test that needs other values runs in a process of its own.
os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TRITON_INTERPRET", "1")  # the GPU's kernels on this processor
if "PYTEST_XDIST_WORKER" in os.environ:  # one worker per core: more threads would wait for each other
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings

import parfocal
from parfocal.backends import kernel

# The same examples in every run; `pytest --hypothesis-profile=default` looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# node id: reason.  A skip that is not here turns the run red.
ALLOWED_SKIPS: dict[str, str] = {
    "tests/test_r.py::test_r_prints_the_numbers_of_keras_pages": "R and its reticulate are not there; apt-get has both"
}

# All other warnings are errors (pyproject.toml).
FOREIGN_WARNINGS = (
    "ignore:Guards may run slower on Python 3.13.0",  # PyTorch
    "ignore:.torch.jit.script. is not supported",  # PyTorch, whose forward mode scripts a function, on Python 3.14
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",  # Keras saves PyTorch's tensors
)


def pytest_configure(config: pytest.Config) -> None:
    for line in FOREIGN_WARNINGS:
        config.addinivalue_line("filterwarnings", line)


skipped: list[str] = []

# They have no doctest; one would bring TensorFlow to every worker, the other needs the extra docs.
collect_ignore = ["src/parfocal/backends/tensorflow.py", "docs/site/docstrings.py"]
# The extra triton-test has it.  GPU builds of PyTorch bring an older one, which interprets beside a GPU's driver alone.
TRITON = [int(part) for part in metadata.version("triton").split(".")[:2]] if importlib.util.find_spec("triton") else []
if TRITON < [3, 9]:
    collect_ignore_glob = [
        "src/parfocal/backends/triton/*",
        "tests/test_triton*.py",
        "tests/gpu_*.py",
        "docs/make_gpu.py",
    ]

# Pages that belong to the second tier: they start a cluster, or import a framework and train with it.
FULL_PAGES = ("docs/scale-boosting.md", *(f"docs/start/{page}.md" for page in ("boosters", "jax", "keras", "pytorch")))


@pytest.fixture(autouse=True)
def settings_stay() -> Iterator[None]:
    before = parfocal.kernel_info()
    with np.printoptions():
        yield
    kernel.use(before["kernel"])
    parfocal.set_num_threads(before["threads"])
    parfocal.config.set_floatx("float32")
    parfocal.config.set_epsilon(1e-7)


# One worker runs all tests that match one of these, because they share something expensive; the others go to any free
# worker.  xdist has a mark for that, which pytest 9.2 ignores (github.com/pytest-dev/pytest-xdist/issues/1386).
TOGETHER = (
    # the truth of second derivatives, and TensorFlow, which takes long to import
    r"test_derivatives|test_(backends_agree|frameworks|schedule).*(tensorflow|tf\.function|test_tf_|unknown_rank)",
    r"test_jax_|test_(backends_agree|frameworks|schedule).*(jax|vmap)",  # what JAX compiles for each shape
    r"test_app_classes\.py",  # a fitted model
    r"test_torch_ranks",  # processes
    r"test_dask|docs/scale-boosting",  # a cluster
    r"test_mutants.*kernel",  # what every broken kernel is linked with
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next((group for group in TOGETHER if re.search(group, nodeid)), nodeid)

    return Scheduling(config, log)


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
    """Also called for the reports of xdist's workers, in the process that started them."""
    if report.skipped and report.nodeid not in ALLOWED_SKIPS:
        skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if skipped:
        print(f"\nskipped, but not in ALLOWED_SKIPS (conftest.py): {', '.join(sorted(set(skipped)))}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.option.markexpr == "not full":
        terminalreporter.write_line('This was the first tier.  The whole suite: python -m pytest -m ""')
