"""Which cases of a test belong to the first tier."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import pytest


def tiers(cases: Iterable[Any], first: Container[Any]) -> list[Any]:
    """Cases as pytest's parameters, a tuple for several; those that are not in `first` belong to the full tier."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=[pytest.mark.full] * (case not in first))
        for case in cases
    ]
