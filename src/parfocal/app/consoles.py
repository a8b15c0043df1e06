"""How the command line prints: its two streams, and its help."""

from __future__ import annotations

import os
import re
import sys
from typing import IO, Any, cast

from rich.console import Console
from typer.core import TyperArgument, TyperCommand


class Command(TyperCommand):
    """Its help names an argument as users write it: TABLE, where typer has {TABLE} and TABLE <path>."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        for parameter in self.params:
            if isinstance(parameter, TyperArgument):
                # typer makes the parameters, so a subclass of them would never be used
                parameter.display_type_rich = lambda ctx: None  # type: ignore[method-assign]

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]


class Unpadded:
    """A stream of text, without the blanks that rich fills lines with."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(re.sub(" +(?=\n)", "", text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Output(Console):
    """Standard output whose reader may leave: `parfocal fit ... | head` still writes the model."""

    def on_broken_pipe(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def consoles() -> tuple[Console, Console]:
    """Standard output and standard error."""
    out, err = (cast("IO[str]", Unpadded(stream)) for stream in (sys.stdout, sys.stderr))
    return Output(file=out, highlight=False), Console(file=err, highlight=False)
