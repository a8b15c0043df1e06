"""Numbers as people and spreadsheets write them: decimal commas, thousands, percent, currencies, brackets for minus.

A notation is chosen only if every value of the column is written in it, and if no other notation reads the values
differently: `1,234` alone may be a thousand or a bit more than one, and stays text until `--decimal` says which.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

# Between groups of three digits; a blank may be a no-break or a thin one.
BLANKS = "\u0020\u00a0\u2009\u202f"
GROUPS = {"": "", ",": ",", ".": r"\.", " ": f"[{BLANKS}]", "'": "['\u2019]"}
DECIMALS = {".": r"\.", ",": ","}
# Before a number only a currency: r1, r2 and v3 are names.  After it anything short that is not part of a number.
CURRENCIES = "AUD BRL CAD CHF CNY CZK DKK EUR GBP HKD HUF INR JPY KRW MXN NOK NZD PLN RUB SEK SGD TRY USD ZAR"
BEFORE = rf"(?:[A-Z]{{0,3}}[$\u20ac\u00a3\u00a5\u20b9\u20bd\u20a9\u20ba]|{'|'.join(CURRENCIES.split())})"
BEHIND = r"[^\d\s.,'\u2019+()\u2212-][^\d.,'\u2019+()\u2212-]{0,7}"
SIGN = r"[+\u2212-]?"


@dataclass(frozen=True)
class Notation:
    """How the numbers of a column are written."""

    decimal: str = "."
    thousands: str = ""
    unit: str = ""  # before or after every number

    @property
    def plain(self) -> bool:
        return self == Notation()

    @property
    def words(self) -> str:
        """An example for people: `1.234,5 EUR`."""
        return f"1{self.thousands}234{self.decimal}5{self.unit and ' ' + self.unit}"

    @property
    def pattern(self) -> str:
        """A regular expression for a number without its unit, with brackets or a minus where it is negative."""
        digits = r"\d+"
        if self.thousands:
            group = GROUPS[self.thousands]
            digits = rf"(?:\d{{1,3}}(?:{group}\d{{3}})+|\d+)"
        point = DECIMALS[self.decimal]
        number = rf"(?:{digits}(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?"
        return rf"^(?:{SIGN}{number}|\({number}\)|{number}-)$"

    def read(self, texts: pl.Series) -> pl.Series:
        """The numbers; null where a text is not in this notation."""
        bare = without_unit(texts, self.unit)
        fits = bare.str.contains(self.pattern)
        negative = bare.str.contains(r"^\(|^[\u2212-]|-$")
        digits = bare.str.replace_all(r"[()+\u2212]|^-|-$", "")
        if self.thousands:
            digits = digits.str.replace_all(GROUPS[self.thousands], "")
        if self.decimal != ".":
            digits = digits.str.replace(self.decimal, ".", literal=True)
        numbers = digits.cast(pl.Float64, strict=False)
        chosen = pl.when(fits).then(pl.when(negative).then(-numbers).otherwise(numbers))
        return pl.select(chosen).to_series().rename(texts.name)


def recognise(texts: pl.Series) -> list[Notation]:
    """The notations in which all texts are numbers, one for each different reading."""
    if not len(texts):
        return []
    unit = unit_of(texts)
    found: list[tuple[Notation, pl.Series]] = []
    for notation in notations(unit):
        if notation.read(texts.head(100)).null_count():
            continue
        numbers = notation.read(texts)
        if numbers.null_count():
            continue
        if not any(numbers.equals(other) for _, other in found):
            found.append((notation, numbers))
    return [notation for notation, _ in found]


def first_difference(texts: pl.Series, ways: list[Notation]) -> tuple[str, list[float]]:
    """The first text that the notations read differently, and its values."""
    read = [way.read(texts) for way in ways]
    differs = pl.select(pl.any_horizontal([read[0] != other for other in read[1:]])).to_series()
    place = int(differs.arg_max() or 0)
    return str(texts[place]), [float(numbers[place]) for numbers in read]


def notations(unit: str) -> Iterator[Notation]:
    """The simpler first."""
    for thousands in ("", ",", ".", " ", "'"):
        for point in ".,":
            if point != thousands:
                yield Notation(point, thousands, unit)


def unit_of(texts: pl.Series) -> str:
    """What stands before or after the number in the first text."""
    if not len(texts):
        return ""
    before = re.match(rf"^{SIGN}\(?\s*({BEFORE})\s*[\d.,(+-]", texts[0])
    behind = re.search(rf"\d[\d.,]*\s*({BEHIND})\)?$", texts[0])
    found = before or behind
    return found[1].strip() if found else ""


def without_unit(texts: pl.Series, unit: str) -> pl.Series:
    if not unit:
        return texts
    there = re.escape(unit)
    # The minus may stand before the unit: -$5.
    bare = texts.str.replace(rf"^({SIGN}\(?)\s*{there}\s*", "${1}").str.replace(rf"\s*{there}(\)?-?)$", "${1}")
    has = pl.select(pl.when(texts.str.contains(unit, literal=True)).then(bare)).to_series()
    return has.rename(texts.name)
