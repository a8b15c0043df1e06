"""`python -m bench` on a processor: check and time everything, print a table and the promises, and write a CSV."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from bench import machine, report, worker, works
from bench.rows import Row, compare_with_ours


def main(
    out: Annotated[Path, typer.Option(help="Where to write the CSV.")] = Path("bench/results.csv"),
    only: Annotated[str, typer.Option(help=f"Some of {','.join(works.WORKS)}.")] = ",".join(works.WORKS),
    quick: Annotated[
        bool, typer.Option(help="Small sizes and few repeats, to check that everything runs and is right.")
    ] = False,
) -> None:
    """Time parfocal beside other libraries, each only after its result was checked.  On a GPU: python -m bench --gpu.

    Exits with 1 if a result is wrong, or if parfocal or a whole process fails.
    """
    chosen = only.split(",")
    if unknown := sorted(set(chosen) - set(works.WORKS)):
        raise typer.BadParameter(f"{', '.join(unknown)}; there are {', '.join(works.WORKS)}")
    tasks = works.tasks(quick, chosen)
    rows: list[Row] = []
    crashed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="parfocal-bench-") as folder:
        for library in worker.LIBRARIES:  # the fallback runs first: it writes the references for the others
            if library != "fallback" and not any(library in task.libraries for task in tasks):
                continue
            for threads in (1,) if quick or library in worker.ONE_THREAD_ONLY else sorted({1, machine.cores()}):
                command = [sys.executable, "-m", "bench.worker", library, str(threads), folder]
                command += ["quick" if quick else "full", only]
                code = collect(command, worker.environment(library, threads), rows)
                if code and library == "fallback":
                    raise SystemExit("no references, so nothing can be checked; the error is printed above")
                if code:
                    crashed.append(f"{library} with {threads} threads ended with {code}")
    compare_with_ours(rows)
    console = report.console()
    if rows:
        report.print_rows(rows, tasks, console)
        report.write_csv(rows, out)
        report.print_promises(rows, chosen, console)
    failed = [f"{row.contender}, {row.work} {row.size}: {row.status}" for row in rows if row.failed] + crashed
    for line in failed:
        typer.echo(line, err=True)
    raise typer.Exit(1 if failed else 0)


def collect(command: list[str], environment: dict[str, str], rows: list[Row]) -> int:
    """Run a worker, add its rows, and print its progress."""
    shown = ""
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for printed in process.stdout or ():
            if printed.startswith("{"):
                row = Row(**json.loads(printed))
                rows.append(row)
                if (line := f"{row.work} {row.size}, {row.beside}, threads: {row.threads}") != shown:
                    typer.echo(line, err=True)
                    shown = line
    return process.returncode


def run() -> None:
    typer.run(main)
