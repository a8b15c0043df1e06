"""A Python that starts, imports what it has compiled before, and stops without tidying up."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial

from bench.contenders import Contender
from bench.works import Data, Task

STATEMENTS = ("pass", "import numpy", "import parfocal")


def contenders(task: Task, data: Data, library: str) -> Iterator[Contender]:
    # Where an environment forbids writing bytecode, every import would compile; users' second import does not.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": tempfile.mkdtemp()}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for statement in STATEMENTS:
        command = [sys.executable, "-c", f"{statement}; import os; os._exit(0)"]
        call = partial(subprocess.run, command, check=True, env=environment)
        yield Contender(statement, call, base=statement == "import parfocal")
