"""What tests of every kernel share, and which files pytest does not collect."""

from __future__ import annotations

from pathlib import Path

import pytest

from parfocal.backends import kernel

FASTEST, *OTHERS = kernel.available()

# Run by test_keras_adapter.py and test_*_ranks.py, in processes of their own.
collect_ignore = ["keras_adapter.py", "jax_ranks.py", "keras_models.py", "torch_ranks.py"]


@pytest.fixture(params=kernel.available())
def each_kernel(request: pytest.FixtureRequest) -> str:
    """Every kernel that this machine runs, NumPy among them, one after the other."""
    kernel.use(request.param)
    name: str = request.param
    return name


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.full] * (name in OTHERS[:-1])) for name in kernel.available()]
)
def two_kernels(request: pytest.FixtureRequest) -> None:
    """The fastest kernel and NumPy, for what hardly depends on the instruction set; the full tier has those between."""
    kernel.use(request.param)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of two classes and the model of a fit, made once in each worker."""
    from app_fits import make_folder  # here, because most tests need no matplotlib

    return make_folder(tmp_path_factory.mktemp("app"))
