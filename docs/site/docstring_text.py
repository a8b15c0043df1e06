"""A docstring of parfocal as Markdown: sections, entries `name : text`, lists, formulas and examples."""

from __future__ import annotations

import re
from collections.abc import Iterator

SECTIONS = ("Parameters", "Attributes", "Returns", "Raises", "Notes", "Examples")
NAME = r'(?:\*{0,2}[A-Za-z_][\w.]*|"[a-z_0-9]+")'
ENTRY = re.compile(rf"({NAME}(?:, {NAME})*(?:, or [^:]{{1,40}}| and {NAME})?) : (.*)")
GAP = re.compile(r'("[^"]+"|[A-Za-z_][\w.]*(?:, [A-Za-z_][\w.]*)*)  +(\S.*)')
RAISED = re.compile(r"([A-Z]\w*(?:Error|Warning)\b.*)")


def indent_of(line: str) -> int:
    return len(line) - len(line.lstrip())


def as_code(names: str) -> str:
    """`a, b` as two names in code."""
    return re.sub(NAME, lambda name: f"`{name[0]}`", names) if " or " not in names else names


def indented(lines: list[str]) -> list[str]:
    return ["    " + line if line else "" for line in lines]


def dedented(lines: list[str]) -> list[str]:
    least = min((indent_of(line) for line in lines if line.strip()), default=0)
    return [line[least:] for line in lines]


def markdown(text: str) -> str:
    """A docstring, or a part of it, as Markdown."""
    return "\n".join(blocks(text.splitlines())).strip() + "\n"


def blocks(lines: list[str], section: str = "") -> Iterator[str]:
    """Markdown of lines that start at the left: sections, entries `name : text`, examples, lists and formulas."""
    at = 0
    while at < len(lines):
        line = lines[at]
        if line in SECTIONS and at + 1 < len(lines) and set(lines[at + 1]) == {"-"}:
            section, at = line, at + 2
            yield from ("", f"**{section}**" if section != "Notes" else "", "")
            continue
        if line.startswith(">>> "):
            end = next((k for k in range(at, len(lines)) if not lines[k].strip()), len(lines))
            yield from ("", "```pycon", *lines[at:end], "```", "")
            at = end
            continue
        entry = ENTRY.fullmatch(line)
        if entry or (section == "Raises" and RAISED.match(line)) or GAP.fullmatch(line):
            end = at + 1
            wide = bool(entry) or bool(GAP.fullmatch(line))
            while end < len(lines) and (lines[end].startswith("    ") if wide else continues(lines[end])):
                end += 1
            while wide and end < len(lines) - 1 and not lines[end] and lines[end + 1].startswith("    "):
                end += 1
                while end < len(lines) and lines[end].startswith("    "):
                    end += 1
            rest = dedented(lines[at + 1 : end])
            if entry:
                yield from ("", as_code(entry[1]), "")
                body = list(blocks([entry[2], *rest]))
                yield from (f":   {body[0]}", *indented(body[1:]), "")
            else:
                gap = GAP.fullmatch(line)
                first = f"{as_code(gap[1])}: {gap[2]}" if gap else re.sub(r"^\w+", r"`\g<0>`", line)
                yield from ("", f"- {first}", *indented([part.strip() for part in rest]), "")
            at = end
            continue
        if line.startswith("    ") and (at == 0 or not lines[at - 1].strip()):
            end = at
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            part = dedented(lines[at:end])
            yield from blocks(part) if GAP.fullmatch(part[0]) else ["", *indented(part), ""]
            at = end
            continue
        if line.startswith("- ") and at and lines[at - 1].strip() and not lines[at - 1].startswith(("- ", "  ")):
            yield ""
        yield re.sub("^>", "&gt;", line)  # ">= 0" is not a quotation
        at += 1


def continues(line: str) -> bool:
    """Whether a line goes on with the error that was named above it."""
    return bool(line.strip()) and not RAISED.match(line)
