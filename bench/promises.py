"""The promised speeds of parfocal beside the measured ones, with one thread except for LightGBM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.rows import Row, find_base

Rows = list[Row]
Measure = Callable[[Rows], float | None]  # None: the run did not measure it
AT_4M, AT_40M = "4000000", "40000000"


@dataclass(frozen=True)
class Promise:
    work: str
    asked: str
    measure: Measure
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    def verdict(self, rows: Rows) -> tuple[str, str]:
        """The measured value, and whether it meets the promise."""
        value = self.measure(rows)
        if value is None:
            return "-", "not measured"
        if self.at_least is None and self.at_most is None:
            return f"{value:.2f} {self.unit}", "known"
        met = value >= self.at_least if self.at_least is not None else value <= self.at_most
        return f"{value:.2f} {self.unit}", "met" if met else "NOT MET"


def row(rows: Rows, work: str, size: str, beside: str, contender: str | None) -> Row | None:
    """A row that was timed; without a contender that of the parfocal with which the others are compared."""
    alike = [r for r in rows if (r.work, r.size, r.threads, r.beside) == (work, size, 1, beside) and r.median_s]
    if contender is None:
        return find_base(rows, alike[0]) if alike else None
    return next((r for r in alike if r.contender == contender), None)


def times_faster(work: str, size: str, beside: str, peer: str) -> Measure:
    return lambda rows: getattr(row(rows, work, size, beside, peer), "times_ours", None)


def inverse(work: str, size: str, peer: str) -> Measure:
    """parfocal's time over that of a peer."""

    def measure(rows: Rows) -> float | None:
        times = times_faster(work, size, "numpy", peer)(rows)
        return 1 / times if times else None

    return measure


def per_logit(work: str, size: str, contender: str | None = None) -> Measure:
    def measure(rows: Rows) -> float | None:
        found = row(rows, work, size, "numpy", contender)
        return found.ns_per_logit(found.median_s) if found else None

    return measure


def per_call(work: str, size: str, scale: float, beside: str = "numpy", contender: str | None = None) -> Measure:
    def measure(rows: Rows) -> float | None:
        found = row(rows, work, size, beside, contender)
        return scale * found.median_s if found else None

    return measure


def import_ratio(rows: Rows) -> float | None:
    """Import times without the time in which Python starts and imports nothing."""
    nothing, numpy, ours = (
        row(rows, "import", "1", "import", statement) for statement in ("pass", "import numpy", "import parfocal")
    )
    if not (nothing and numpy and ours):
        return None
    return (ours.median_s - nothing.median_s) / (numpy.median_s - nothing.median_s)


def faster(work: str, size: str, beside: str, peer: str, factor: float) -> Promise:
    asked = f"{size}: at least {factor:g} times faster than {peer}"
    return Promise(work, asked, times_faster(work, size, beside, peer), "x", at_least=factor)


def of_lightgbm(size: str, threads: int, peer: str) -> Measure:
    """The time of a peer's whole training divided by ours, with `threads` threads."""

    def measure(rows: Rows) -> float | None:
        found = [r for r in rows if (r.work, r.size, r.threads, r.contender) == ("lightgbm", size, threads, peer)]
        return found[0].times_ours if found else None

    return measure


TABLE, LOG_LOSS = "400000 x 10", "LightGBM's log loss"
PROMISES = (
    faster("binary", AT_4M, "torch", "torchvision's formula, eager", 12),
    faster("binary", AT_4M, "torch", "torchvision's formula, torch.compile", 4),
    faster("binary", AT_4M, "torch", "torch bce_with_logits", 3),
    faster("binary", AT_4M, "torch", "Keras", 30),
    faster("binary", AT_4M, "jax", "optax sigmoid_focal_loss", 4),
    faster("binary", AT_4M, "numpy", "NumPy by hand", 15),
    Promise(
        "binary",
        f"{AT_40M}: at most 2.0 times np.add(logits, labels), aim 1.6",
        inverse("binary", AT_40M, "np.add(logits, labels)"),
        "x",
        at_most=2.0,
    ),
    *(
        Promise(
            "binary",
            f"{size}: any other gamma (1.5) at most 1.3 ns per logit",
            per_logit("binary", size, "parfocal, gamma 1.5"),
            "ns",
            at_most=1.3,
        )
        for size in (AT_4M, AT_40M)
    ),
    Promise("binary", "what a gradient in cache costs, 262144", per_logit("binary", "262144"), "ns"),
    Promise("binary", f"what one of new pages costs, {AT_4M}", per_logit("binary", AT_4M), "ns"),
    faster("softmax", TABLE, "torch", "torch cross_entropy", 10),
    faster("softmax", TABLE, "torch", "focal by hand, torch.compile", 4),
    faster("softmax", "4096 x 1000", "torch", "torch cross_entropy", 1.5),
    Promise("softmax", f"{TABLE}: at most 1.0 ns per logit", per_logit("softmax", TABLE), "ns", at_most=1.0),
    Promise("softmax", "4096 x 1000: at most 0.5 ns per logit", per_logit("softmax", "4096 x 1000"), "ns", at_most=0.5),
    Promise(
        "boosting",
        "gradient and curvature of 1000000 margins, at most 3 ms",
        per_call("boosting", "1000000", 1e3),
        "ms",
        at_most=3.0,
    ),
    Promise("call", "32 logits from Python, at most 5 µs", per_call("call", "32", 1e6), "µs", at_most=5.0),
    Promise(
        "call",
        "32 logits in torch, forward and backward, at most 30 µs",
        per_call("call", "32", 1e6, "torch", "parfocal on torch tensors"),
        "µs",
        at_most=30.0,
    ),
    *(
        Promise(
            "lightgbm", f"{size}, {threads} threads: {asked}", of_lightgbm(size, threads, peer), "x", at_least=least
        )
        for size, threads, peer, least, asked in (
            ("1000000", 2, LOG_LOSS, 1.0, "as fast as LightGBM's log loss"),
            ("1000000", 2, "LightGBM with NumPy by hand", 1.8, "1.8 times faster than by hand"),
            ("100000 x 7", 2, LOG_LOSS, 1 / 1.1, "at most 1.1 times the log loss"),
        )
    ),
    Promise("import", "import parfocal at most 1.15 times import numpy", import_ratio, "x", at_most=1.15),
)
