"""What tests of every kernel share."""

from __future__ import annotations

import pytest

from parfocal import kernel


@pytest.fixture(params=kernel.available())
def each_kernel(request: pytest.FixtureRequest) -> str:
    """Every kernel that this machine runs, NumPy among them, one after the other."""
    kernel.use(request.param)
    name: str = request.param
    return name
