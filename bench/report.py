"""Prints the rows as a table and beside the promises, and writes them as CSV."""

from __future__ import annotations

import csv
import re
from dataclasses import asdict
from datetime import date
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench import machine
from bench.promises import PROMISES
from bench.rows import Row
from bench.works import Task

WIDTH = 170  # columns of text that the table needs
COLUMNS = ("work", "size", "threads", "contender", "beside", "status")
PERCENTILES = ("median", "p20", "p80")
DETAILS = ("times_ours", "repeats", "cores_used", "loss_error", "gradient_error", "kernel")


def write_csv(rows: list[Row], out: Path) -> None:
    """Times are nanoseconds per logit, and microseconds a call."""
    run = {
        "cpu": machine.processor(),
        "cores": machine.cores(),
        "date": date.today().isoformat(),
        "versions": machine.versions(),
    }
    lines = []
    for row in rows:
        values = asdict(row)
        line = {name: values[name] for name in COLUMNS}
        for name in PERCENTILES:
            seconds = values[f"{name}_s"]
            line[f"{name}_ns_per_logit"] = digits(row.ns_per_logit(seconds), 4)
            line[f"{name}_us_per_call"] = digits(None if seconds is None else 1e6 * seconds, 4)
        for name in DETAILS:
            line[name] = digits(values[name], 3) if isinstance(values[name], float) else values[name]
        lines.append(line | run)
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def digits(value: float | None, count: int) -> str:
    return "" if value is None else f"{value:.{count}g}"


def grouped(text: str) -> str:
    """A size whose long numbers have commas: 4,000,000."""
    return re.sub(r"\d{4,}", lambda number: f"{int(number[0]):,}", text)


def a_call(seconds: float | None) -> str:
    if seconds is None:
        return ""
    unit, scale = next(((u, s) for u, s in (("s", 1), ("ms", 1e3), ("µs", 1e6)) if seconds * s >= 1), ("ns", 1e9))
    return f"{seconds * scale:.3g} {unit}"


def print_rows(rows: list[Row], tasks: list[Task], console: Console) -> None:
    table = Table(box=None, pad_edge=False, title_justify="left", title=headline(rows))
    for name in ("work", "size", "threads", "contender", "beside"):
        table.add_column(name, no_wrap=True)
    for name in ("ns per logit", "p20", "p80", "a call", "times ours"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("note", max_width=45)
    places = [(task.work, task.size) for task in tasks]
    before = None
    for row in sorted(rows, key=lambda row: (places.index((row.work, row.size)), row.threads)):
        here = (row.work, row.size)
        if before not in (None, here):
            table.add_row()
        table.add_row(
            *(("", "") if here == before else (row.work, grouped(row.size))),
            str(row.threads),
            f"[bold]{row.contender}[/]" if row.base else row.contender,
            row.beside,
            *(digits(row.ns_per_logit(seconds), 3) for seconds in (row.median_s, row.p20_s, row.p80_s)),
            a_call(row.median_s),
            digits(row.times_ours, 3),
            "" if row.status == "ok" else escape(row.status),
        )
        before = here
    console.print(table)


def headline(rows: list[Row]) -> str:
    kernels = sorted({row.kernel for row in rows if row.kernel and row.beside != "fallback"})
    return f"{machine.processor()}, {machine.cores()} cores, parfocal's kernel: {', '.join(kernels) or 'unknown'}"


def print_promises(rows: list[Row], works: list[str], console: Console) -> None:
    console.print("\nPromised, with one thread where no other number stands, of the parfocal in [bold]bold[/]")
    table = Table(box=None, pad_edge=False, show_header=False)
    for promise in PROMISES:
        if promise.work in works:
            measured, verdict = promise.verdict(rows)
            table.add_row(promise.work, grouped(promise.asked), measured, verdict)
    console.print(table)


def console() -> Console:
    return Console(width=max(Console().width, WIDTH))
