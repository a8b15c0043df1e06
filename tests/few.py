"""A plugin of pytest: `-p few --of-each 3` runs only three of each test's cases, spread evenly over all."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--of-each", type=int, required=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    at_most = config.getoption("of_each")
    items[:] = [item for cases in tests.values() for item in cases[:: -(-len(cases) // at_most)]]
