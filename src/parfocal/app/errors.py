"""Mistakes that the caller can put right, each in one line, and names as they can be printed."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence

from parfocal.core.hosts import counted

__all__ = [
    "BadInput",
    "brief",
    "counted",
    "escaped",
    "listed",
    "nearest",
    "one_line",
    "quoted",
    "shown",
    "trimmed",
    "visible",
]

SHOWN = 8  # values or names listed in one line before "and N more"
LONGEST_NAME = 48  # characters of a name that is shown; one with more is cut in the middle


class BadInput(ValueError):
    """Bad input: one line with what was given, what is allowed, and how to fix it."""


def listed(names: Iterable[object], shown: int = SHOWN) -> str:
    """`a, b, c and 12 more`."""
    texts = [str(name) for name in names]
    if len(texts) <= shown:
        return ", ".join(texts)
    return f"{', '.join(texts[:shown])} and {len(texts) - shown:,} more"


def escaped(text: str) -> str:
    """The text with line breaks, escape sequences and other invisible characters as Python writes them: \\n, \\x1b."""
    return "".join(map(visible, text))


def visible(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")


def shown(name: str) -> str:
    """The name of a class or a column for printing: one line of bounded length.  Files keep the true name."""
    text = trimmed(name, LONGEST_NAME)
    return text if text.strip() == text != "" else quoted(name)


def quoted(name: str) -> str:
    """The same in quotes, for sentences."""
    text = trimmed(name, LONGEST_NAME)
    return f'"{text}"' if "'" in text and '"' not in text else f"'{text}'"


def trimmed(name: str, longest: int, written: Callable[[str], str] = visible) -> str:
    """The name with every character as `written` has it; the middle is left out if it is too long."""
    if len(name) <= longest:
        whole = "".join(map(written, name))
        if len(whole) <= longest:
            return whole
    return f"{beginning(name, longest // 2, written)}…{beginning(name[::-1], (longest - 1) // 2, written, -1)}"


def beginning(letters: str, longest: int, written: Callable[[str], str], direction: int = 1) -> str:
    pieces: list[str] = []
    for letter in letters:
        pieces.append(written(letter))
        if sum(map(len, pieces)) > longest:
            pieces.pop()
            break
    return "".join(pieces[::direction])


def brief(value: object, most: int = 60) -> str:
    """A value as Python writes it, not longer than a message can hold."""
    text = repr(value if not isinstance(value, str) else value[:most])
    return text if len(text) <= most + 2 else f"{text[:most]} ..."


def nearest(name: str, names: Sequence[str]) -> str:
    """A hint for a name that is not among `names`: a similar one, or all of them."""
    lower = {known.lower(): known for known in names}
    close = difflib.get_close_matches(name.lower(), list(lower), n=1)
    return f"did you mean {quoted(lower[close[0]])}?" if close else f"it has {listed(map(shown, names))}"


def one_line(error: BaseException) -> str:
    """The first line of another library's message."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
