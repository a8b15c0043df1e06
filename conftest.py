"""For tests and doctests alike: settings and print options are put back after each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import parfocal


@pytest.fixture(autouse=True)
def settings_stay() -> Iterator[None]:
    with np.printoptions():
        yield
    parfocal.config.set_floatx("float32")
    parfocal.config.set_epsilon(1e-7)
