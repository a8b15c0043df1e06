"""A Python that starts, imports, and stops without tidying up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from bench.contenders import Contender
from bench.works import Data, Task

STATEMENTS = ("pass", "import numpy", "import parfocal")


def contenders(task: Task, data: Data, library: str) -> Iterator[Contender]:
    for statement in STATEMENTS:
        call = partial(subprocess.run, [sys.executable, "-c", f"{statement}; import os; os._exit(0)"], check=True)
        yield Contender(statement, call, base=statement == "import parfocal")
