"""The commands, their options, and how errors are printed."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from polars.exceptions import PanicException, PolarsError
from rich.console import Console

from parfocal import __version__
from parfocal.app.consoles import Command, consoles
from parfocal.app.data.roles import Roles
from parfocal.app.errors import BadInput, escaped, one_line, shown
from parfocal.app.files import is_full
from parfocal.app.model.rules import read_rule
from parfocal.app.options import Dates, Decimal, EngineName, Metric, Options, reading_of, seconds

LONGEST_LINE = 20_000  # characters of a message
LARGEST_SEED = 2**31 - 1  # LightGBM's

WELCOME = """parfocal {version}: focal losses, and models for tables with a rare class.

    parfocal demo                                       try it on a small table that comes with it
    parfocal fit TABLE --target COLUMN --out MODEL      compare losses, train the best, calibrate, decide
    parfocal predict MODEL TABLE --out SCORES           score a table: probability and decision
    parfocal decide MODEL RULE                          decide by costs, recall, precision or alarms instead
    parfocal info                                       what computes the losses here
    parfocal COMMAND --help                             every option"""

app = typer.Typer(rich_markup_mode=None)


def print_version(wanted: bool) -> None:
    if wanted:
        from parfocal.app.model.saved import versions  # here, because --help need not wait for LightGBM

        parfocal, *others = versions().items()
        print(f"parfocal {parfocal[1]} ({', '.join(' '.join(other) for other in others)})")
        raise typer.Exit


@app.callback()
def parfocal(
    version: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Print versions and exit."),
    ] = False,
) -> None:
    """Find a rare event, or rare classes, in a table: choose a loss, train on it, and get calibrated probabilities."""


@app.command(cls=Command)
def info() -> None:
    """Say what computes the losses here: which kernel, how many threads, what a GPU would need, which libraries."""
    import platform

    from parfocal.app.model.saved import versions
    from parfocal.backends import gpu
    from parfocal.backends.kernel import kernel_info

    found = kernel_info()
    print(f"kernel     {found['kernel']} (of {', '.join(found['available'])})")
    if found["note"]:
        print(f"           no native kernel: {found['note']}")
    print(f"threads    {found['threads']}")
    print(f"on a GPU   {found['gpu']}")
    for lack in gpu.missing():
        print(f"           missing: {lack}")
    print(f"processor  {platform.machine()}, {platform.system()}, Python {platform.python_version()}")
    print(f"libraries  {', '.join(' '.join(item) for item in versions().items())}")


@app.command(cls=Command)
def fit(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A CSV or Parquet file.")],
    target: Annotated[str, typer.Option(metavar="COLUMN", help="What to predict: two classes or more.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder to write the model to.")],
    positive: Annotated[
        str | None,
        typer.Option(metavar="VALUE", help="The class to find, against all others. [default: the rarer of two]"),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="A column that the model must not use; repeatable."),
    ] = None,
    other: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Join classes with fewer than N rows into one named other; leave them out where they are fewer than 8 "
            "rows together.",
        ),
    ] = None,
    weight: Annotated[str | None, typer.Option(metavar="COLUMN", help="The weight of each row.")] = None,
    time: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="When each row was: train on the past, test on what follows."),
    ] = None,
    missing: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MARK", help="A text that stands for a missing value, besides NA, ? and others; repeatable."
        ),
    ] = None,
    decimal: Annotated[
        Decimal | None, typer.Option(help="The decimal mark, where a column can be read with either.")
    ] = None,
    dates: Annotated[
        Dates | None, typer.Option(help="How 1/2/2013 is read. [default: as all values allow, else day-first]")
    ] = None,
    gamma: Annotated[
        list[float] | None,
        typer.Option(metavar="NUMBER", help="A gamma of the grid; repeatable. [default: 1 and 2]"),
    ] = None,
    alpha: Annotated[
        list[float] | None,
        typer.Option(
            metavar="NUMBER",
            help="A weight of the positive class of two, in (0, 1); repeatable. [default: 0.25 and 0.5]",
        ),
    ] = None,
    engine: Annotated[
        EngineName,
        typer.Option(help="Who grows the trees (catboost: two classes only), or linear models alone."),
    ] = EngineName.lightgbm,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="After the usual losses, search for gamma, class weights and settings of the booster for this long "
            "(90s, 5m, 1h30m); not with --gamma or --alpha. The result depends on the speed of the machine.",
        ),
    ] = None,
    decide: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE",
            help="What decisions aim at; repeatable, and predict takes the first. f1, f2; cost:MISS,ALARM, what a "
            "miss and a false alarm cost; recall:0.8; precision:0.5; alarms:5/1000; alarms:100/day, with --time; "
            "balanced. With more than two classes: most-probable, balanced, costs:FILE.csv. [default: f1, or "
            "most-probable]",
        ),
    ] = None,
    select: Annotated[
        Metric, typer.Option(help="The metric that chooses the winner; training always stops by log loss.")
    ] = Metric.log_loss,
    fast: Annotated[
        bool, typer.Option("--fast", help="Only cross-entropy, logistic regression and one focal loss, on three folds.")
    ] = False,
    refit: Annotated[
        bool,
        typer.Option(
            "--refit",
            help="At the end, train the winner on all rows, those of the final test too. The numbers stay those of the "
            "model before: they estimate the saved model, and no longer test it.",
        ),
    ] = False,
    seed: Annotated[
        int,
        typer.Option(
            metavar="NUMBER", min=0, max=LARGEST_SEED, help="The same seed gives the same bits, except with --budget."
        ),
    ] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace the model at --out.")] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print what was found as JSON on standard output, and the usual text on standard error.",
        ),
    ] = False,
) -> None:
    """Compare cross-entropy, logistic regression and focal losses on a table, and train the best.

    Probabilities are calibrated on the out-of-fold scores. Of the losses within one standard error of the best, the
    simplest is saved.
    """
    from parfocal.app import fitting  # here, because predict need not wait for matplotlib
    from parfocal.app.tell import record

    options = Options(
        table=table,
        out=out,
        roles=Roles(target, positive, tuple(dict.fromkeys(drop or ())), weight, time, other),
        reading=reading_of(missing or (), decimal, dates),
        gammas=gamma or (),
        alphas=alpha or (),
        engine=engine,
        budget=None if budget is None else seconds(budget),
        select=select,
        fast=fast,
        refit=refit,
        rules=tuple(dict.fromkeys(map(read_rule, decide or ()))),
        seed=seed,
        force=force,
    )
    out_console, err_console = consoles()
    found = fitting.fit(options, err_console if as_json else out_console, err_console)
    if as_json:
        print_json(out_console, record.of_fit(found))


@app.command(cls=Command)
def predict(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What `parfocal fit` wrote.")],
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A CSV or Parquet file with the model's columns.")],
    out: Annotated[Path, typer.Option(metavar="SCORES", help="A .csv, .tsv or .parquet file to write.")],
    keep: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="A column to copy into the output; repeatable.")
    ] = None,
    decide: Annotated[
        str,
        typer.Option(
            metavar="RULE",
            help="What decisions aim at, for this table alone: as for fit, and chosen on the rows of that fit. "
            "[default: the model's own rule]",
            show_default=False,
        ),
    ] = "default",
    why: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="For each row, the N columns that moved its probability most (1 to 20), in words: why_1, why_2, ...",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file at --out.")] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print what was done as JSON on standard output, and the usual text on standard error.",
        ),
    ] = False,
) -> None:
    """Score a table of any size: the columns to keep, then `probability` and `decision`, and with --why the reasons.

    decision is true where the probability reaches a threshold. With more than two classes each has a column,
    `probability_<class>`, and decision is the name of one of them; --decide says how.
    """
    from parfocal.app import predicting
    from parfocal.app.tell import record, scores

    out_console, err_console = consoles()
    found = predicting.predict(folder, table, out, keep or (), decide, force, err_console, why)
    scores.print_scores(err_console if as_json else out_console, found)
    if as_json:
        print_json(out_console, record.of_scores(found))


@app.command("decide", cls=Command)
def decide_(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What `parfocal fit` wrote.")],
    rules: Annotated[
        list[str] | None,
        typer.Argument(metavar="RULE", help="As --decide of fit; several may be given, and predict takes the first."),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print the decisions as JSON on standard output, and the usual text on standard error.",
        ),
    ] = False,
) -> None:
    """Change what a model's decisions aim at, without training; without a rule, show it.

    The threshold is chosen on the out-of-fold rows of the fit, and its final test tells what it gave.
    """
    from parfocal.app import deciding
    from parfocal.app.tell import record

    out_console, err_console = consoles()
    try:
        found = deciding.decide(
            folder, [read_rule(rule) for rule in rules or ()], err_console if as_json else out_console
        )
    except BadInput as error:  # the rules of `decide` have no option before them
        raise BadInput(str(error).removeprefix("--decide ")) from error
    if as_json:
        print_json(out_console, {"model": str(folder), "decisions": [record.of_decision(one) for one in found]})


@app.command("demo", cls=Command)
def demo_(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder to write the model to.")] = Path(
        "parfocal-demo"
    ),
    force: Annotated[bool, typer.Option("--force", help="Replace the model at --out.")] = False,
) -> None:
    """Fit a small table that comes with parfocal: which flights from New York are cancelled?"""
    from parfocal.app import demo, fitting

    out_console, err_console = consoles()
    options = demo.options(out, force)
    print(f"Every 23rd flight of 2013 from New York; 2.5 % were cancelled.  The same as:\n\n    {demo.command(out)}\n")
    fitting.fit(options, out_console, err_console)


def print_json(console: Console, found: dict[str, Any]) -> None:
    """In ASCII, which every terminal and every file can hold."""
    console.out(json.dumps(found, indent=2, allow_nan=False), highlight=False)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command.  Whatever goes wrong is printed in one line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # where a terminal lacks ± a question mark is printed
            stream.reconfigure(errors="replace")
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not given and "_PARFOCAL_COMPLETE" not in os.environ:
            print(WELCOME.format(version=__version__))
            return 0
        with termination_as_exit():
            status = app(given, prog_name="parfocal", standalone_mode=False)
    except BadInput as error:
        return fail(str(error))
    except ModuleNotFoundError:
        raise
    except OSError as error:
        if is_full(error):
            return fail(f"{error.filename or 'standard output'}: the disk is full; make room, or choose another place")
        return fail(f"{error.filename or 'the system'}: {error.strerror or one_line(error)}")
    except MemoryError:
        return fail("out of memory; use fewer rows or columns (--drop)")
    except (PolarsError, PanicException) as error:
        return fail(f"the table can't be used: {one_line(error)}")
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    except Exception as error:
        if hasattr(error, "format_message"):  # the command line itself was wrong
            asked = "parfocal" if given[0].startswith("-") else f"parfocal {given[0]}"  # some errors do not name it
            command = getattr(getattr(error, "ctx", None), "command_path", asked)
            return fail(f"{what_is_wrong(error)} ({command} --help shows the options)")
        if os.environ.get("PARFOCAL_TRACEBACK"):
            raise
        trouble = f"internal error, please report it: {type(error).__name__}: {one_line(error)}"
        return fail(f"{trouble} (PARFOCAL_TRACEBACK=1 shows where)", status=1)
    if status == 130:
        return fail("interrupted; nothing was written", status=130)
    return int(status or 0)


def what_is_wrong(error: Any) -> str:
    """An error of the command line; typer would tell it in the words of pydantic."""
    found = error.__cause__.errors() if hasattr(error.__cause__, "errors") else []
    if not found or getattr(error, "param", None) is None:
        return one_line(Exception(error.format_message()))
    kind, given, limits = found[0]["type"], str(found[0]["input"]), found[0].get("ctx", {})
    needed = {
        "float_parsing": "it must be a number, such as 2 or 0.5",
        "int_parsing": "it must be a whole number",
        "greater_than_equal": f"it must be {limits.get('ge')} or more",
        "less_than_equal": f"it must be {limits.get('le')} or less",
    }.get(kind, found[0]["msg"].removeprefix("Value error, ").rstrip("."))
    option = error.param.get_error_hint().strip("'")
    return f"{option}: {needed}" if repr(given) in needed else f"{option} {shown(given)}: {needed}"


def fail(message: str, status: int = 2) -> int:
    line = escaped(" ".join(message.splitlines()))  # a column's name may hold a line break, or be very long
    print(f"parfocal: {line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + ' ...'}", file=sys.stderr)
    return status


@contextmanager
def termination_as_exit() -> Iterator[None]:
    """SIGTERM and a closing terminal unwind the stack, as Ctrl-C does, so that unfinished folders are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    endings = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = [signal.signal(ending, leave) for ending in endings]
    try:
        yield
    finally:
        for ending, handler in zip(endings, before, strict=True):
            signal.signal(ending, handler)
