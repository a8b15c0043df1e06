"""`parfocal decide`: another rule for a saved model, without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from parfocal.app.errors import escaped
from parfocal.app.model.decisions import Evidence
from parfocal.app.model.model import PAGE, Model
from parfocal.app.model.outcomes import Decided, decided, outcomes
from parfocal.app.model.rules import Rule, with_costs
from parfocal.app.model.saved import read_evidence, read_model, rewrite_decision
from parfocal.app.study.metrics import by_class
from parfocal.app.tell import page, record
from parfocal.app.tell.decisions import print_decisions


def decide(folder: Path, rules: Sequence[Rule], console: Console) -> list[Decided]:
    """Make the first rule the model's own, and print what each does; without a rule, what the model's own does."""
    folder = folder.resolve()
    model = read_model(folder)
    asked = [with_costs(rule, model.classes) for rule in {(rule.kind, rule.numbers): rule for rule in rules}.values()]
    evidence = read_evidence(folder, model, "parfocal decide")
    seed = model.record.get("seed")
    seed = seed if isinstance(seed, int) and seed >= 0 else 0
    found = decided(asked, evidence, seed) if asked else [outcomes(model.decision, evidence, seed)]
    print_decisions(console, found, model.target, model.classes)
    if asked:
        drawn = drawn_again(folder, found, evidence)
        rewrite_decision(folder, found[0].decision, record_with(model, found, evidence), drawn)
        page_too = f"{PAGE} is drawn again" if drawn else f"{PAGE} is not the fit's any more, and stays as it is"
        console.print(Text(f"{folder.name} decides by {escaped(found[0].rule.text)} from now on; {page_too}."))
    return found


def record_with(model: Model, found: Sequence[Decided], evidence: Evidence) -> dict[str, Any]:
    """The fit's record with these decisions, and with what the first does to each class of the final test."""
    test, winner = evidence.test, model.record.get("winner")
    told = {**model.record, "decisions": [record.of_decision(one) for one in found]}
    if isinstance(told.get("by_class"), dict) and winner in told["by_class"]:
        results = by_class(test.labels, test.probabilities, found[0].decision, test.weights)
        of_winner = {name: asdict(result) for name, result in zip(model.classes, results, strict=True)}
        told["by_class"] = {**told["by_class"], winner: of_winner}
    return told


def drawn_again(folder: Path, found: Sequence[Decided], evidence: Evidence) -> str | None:
    """The model's page with these decisions; None where it has none, or one that somebody changed."""
    try:
        return page.with_decisions((folder / PAGE).read_text(encoding="utf-8"), found, evidence)
    except Exception:  # whatever is wrong with a page that is not ours
        return None
