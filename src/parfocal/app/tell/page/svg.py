"""Charts as inline SVG: scales with nice ticks, axes, and a few marks.  Colours are classes of style.css."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from parfocal.app.errors import trimmed

WIDTH = 380  # in units of the text: at 360 pixels they are 0.86 pixels, and text of 13 is 11 pixels high
Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """From values to places; `low` may be the larger one."""

    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            value, low, high = (math.log10(max(number, 1e-300)) for number in (value, low, high))
        share = (value - low) / (high - low) if high != low else 0.5
        return self.begin + min(max(share, 0.0), 1.0) * (self.end - self.begin)

    def ticks(self, about: int = 5) -> list[float]:
        return log_ticks(self.low, self.high, about) if self.log else linear_ticks(self.low, self.high, about)


def linear_ticks(low: float, high: float, about: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    raw = (high - low) / max(about, 1)
    unit = 10.0 ** math.floor(math.log10(raw))
    step = unit * min((factor for factor in (1, 2, 5, 10) if factor * unit >= raw * 0.999), default=10)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def log_ticks(low: float, high: float, about: int) -> list[float]:
    """Powers of ten; with 2 and 5 times them where there are few."""
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        found = [
            float(f"{factor * 10.0**power:.6g}")
            for power in powers
            for factor in factors
            if low * 0.999 <= factor * 10.0**power <= high * 1.001
        ]
        if len(found) >= min(about, 4):
            break
    return found[:: max(1, math.ceil(len(found) / (about + 2)))]


def domain_of(values: Iterable[float], zero: bool = False, share: float = 0.05) -> tuple[float, float]:
    """Around all values, with a little room; with `zero` 0 is in it, and where nothing lies below it, it is the end."""
    known = [*values, *([0.0] if zero else [])]
    low, high = min(known), max(known)
    room = share * ((high - low) or abs(high) or 1.0)
    return (low if zero and low == 0 else low - room), (high if zero and high == 0 else high + room)


def significant(value: float, digits: int = 3) -> str:
    """0.0245, 0.410, 12.0 and 1,234, without an exponent; with a true minus sign."""
    size = math.floor(math.log10(abs(value))) if value else 0
    decimals = min(max(digits - 1 - size, 0), 10)
    return f"{value:,.{decimals}f}".replace("-", "−")


def number(value: float, digits: int = 3) -> str:
    """The same without zeros at the end."""
    text = significant(value, digits)
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(share: float, digits: int = 3) -> str:
    """2.45 %, on one line."""
    return f"{number(100 * share, digits)}\N{NO-BREAK SPACE}%"


@dataclass
class Chart:
    """A drawing of WIDTH by `height`, with its plot inside the margins."""

    label: str  # what a screen reader says
    height: float
    x: Scale
    y: Scale
    css: str = ""
    data: dict[str, object] = field(default_factory=dict)
    parts: list[Markup] = field(default_factory=list)

    def add(self, template: str, *values: object) -> None:
        self.parts.append(Markup(template).format(*values))

    def line(self, points: Sequence[Point], css: str) -> None:
        d = "M" + "L".join(f"{place(self.x(x))},{place(self.y(y))}" for x, y in points)
        self.add('<path class="{}" d="{}"/>', css, d)

    def segment(self, a: Point, b: Point, css: str) -> None:
        self.line([a, b], css)

    def mark(self, at: Point, shape: str, css: str, title: str = "", size: float = 5, name: str = "") -> None:
        said = Markup("<title>{}</title>").format(title) if title else Markup()
        named = Markup(' id="{}"').format(name) if name else Markup()
        x, y = place(self.x(at[0])), place(self.y(at[1]))
        self.add(
            '<path class="{}"{} transform="translate({} {})" d="{}">{}</path>',
            css,
            named,
            x,
            y,
            outline(shape, size),
            said,
        )

    def text(self, at: Point, words: str, css: str = "", anchor: str = "start", dx: float = 0, dy: float = 0) -> None:
        x, y = place(self.x(at[0]) + dx), place(self.y(at[1]) + dy)
        self.add('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>', css, x, y, anchor, words)

    def x_axis(self, told: Callable[[float], str], title: str, about: int = 5, grid: bool = False) -> None:
        bottom, top = self.y.begin, self.y.end
        for tick in self.x.ticks(about):
            x = place(self.x(tick))
            self.add(
                '<path class="{}" d="M{},{}V{}"/>', "grid" if grid else "tick", x, bottom, top if grid else bottom + 4
            )
            self.add('<text x="{}" y="{}" text-anchor="middle">{}</text>', x, place(bottom + 18), told(tick))
        self.add('<path class="axis" d="M{},{}H{}"/>', place(self.x.begin), bottom, place(self.x.end))
        middle = place((self.x.begin + self.x.end) / 2)
        self.add('<text class="title" x="{}" y="{}" text-anchor="middle">{}</text>', middle, place(bottom + 36), title)

    def y_axis(self, told: Callable[[float], str], title: str, about: int = 4) -> None:
        for tick in self.y.ticks(about):
            y = place(self.y(tick))
            self.add('<path class="grid" d="M{},{}H{}"/>', place(self.x.begin), y, place(self.x.end))
            self.add(
                '<text x="{}" y="{}" text-anchor="end">{}</text>',
                place(self.x.begin - 6),
                place(float(y) + 4),
                told(tick),
            )
        self.add('<text class="title" x="0" y="{}">{}</text>', place(self.y.end - 12), title)

    def svg(self) -> Markup:
        facts = Markup("").join(Markup(' data-{}="{}"').format(key, value) for key, value in self.data.items())
        return Markup('<svg class="chart {}" viewBox="0 0 {} {}" role="img" aria-label="{}"{}>{}</svg>').format(
            self.css, WIDTH, place(self.height), self.label, facts, Markup("").join(self.parts)
        )


def place(value: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    return f"{value:.1f}".rstrip("0").rstrip(".") if "." in f"{value:.1f}" else f"{value:.1f}"


def outline(shape: str, size: float) -> str:
    """A mark around the origin."""
    r, d = place(size), place(size * 0.89)
    return {
        "circle": f"M-{r},0a{r},{r} 0 1,0 {place(2 * size)},0a{r},{r} 0 1,0 -{place(2 * size)},0",
        "square": f"M-{d},-{d}h{place(2 * 0.89 * size)}v{place(2 * 0.89 * size)}h-{place(2 * 0.89 * size)}z",
        "diamond": f"M0,-{place(1.25 * size)}L{place(1.25 * size)},0L0,{place(1.25 * size)}L-{place(1.25 * size)},0z",
        "triangle": f"M0,-{place(1.2 * size)}L{place(1.1 * size)},{place(0.8 * size)}H-{place(1.1 * size)}z",
        "tick": f"M0,-{r}V{r}",
    }[shape]


@dataclass(frozen=True)
class Row:
    """A named value on a scale that it shares with others."""

    name: str
    value: float
    interval: tuple[float, float] | None
    css: str  # the colour
    tail: str = ""  # at the right end of its line
    more: tuple[tuple[float, str, str, str], ...] = ()  # value, shape, class and words of more marks


LONGEST_BESIDE = 18  # characters of a name beside its line


def dots(
    label: str,
    rows: Sequence[Row],
    told: Callable[[float], str],
    title: str,
    zero: bool = False,
    domain: tuple[float, float] | None = None,
    beside: bool = False,
) -> Markup:
    """A line for each row, with its name above it or beside it."""
    step = 24 if beside else 38
    values = [end for row in rows for end in (row.value, *(row.interval or ()), *(mark[0] for mark in row.more))]
    low, high = domain or domain_of(values, zero=zero)
    names = [trimmed(row.name, LONGEST_BESIDE) if beside else row.name for row in rows]
    begin = 14 + 8.4 * max(map(len, names)) if beside else 8
    bottom = step * len(rows) + 6
    chart = Chart(label, bottom + 46, Scale(low, high, begin, WIDTH - 12), Scale(bottom - 6, 0, bottom, 6))
    chart.x_axis(told, title, 3 if beside else 4, grid=True)
    if zero and low <= 0 <= high:
        chart.segment((0, 0), (0, bottom - 6), "zero")
    for k, (row, name) in enumerate(zip(rows, names, strict=True)):
        y = step * (k + 0.5) if beside else step * k + 28
        if beside:
            chart.text((low, y), name, f"name {row.css}", "end", -8, 4)
        else:
            chart.text((low, y), name, f"name {row.css}", dx=-4, dy=-12)
        if row.tail:
            chart.text((high, y), row.tail, anchor="end", dx=8, dy=-12)
        if row.interval is not None:
            chart.segment((row.interval[0], y), (row.interval[1], y), f"whisker {row.css}")
        for value, shape, css, words in row.more:
            chart.mark((value, y), shape, f"mark {css}", words)
        ends = "" if row.interval is None else f" ({told(row.interval[0])} to {told(row.interval[1])})"
        chart.mark((row.value, y), "circle", f"mark {row.css}", f"{row.name}: {told(row.value)}{ends}")
    return chart.svg()


__all__ = ["WIDTH", "Chart", "Row", "Scale", "domain_of", "dots", "number", "percent", "place", "significant"]
