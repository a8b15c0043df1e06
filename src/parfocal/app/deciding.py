"""`parfocal decide`: another rule for a saved model, without training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from parfocal.app.model.decisions import Evidence
from parfocal.app.model.model import PAGE
from parfocal.app.model.outcomes import Decided, decided
from parfocal.app.model.rules import Rule, with_costs
from parfocal.app.model.saved import read_evidence, read_model, rewrite_decision
from parfocal.app.tell import page, record
from parfocal.app.tell.decisions import print_decisions


def decide(folder: Path, rules: Sequence[Rule], console: Console) -> list[Decided]:
    """Make the first rule the model's own, and print what each does; without a rule, what the model's own does."""
    model = read_model(folder)
    asked = [with_costs(rule, model.classes) for rule in dict.fromkeys(rules)]
    evidence = read_evidence(folder, model, "parfocal decide")
    found = decided(asked or [model.decision.rule], evidence, int(model.record.get("seed", 0)))
    if asked:
        rewrite_decision(
            folder, found[0].decision, [record.of_decision(one) for one in found], redrawn(folder, found, evidence)
        )
    print_decisions(console, found, model.target, model.classes)
    return found


def redrawn(folder: Path, found: Sequence[Decided], evidence: Evidence) -> str | None:
    """The model's page with these decisions; None where it has none, or one that somebody changed."""
    try:
        return page.with_decisions((folder / PAGE).read_text(encoding="utf-8"), found, evidence)
    except (OSError, ValueError, KeyError, TypeError):
        return None
