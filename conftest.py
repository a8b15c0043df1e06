"""What every test file gets: the folder of the oracle and the cases on the path, and the settings as they were."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import parfocal


@pytest.fixture(autouse=True)
def settings_stay() -> Iterator[None]:
    yield
    parfocal.config.set_floatx("float32")
    parfocal.config.set_epsilon(1e-7)
