"""Checks that the compiler vectorised the loops that matter: `python native/check_vectorised.py REPORT`.

REPORT is the prefix that CMake was given as PARFOCAL_REPORT: GCC wrote REPORT-baseline.txt and so on.  Each loop below
is identified by a piece of source text that starts on its first line, and that occurs only once in the file.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

WIDTHS = {"baseline": 16, "v3": 32, "v4": 64}  # bytes

# (file, text that starts on the loop's first line, how many bodies are compiled from the loop).  SSE2 cannot select
# doubles by comparing integers, so two loops are not vectorised in the baseline.
NOT_IN_BASELINE = (
    "{\n            const bool own = k == b.target[r];",
    "{\n            const size_t i = size_t(k) * n + r;\n            const bool is_first",
)
LOOPS = [
    ("loops.hpp", "e[i] = exponential(-std::fabs(x[i]));\n    for (size_t i = 0; i < n; ++i) {", 16),
    ("loops.hpp", "{\n        const Focal<T> terms = binary_hard<G, order>", 16),
    ("loops.hpp", "{\n        high[i] = float(x[i]);", 5),
    ("loops.hpp", "e[i] = exponential_of_size(Sum<float>{high[i], low[i]});", 5),
    ("loops.hpp", "{\n        const Focal<float> terms = binary_hard<G, order>", 5),
    ("loops.hpp", "{\n            const Focal<double> terms = binary_expected<order>", 3),
    ("loops.hpp", "{\n        // Hard labels are the limit of soft ones", 3),
    ("loops.hpp", "other |= unsigned(labels[i] != T(0))", 1),
    ("loops.hpp", "tree[i] = from[i] + from[half + i];", 2),
    ("rows.hpp", "{\n        const Sum<double> m = margin(b.z[r], b.top[r], b.total[r]);", 16),
    ("rows.hpp", "e[r] = exponential_of_size(Sum<T>{high[r], low[r]});", 16),
    ("rows.hpp", "{\n        Gamma<T> gamma;", 16),
    ("softmax.hpp", NOT_IN_BASELINE[0], 4),
    ("softmax.hpp", "{\n            const Sum<T> difference = two_sum(z_k[r], -top[r]);", 4),
    ("softmax.hpp", "{\n        const Sum<T> difference = two_sum(z[k], -top);", 4),
    ("softmax.hpp", "gradient[k] = share * e[k] * DOWN<T>;", 2),
    ("dense.hpp", "{\n            const size_t i = size_t(k) * n + r;\n            const Sum<double> from_first", 3),
    ("dense.hpp", NOT_IN_BASELINE[1], 3),
    ("dense.hpp", "{\n            const size_t i = size_t(k) * n + r;\n            const Sum<double> m{", 3),
]


def line_of(file: str, text: str) -> int:
    """The number of the line, with the loop's `for`, on which the text starts."""
    source = (Path(__file__).parent / file).read_text()
    found = source.count(text)
    if found != 1:
        raise SystemExit(f"{file} holds {text!r} {found} times, not once; correct the list in {Path(__file__).name}")
    return source.count("\n", 0, source.index(text)) + 1


def vectorised(report: str, file: str, line: int, width: int) -> int:
    """How many bodies of a loop were vectorised with vectors of `width` bytes."""
    return len(re.findall(rf"{file}:{line}:\d+: optimized: loop vectorized using {width} byte vectors", report))


def main(prefix: str) -> int:
    missing, seen = 0, 0
    for name, width in WIDTHS.items():
        path = Path(f"{prefix}-{name}.txt")
        if not path.exists():
            continue
        report = path.read_text()
        for file, text, bodies in LOOPS:
            line = line_of(file, text)
            count = vectorised(report, file, line, width)
            seen += count
            if count < bodies and not (name == "baseline" and text in NOT_IN_BASELINE):
                missing += 1
                print(f"{name}: {file}:{line} is vectorised with {width} bytes in {count} of {bodies} bodies")
    print(f"{seen} loop bodies are vectorised, {missing} loops are not")
    return 1 if missing or not seen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
