"""What `predict` prints."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from parfocal.app.errors import counted, shown
from parfocal.app.model.decisions import NEVER
from parfocal.app.model.scoring import Scores


def print_scores(console: Console, found: Scores) -> None:
    """How many rows were decided for each class, and how probable each is on average."""
    model, decision = found.model, found.decision
    for caution in found.cautions:
        console.print(Text(caution))
    means = found.mean_probability
    shares = [f"{counted(count, 'row')} ({100 * count / found.rows:.3g} %)" for count in found.decided]
    scored = f"{counted(found.rows, 'row')} scored"
    if len(model.classes) == 2:
        console.print(Text(f"{scored}, mean probability {means[0]:.4g}"))
        from_here = "never" if decision.threshold == NEVER else f"probability >= {decision.threshold:.4g}"
        how = f"({from_here}, {decision.words})"
        console.print(Text(f"{shares[1]} decided as {shown(model.target)} = {shown(model.classes[1])} {how}"))
    else:
        console.print(Text(f"{scored}; each row gets {decision.words}:"))
        for name, share, mean in zip(model.classes, shares, means, strict=True):
            console.print(Text(f"  {shown(name)}: {share}, mean probability {mean:.4g}"))
    console.print(Text(f"Wrote {found.file}."), soft_wrap=True)
