"""Runs one library with a given number of threads: `python -m bench.worker LIBRARY ...` prints a JSON line per row.

`python -m bench` starts it, with the environment that limits the threads of each library (`environment`).
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from bench import answers, machine, references, timing, works
from bench.contenders import Contender
from bench.rows import Row

# The files in contenders/ that run in each library's process.
LIBRARIES = {
    "fallback": ("ours",),
    "numpy": ("ours", "by_hand"),
    "torch": ("ours", "torch", "keras", "kornia"),
    "jax": ("ours", "jax"),
    "lightgbm": ("lightgbm",),
    "import": ("imports",),
}
ONE_THREAD_ONLY = ("fallback", "import")


def environment(library: str, threads: int) -> dict[str, str]:
    """Variables that must be set before a library is imported."""
    variables = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC")}
    if threads == 1:
        variables["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"  # and NPROC, which sizes its thread pool
    if library == "fallback":
        variables["PARFOCAL_KERNEL"] = "numpy"
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3"}  # otherwise XLA logs every constant that takes it a second to fold
    return os.environ | variables | quiet | {"KERAS_BACKEND": "torch", "JAX_PLATFORMS": "cpu"}


def contenders(task: works.Task, data: works.Data, library: str) -> Iterator[Contender | str]:
    """All contenders of a process; for a library that is not installed, one that says so."""
    for name in LIBRARIES[library]:
        try:
            module = importlib.import_module(f"bench.contenders.{name}")
        except ModuleNotFoundError as error:
            if (error.name or "").startswith(("bench", "parfocal")):
                raise
            yield error.name or name
        else:
            yield from module.contenders(task, data, library)


def measure(task: works.Task, library: str, threads: int, folder: Path, effort: timing.Effort) -> list[Row]:
    """Check all contenders of a task, then time those that are right."""
    data = works.draw(task)
    rows, calls = [], {}
    for contender in contenders(task, data, library):
        if isinstance(contender, str):
            rows.append(Row.of(task, threads, library, contender, status="not installed"))
            continue
        row = Row.of(task, threads, library, contender.name, base=contender.base, kernel=machine.kernel())
        rows.append(row)
        row.status = contender.absent or checked(task, contender, folder, row)
        if row.status == "ok":
            calls[contender.name] = contender.call
    if task.work == "import":
        effort = effort._replace(repeats=3 * effort.repeats)  # the start of a process varies most
    clocks = timing.in_turns(calls, effort)
    for row in rows:
        if row.contender in clocks:
            clock = clocks[row.contender]
            row.median_s, row.p20_s, row.p80_s = clock.percentiles()
            row.repeats, row.cores_used = len(clock.samples), round(clock.cores_used, 2)
    return rows


def checked(task: works.Task, contender: Contender, folder: Path, row: Row) -> str:
    """ "ok", or why the contender is not timed: a peer that fails must not stop the others."""
    try:
        wrong, errors = answers.check(folder, task, contender, contender.call())
    except Exception as error:
        return f"failed: {type(error).__name__}: {error}".splitlines()[0][:200]
    row.loss_error, row.gradient_error = errors.get("loss"), errors.get("gradient")
    return wrong or "ok"


def main(library: str, threads: int, folder: Path, quick: bool, only: list[str]) -> None:
    machine.set_threads(threads)
    for task in works.tasks(quick, only):
        if library == "fallback":
            references.write_references(folder, task)
        if library in task.libraries:
            for row in measure(task, library, threads, folder, timing.QUICK if quick else timing.Effort()):
                print(json.dumps(asdict(row)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4] == "quick", sys.argv[5].split(","))
