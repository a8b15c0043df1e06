"""Writes the table of a benchmark into docs/performance.md: `python -m bench && python docs/make_performance.py`.

python docs/make_performance.py            writes the block between the two markers, from bench/results.csv
python docs/make_performance.py --check    exits with 1 if the page shows another table than that file holds
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE, RESULTS = HERE / "performance.md", HERE.parent / "bench" / "results.csv"
START, END = "<!-- made by docs/make_performance.py: start -->", "<!-- made by docs/make_performance.py: end -->"
NAMES = {
    "call": "32 logits, a call from Python",
    "boosting": "gradient and curvature, float64 margins",
    "lightgbm": "LightGBM, 50 rounds on 20 columns",
}


IN_MICROSECONDS = ("call",)


def time_of(row: dict[str, str]) -> str:
    if row["work"] in IN_MICROSECONDS:
        return f"{float(row['median_us_per_call']):,.3g} µs a call"
    if row["work"] == "lightgbm":
        return f"{float(row['median_us_per_call']) / 1e6:.2f} s"
    return f"{float(row['median_ns_per_logit']):.2f} ns"


def table() -> str:
    """One thread; every row beside the parfocal of its own process."""
    with RESULTS.open() as file:
        rows = [row for row in csv.DictReader(file) if row["threads"] == "1" and row["status"] == "ok"]
    first = rows[0]
    places = [(row["work"], row["size"]) for row in rows if row["beside"] != "fallback"]
    rows.sort(key=lambda row: places.index((row["work"], row["size"])))
    kernel = next(row["kernel"] for row in rows if row["kernel"] not in ("", "numpy"))
    lines = [
        f"{first['date']}, {first['cpu']}, {first['cores']} cores, one thread, kernel {kernel}; {first['versions']}.",
        "",
        "| work | contender | median | 20 % to 80 % | times ours |",
        "|---|---|---|---|---|",
    ]
    before = ""
    for row in rows:
        if row["work"] == "import":
            continue
        size = "" if row["work"] == "call" else f", {' x '.join(f'{int(n):,}' for n in row['size'].split(' x '))}"
        work = NAMES.get(row["work"], row["work"]) + size
        unit = "us_per_call" if row["work"] in (*IN_MICROSECONDS, "lightgbm") else "ns_per_logit"
        scale = 1e-6 if row["work"] == "lightgbm" else 1.0
        spread = " to ".join(f"{scale * float(row[f'{name}_{unit}']):,.3g}" for name in ("p20", "p80"))
        ours = f"{float(row['times_ours']):.2f}" if row["times_ours"] else ""
        bold = "**" if row["contender"].startswith("parfocal") and row["beside"] == "numpy" else ""
        where = "" if row["beside"] in ("numpy", "fallback") else f" ({row['beside']}'s process)"
        lines.append(
            f"| {'' if work == before else work} | {bold}{row['contender']}{bold}{where} | {time_of(row)} | {spread} "
            f"| {ours} |"
        )
        before = work
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    text = PAGE.read_text()
    start, end = text.index(START) + len(START), text.index(END)
    made = f"\n{table()}\n"
    if "--check" in arguments:
        same = text[start:end] == made
        print("the page shows bench/results.csv" if same else "the page shows another table; run without --check")
        return 0 if same else 1
    PAGE.write_text(text[:start] + made + text[end:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
