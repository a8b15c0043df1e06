"""Which cases of a test the first tier has."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import pytest


def tiers(cases: Iterable[Any], first: Container[Any]) -> list[Any]:
    """Cases, a tuple for several parameters, as pytest takes them; those that are not `first` are the full tier's."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=[pytest.mark.full] * (case not in first))
        for case in cases
    ]
