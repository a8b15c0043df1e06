"""Mistakes that the caller can put right, each told in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from parfocal.checks import counted

__all__ = ["BadInput", "counted", "listed", "nearest", "one_line", "shown"]

SHOWN = 8  # values or names listed in one line before "and N more"


class BadInput(Exception):
    """What was given, what is allowed, and how to fix it, in one line."""


def listed(names: Iterable[object], shown: int = SHOWN) -> str:
    """`a, b, c and 12 more`."""
    texts = [str(name) for name in names]
    if len(texts) <= shown:
        return ", ".join(texts)
    return f"{', '.join(texts[:shown])} and {len(texts) - shown:,} more"


def shown(value: object, most: int = 60) -> str:
    """A value as Python writes it, not longer than a message can hold."""
    text = repr(value if not isinstance(value, str) else value[:most])
    return text if len(text) <= most + 2 else f"{text[:most]} ..."


def nearest(name: str, names: Sequence[str]) -> str:
    """A hint for a name that is not among `names`: one that looks like it, or what there is."""
    lower = {known.lower(): known for known in names}
    close = difflib.get_close_matches(name.lower(), list(lower), n=1)
    return f"did you mean {lower[close[0]]!r}?" if close else f"it has {listed(names)}"


def one_line(error: BaseException) -> str:
    """The first line of another library's message."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
