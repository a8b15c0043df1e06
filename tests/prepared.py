"""Runs pytest in forks of a process that has imported what takes long: `python tests/prepared.py torch mpmath`.

parfocal is not imported before a fork, so that each run has the one that it is told to have.  A run is a line of JSON
on stdin, [folder of parfocal, environment, arguments of pytest]; its answer is a line too, [exit status, output].
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

WRONG = 70  # parfocal came from elsewhere; pytest's own statuses are below 10


def run(folder: str, environment: dict[str, str], arguments: list[str]) -> int:
    assert "parfocal" not in sys.modules
    os.environ.update(environment)
    sys.path[:0] = [folder]
    status = int(pytest.main(arguments))
    origin = Path(sys.modules["parfocal"].__file__ or "")
    if not origin.is_relative_to(folder):
        print(f"parfocal was imported from {origin}")
        return WRONG
    return status


def forked(folder: str, environment: dict[str, str], arguments: list[str]) -> tuple[int, str]:
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if not child:
            status = WRONG
            try:
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                for stream in (1, 2):
                    os.dup2(output.fileno(), stream)
                status = run(folder, environment, arguments)
                sys.stdout.flush()
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output.seek(0)
        return status, output.read().decode(errors="replace")


def main() -> None:
    for plugin in entry_points(group="pytest11"):
        plugin.load()
    for name in sys.argv[1:]:
        importlib.import_module(name)
    for line in sys.stdin:
        print(json.dumps(forked(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
