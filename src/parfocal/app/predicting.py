"""`parfocal predict`: a model's folder and a table become a file of probabilities, chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
from rich.console import Console

from parfocal.app import files
from parfocal.app.data.tables import is_parquet, open_table
from parfocal.app.errors import BadInput
from parfocal.app.model.decisions import Decision, decision, needs_rows, without_rows
from parfocal.app.model.model import Model
from parfocal.app.model.reasons import check_why
from parfocal.app.model.rules import read_rule, with_costs
from parfocal.app.model.saved import read_evidence, read_model
from parfocal.app.model.scoring import Scorer, Scores, check_keep
from parfocal.app.tell.progress import progress

DEFAULT = "default"  # --decide: what the model was told to be after


def predict(
    folder: Path,
    table_path: Path,
    out: Path,
    keep: Sequence[str],
    rule: str,
    force: bool,
    progress_console: Console,
    why: int | None = None,
) -> Scores:
    """Write the file `out`, all or nothing.  `why` is how many reasons to give for each row."""
    reasons = check_why(why)
    if out.exists() and table_path.exists() and out.samefile(table_path):
        raise BadInput(f"--out {out} is the table itself; choose another name")
    files.check_free(out, force, Path.is_file, "a file")
    if not (is_parquet(out) or out.suffix.lower() in (".csv", ".tsv")):
        raise BadInput(f"--out {out}: the name must end in .csv, .tsv or .parquet")
    model = read_model(folder)
    decided = model.decision if rule == DEFAULT else decision_for(rule, folder, model)
    table = open_table(table_path)
    keep = list(dict.fromkeys(keep))
    check_keep(keep, table, out, model, reasons)
    scorer = Scorer(model, decided, table, keep, reasons)
    with files.staged(out, force, Path.is_file) as new:
        parts: list[Path] = []
        with progress(progress_console, "scoring chunks") as watch:
            for scored in scorer.chunks():
                parts.append(new.parent / f"part-{len(parts):06}.parquet")
                scored.write_parquet(parts[-1])
                watch.advance()
        scorer.check()
        write_parts(parts, new)
    return scorer.found(folder, out)


def decision_for(text: str, folder: Path, model: Model) -> Decision:
    """What `--decide TEXT` asks for, chosen on the out-of-fold rows of the fit where it needs them."""
    rule = with_costs(read_rule(text), model.classes)
    if not needs_rows(rule):
        return without_rows(rule, model.prior)
    return decision(rule, read_evidence(folder, model, f"--decide {rule.text}"))


def write_parts(parts: list[Path], new: Path) -> None:
    """All parts as one file, streamed."""
    rows = pl.scan_parquet(parts, glob=False)
    if is_parquet(new):
        rows.sink_parquet(new)
    else:
        rows.sink_csv(new, separator="\t" if new.suffix.lower() == ".tsv" else ",")
