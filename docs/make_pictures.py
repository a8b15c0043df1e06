"""Make every picture of the pages and of README.md, each for light and for dark pages.

    python docs/make_pictures.py                     # docs/pictures/*.svg, in seconds
    python docs/make_pictures.py --check             # are they made from what is on file now?
    python docs/make_pictures.py --runs              # first run the examples whose results are drawn: minutes
    python docs/make_pictures.py --peers FOLDER      # first ask Keras, and torchvision's own file in this folder
    python -m pip install --no-deps --target FOLDER torchvision==0.28.0

A picture is drawn from recorded numbers: what the examples printed (docs/gallery/printed), the tables of the pages, and
docs/pictures/*.csv.  It carries a digest of these numbers, of the style and of this file; --check compares it.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
DOCS, PICTURES, PRINTED = ROOT / "docs", ROOT / "docs/pictures", ROOT / "docs/gallery/printed"
STYLES = (PICTURES / "parfocal.mplstyle", PICTURES / "parfocal-dark.mplstyle")
PEERS = PICTURES / "peers.csv"
GAMMAS = (0.5, 2.0)
EXAMPLES = {
    "digits_torch.py": {},
    "digits_jax.py": {},
    "digits_keras.py": {"KERAS_BACKEND": "jax"},
    "digits_tensorflow.py": {},
    "trainer_focal.py": {},
    "many_files.py": {},
}
NOISE = ("[LightGBM]", "Finding random open ports", "{'train_runtime'")  # what libraries print between our lines


# -- the numbers


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_peers() -> dict[tuple[str, float], np.ndarray]:
    """(logit, loss, gradient) of each peer, for one positive."""
    found: dict[tuple[str, float], list[list[float]]] = {}
    for row in rows_of(PEERS):
        key = row["library"], float(row["gamma"])
        found.setdefault(key, []).append([float(row[name]) for name in ("logit", "loss", "gradient")])
    return {key: np.array(values).T for key, values in found.items()}


def read_digits(name: str) -> dict[str, Any]:
    """What a digits example printed: the number of training images, and for each row recalls, log loss and error."""
    text = (PRINTED / f"{name}.txt").read_text(encoding="utf-8")
    images = [int(n) for n in re.search(r"^training images((?: +\d+){10})", text, re.M)[1].split()]
    rows = {}
    for row in ("cross-entropy", "focal, raw", "focal, recovered"):
        found = re.search(rf"^  {row} +((?:\d+ +){{10}})([\d.]+) ±([\d.]+) +([\d.]+) ±([\d.]+)", text, re.M)
        rows[row] = [int(n) for n in found[1].split()], float(found[4]), float(found[5])
    return {"images": images, "rows": rows}


def read_tables() -> dict[str, dict[str, list[float]]]:
    """Log loss over that of cross-entropy, on each split of each table."""
    rows = rows_of(DOCS / "does-it-help.csv")
    plain = {(r["table"], r["seed"]): float(r["log_loss"]) for r in rows if r["method"] == "cross-entropy"}
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        ratio = float(row["log_loss"]) / plain[row["table"], row["seed"]]
        found.setdefault(row["table"], {}).setdefault(row["method"], []).append(ratio)
    return found


def read_true() -> dict[str, dict[str, list[float]]]:
    """Mean probability over the rate, on each split of each table."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows_of(DOCS / "true-probabilities.csv"):
        found.setdefault(row["table"], {}).setdefault(row["method"], []).append(float(row["mean_over_rate"]))
    return found


def read_curvatures() -> list[tuple[str, str, str, list[float]]]:
    """Table, gamma, limit and the log losses of four curvatures, as docs/boosting.md has them."""
    text = (DOCS / "boosting.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| (\w+) \| ([\d.]+) \| ([^|]+?) \|((?: [\d.]+ \(\d+\) \|){4})$", text, re.M)
    return [(*row[:3], [float(n) for n in re.findall(r"([\d.]+) \(", row[3])]) for row in found]


def read_files() -> dict[str, tuple[float, float, float]]:
    text = (PRINTED / "many_files.txt").read_text(encoding="utf-8")
    found = re.findall(r"(raw focal|recovered): log loss ([\d.]+), mean ([\d.]+) \(true: ([\d.]+)\)", text)
    return {name: tuple(map(float, values)) for name, *values in found}


def read_trainer() -> list[tuple[float, str, float, float]]:
    text = (PRINTED / "trainer_focal.txt").read_text(encoding="utf-8")
    share = float(re.search(r"([\d.]+)% of them count", text)[1]) / 100
    found = re.findall(r"gamma ([\d.]+):.*mean (\w+) ([\d.]+), Brier score ([\d.]+)", text)
    return [(0.0, "share", share, 0.0)] + [(float(g), name, float(m), float(b)) for g, name, m, b in found]


def read_trials(part: str) -> list[tuple[str, str, float, float]]:
    """The trials of explanation/what-helps.md."""
    rows = [row for row in rows_of(PICTURES / "what-helps.csv") if row["part"] == part]
    return [(row["loss"], row["way"], float(row["value"]), float(row["error"] or 0)) for row in rows]


# -- the pictures: each draws on a figure with the style's colours


def draw_loss(data: Any, gamma: float, plt: Any) -> Any:
    """Loss and gradient of a positive over its logit, beside two peers."""
    import parfocal

    ours, keras_s, vision = colours(plt)[:3]
    x = np.linspace(-40, 40, 641, dtype=np.float32)
    loss = parfocal.BinaryFocalCrossentropy(gamma=gamma, from_logits=True, reduction="sum")
    value = parfocal.binary_focal_crossentropy(np.ones((len(x), 1)), x[:, None], gamma=gamma, from_logits=True)
    slope = np.abs(loss.value_and_grad(np.ones((len(x), 1)), x[:, None])[1][:, 0])
    figure, (above, below) = plt.subplots(2, 1, figsize=(6, 5.4), sharex=True, height_ratios=(1, 1.25))
    for name, colour, wide, dashes in (("torchvision", vision, 3.4, (1, 1)), ("Keras", keras_s, 2.6, (3, 1.2))):
        logit, loss_there, slope_there = data[name, gamma]
        above.plot(logit, loss_there, color=colour, lw=wide, dashes=dashes, zorder=3)
        slope_there = np.where(slope_there == 0, np.nan, np.abs(slope_there))
        below.plot(logit, slope_there, color=colour, lw=wide, dashes=dashes, zorder=3)
    above.plot(x, value, color=ours)
    below.plot(x, np.where(slope > 0, slope, np.nan), color=ours)
    below.set_yscale("log")
    below.set(xlabel="logit of a positive", xlim=(-40, 40), ylim=(1e-30 if gamma < 1 else 1e-46, 1e4))
    above.set(ylim=(-1.5, 43))
    above.set_title(f"Loss (gamma {gamma:g}, float32)")
    below.set_title("Size of the gradient")
    above.text(-27, 33, "parfocal, torchvision", color=ours, weight="bold")
    above.text(-38, 14, "Keras: flat\nat 16.118", color=keras_s, weight="bold", va="top")
    logit, _, slope_there = data["Keras", gamma]
    edge = logit[(logit > 0) & ~(np.abs(slope_there) > 0)].min()  # where it is NaN, or 0
    below.axvline(edge, color=plt.rcParams["axes.edgecolor"], lw=0.8, dashes=(2, 2), zorder=0)
    lowest, highest = np.log10(below.get_ylim())

    def height(share: float) -> float:
        return float(10 ** (lowest + share * (highest - lowest)))

    said = f"Keras, torchvision:\n{'NaN' if gamma < 1 else '0'} from here on"
    below.text(edge + 1.2, height(0.97), said, color=text_colour(plt), weight="bold", va="top")
    below.text(
        -38, height(0.33), "Keras: vanishes where\nthe model is most wrong", color=keras_s, va="top", weight="bold"
    )
    below.text(27, height(0.58), "parfocal", color=ours, weight="bold")
    return figure


def text_colour(plt: Any) -> str:
    return str(plt.rcParams["text.color"])


def draw_posterior(data: Any, plt: Any) -> Any:
    """What a trained score means."""
    import parfocal

    palette = colours(plt)
    figure, axes = plt.subplots(figsize=(6, 5))
    p = np.linspace(0.001, 0.999, 999)
    for gamma, colour in ((0.0, text_colour(plt)), (1.0, palette[2]), (2.0, palette[0]), (5.0, palette[1])):
        loss = parfocal.BinaryFocalCrossentropy(gamma=gamma, dtype="float64")
        axes.plot(p, np.asarray(loss.posterior(p)), color=colour, lw=1.4 if gamma == 0 else 2.4)
        x = 1 / (1 + np.exp(-loss.optimal_logit(0.08)))
        axes.text(x + 0.015, 0.08, f"{gamma:g}" if gamma < 5 else "gamma 5", color=colour, weight="bold", va="top")
    axes.plot([0.7, 0.7, 0], [0, 0.906, 0.906], color=palette[0], lw=1, dashes=(2, 2))
    axes.plot(0.7, 0.906, "o", color=palette[0])
    axes.text(0.02, 0.885, "at gamma 2 a score\nof 0.7 means 0.906", va="top")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="score: sigmoid of the logit", aspect="equal")
    axes.set_title("Probability of label 1 that it stands for")
    return figure


def draw_digits(data: Any, plt: Any) -> Any:
    """Recall by class, and the log loss of the three readings."""
    ours, other = colours(plt)[:2]
    figure, (above, below) = plt.subplots(2, 1, figsize=(6, 6.2), height_ratios=(1.6, 1))
    k = np.arange(10)
    plain, focal = data["rows"]["cross-entropy"][0], data["rows"]["focal, raw"][0]
    above.plot(k, plain, "o-", color=other, lw=1.6)
    above.plot(k, focal, "s-", color=ours, lw=1.6, ms=6)
    upper, lower = (plain, focal) if plain[-1] > focal[-1] else (focal, plain)
    for values, up in ((upper, True), (lower, False)):
        name, colour = ("cross-entropy", other) if values is plain else ("focal loss", ours)
        above.text(7.85, 79 if up else 36, name, color=colour, weight="bold", ha="left" if up else "right")
    above.set_xticks(k, [str(n) for n in data["images"]])
    above.set(ylim=(20, 103), xlabel="training images of the class")
    above.set_title("Recall, %")
    names = ("cross-entropy", "focal, raw", "focal, recovered")
    values = [data["rows"][name][1:] for name in names]
    for place, (loss, error) in enumerate(values):
        colour = other if place == 0 else ours
        below.errorbar(loss, -place, xerr=error, fmt="o", color=colour, capsize=4)
        below.text(loss + error + 0.006, -place, f"{loss:.3f}", va="center", color=colour)
    below.set_yticks([0, -1, -2], names)
    below.set(ylim=(-2.6, 0.6), xlim=(0.1, 0.31))
    below.set_title("Log loss ± standard error over 6 seeds")
    return figure


def dots(axes: Any, place: float, values: list[float], colour: str, marker: str = "o") -> None:
    """Every split as a faint dot, their mean as a full one."""
    axes.plot(values, [place] * len(values), marker, color=colour, ms=5, alpha=0.35, mew=0)
    axes.plot(np.mean(values), place, marker, color=colour, ms=9)


def draw_tables(data: Any, plt: Any) -> Any:
    """Log loss over cross-entropy's on seven tables."""
    ours, other = colours(plt)[:2]
    names = list(data)
    figure, axes = plt.subplots(figsize=(6, 5.6))
    for place, name in enumerate(names):
        dots(axes, -place + 0.14, data[name]["gamma 2, raw"], other, "s")
        dots(axes, -place - 0.14, data[name]["gamma 2, recovered"], ours)
    axes.axvline(1, color=plt.rcParams["axes.edgecolor"], lw=0.8)
    axes.set_xscale("log")
    axes.set_xticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
    axes.minorticks_off()
    axes.set_yticks([-k for k in range(len(names))], names)
    axes.set(ylim=(-len(names) + 0.4, 1.0), xlabel="log loss of focal loss (gamma 2), cross-entropy's = 1")
    axes.text(1.06, 0.62, "recovered", color=ours, weight="bold")
    axes.text(3.2, 0.62, "raw", color=other, weight="bold")
    return figure


def draw_true(data: Any, plt: Any) -> Any:
    """Mean probability over rate, on eight tables."""
    ours, other = colours(plt)[:2]
    names = list(data)
    figure, axes = plt.subplots(figsize=(6, 6))
    for place, name in enumerate(names):
        dots(axes, -place + 0.14, data[name]["parfocal fit"], ours)
        dots(axes, -place - 0.14, data[name]["LightGBM"], other, "s")
    axes.axvline(1, color=plt.rcParams["axes.edgecolor"], lw=0.8)
    axes.set_yticks([-k for k in range(len(names))], names)
    axes.set(ylim=(-len(names) + 0.4, 1.1), xlim=(0, 2.4), xlabel="mean probability over rate: 1 is true")
    axes.text(1.05, 0.62, "parfocal fit", color=ours, weight="bold")
    axes.text(0.95, 0.62, "LightGBM", color=other, weight="bold", ha="right")
    return figure


def draw_curvatures(data: Any, plt: Any) -> Any:
    """Four curvatures on six tables, with and without the limit of a step."""
    palette = colours(plt)
    kinds = ("positive", "exact", "absolute", "cross-entropy")
    tables = list(dict.fromkeys(row[0] for row in data))
    figure, (left, right) = plt.subplots(1, 2, figsize=(6, 5.8), sharey=True)
    for axes, limit in ((left, "no limit"), (right, "limit")):
        for place, table in enumerate(tables):
            rows = {row[2]: row[3] for row in data if row[0] == table and row[1] == "2"}
            for k, value in enumerate(rows[limit]):
                shape = "o" if k == 0 else "sD^"[k - 1]
                axes.plot(value / rows["limit"][0], -place + 0.27 - 0.18 * k, shape, color=palette[k], ms=7)
        axes.axvline(1, color=plt.rcParams["axes.edgecolor"], lw=0.8, zorder=0)
        axes.set_ylim(-len(tables) + 0.3, 2.1)
    left.set_xscale("log")
    left.set_xticks([1, 100, 10_000], ["1", "100", "10,000"])
    left.minorticks_off()
    left.set_title("No limit", fontsize=12)
    right.set_title("Limited steps", fontsize=12)
    right.set_xlim(0.8, 1.3)
    left.set_yticks([-k for k in range(len(tables))], tables)
    for k, kind in enumerate(kinds):
        left.text(2.5, 1.8 - 0.36 * k, kind, color=palette[k], weight="bold", va="center")
        left.plot(1.6, 1.8 - 0.36 * k, "o" if k == 0 else "sD^"[k - 1], color=palette[k], ms=7)
    figure.supxlabel("log loss, gamma 2; positive curvature with a limit = 1", fontsize=12)
    return figure


def draw_files(data: Any, plt: Any) -> Any:
    """Raw and recovered scores on the held-out months."""
    ours, other = colours(plt)[:2]
    figure, (left, right) = plt.subplots(1, 2, figsize=(6, 2.9), sharey=True)
    true = data["recovered"][2]
    for place, (name, (loss, mean, _)) in enumerate(data.items()):
        colour = other if name == "raw focal" else ours
        for axes, value, form in ((left, loss, ".3f"), (right, mean, ".1%")):
            axes.barh(-place, value, color=colour, height=0.55)
            at = max(value, true + 0.002) if axes is right else value  # not on the line
            axes.text(at, -place, f" {value:{form}}", va="center", color=colour, weight="bold")
    right.axvline(true, color=text_colour(plt), lw=1.2, dashes=(3, 2))
    right.text(true + 0.004, 0.62, f"true: {true:.1%}", va="center")
    left.set_yticks([0, -1], ["raw", "recovered"])
    left.set(ylim=(-1.5, 0.85), xlim=(0, 0.26), xticks=[0, 0.1, 0.2])
    right.set(xlim=(0, 0.21), xticks=[0, 0.1, 0.2])
    right.set_xticklabels(["0 %", "10 %", "20 %"])
    left.set_title("Log loss", fontsize=12)
    right.set_title("Mean probability", fontsize=12)
    return figure


def draw_trainer(data: Any, plt: Any) -> Any:
    """Mean score and posterior of a transformer's tokens."""
    ours, other = colours(plt)[:2]
    share, rows = data[0][2], data[1:]
    figure, axes = plt.subplots(figsize=(6, 3.3))
    for place, (gamma, name, mean, _) in enumerate(rows):
        colour = other if (gamma and name == "score") else ours
        axes.plot(mean, -place, "o", color=colour, ms=10)
        axes.text(max(mean, share) + 0.003, -place, f"{mean:.4f}", va="center", color=colour, weight="bold")
    axes.axvline(share, color=text_colour(plt), lw=1.2, dashes=(3, 2), zorder=0)
    axes.text(share, 0.85, f" true share: {share:.1%}", va="center")
    axes.set_yticks([-k for k in range(len(rows))], [f"gamma {gamma:g}, {name}" for gamma, name, *_ in rows])
    means = [row[2] for row in rows]
    axes.set(ylim=(-len(rows) + 0.5, 1.1), xlim=(0, 1.35 * max(means)), xlabel="mean probability")
    return figure


def draw_trials(data: Any, plt: Any, xlabel: str, places: dict[str, float]) -> Any:
    """Values with their standard errors, one line for each loss; colours tell the ways apart.

    places : where the name of each way stands above the axes, from 0 to 1.
    """
    palette = colours(plt)
    losses, ways = list(dict.fromkeys(row[0] for row in data)), list(places)
    figure, axes = plt.subplots(figsize=(6, 1.5 + 0.62 * len(losses)))
    for loss, way, value, error in data:
        k, place = ways.index(way), -losses.index(loss)
        shift = 0.13 * ((len(ways) - 1) / 2 - k)
        axes.errorbar(value, place + shift, xerr=error, fmt="osD"[k], color=palette[k], capsize=4, lw=1.6)
    for k, (way, x) in enumerate(places.items()):
        align = "left" if x == 0 else "right" if x == 1 else "center"
        axes.text(x, 1.0, way, color=palette[k], weight="bold", ha=align, va="bottom", transform=axes.transAxes)
    axes.set_yticks([-k for k in range(len(losses))], losses)
    axes.set(ylim=(-len(losses) + 0.5, 0.5), xlabel=xlabel)
    axes.grid(axis="y")
    return figure


def draw_bias(data: Any, plt: Any) -> Any:
    places = {"bias 0": 0.0, "bias by optimal_logit": 1.0}
    return draw_trials(data, plt, "average precision ± standard error, 4 seeds", places)


def draw_threshold(data: Any, plt: Any) -> Any:
    return draw_trials(data, plt, "Dice ± standard error, 3 seeds", {"cut at 0.5": 0.0, "fitted threshold": 1.0})


def draw_temperature(data: Any, plt: Any) -> Any:
    places = {"with a temperature": 0.0, "raw": 0.58, "posterior alone": 1.0}
    return draw_trials(data, plt, "log loss ± standard error, 4 seeds", places)


def colours(plt: Any) -> list[str]:
    return [f"#{c}" if not c.startswith("#") else c for c in plt.rcParams["axes.prop_cycle"].by_key()["color"]]


Draw = Callable[[Any, Any], Any]
MADE: dict[str, tuple[Callable[[], Any], Draw]] = {
    "loss": (read_peers, lambda data, plt: draw_loss(data, 0.5, plt)),
    "loss-gamma-2": (read_peers, lambda data, plt: draw_loss(data, 2.0, plt)),
    "posterior": (lambda: None, draw_posterior),
    **{
        f"digits-{name}": (lambda name=name: read_digits(f"digits_{name}"), draw_digits)
        for name in ("torch", "keras", "jax", "tensorflow")
    },
    "trainer": (read_trainer, draw_trainer),
    "seven-tables": (read_tables, draw_tables),
    "true-probabilities": (read_true, draw_true),
    "curvatures": (read_curvatures, draw_curvatures),
    "many-files": (read_files, draw_files),
    "what-helps-bias": (lambda: read_trials("bias"), draw_bias),
    "what-helps-threshold": (lambda: read_trials("threshold"), draw_threshold),
    "what-helps-temperature": (lambda: read_trials("temperature"), draw_temperature),
}


# -- files


def digest(data: Any) -> str:
    """Of the numbers, the style and this file."""
    with np.printoptions(threshold=sys.maxsize):
        text = repr(data)
    parts = [text, *(path.read_text(encoding="utf-8") for path in (*STYLES, Path(__file__)))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def make(name: str) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    read, draw = MADE[name]
    data = read()
    for scheme, styles in (("light", STYLES[:1]), ("dark", STYLES)):
        with plt.style.context([str(style) for style in styles]):
            figure = draw(data, plt)
            metadata = {"Date": None, "Creator": None, "Source": f"sha256:{digest(data)}"}
            figure.savefig(PICTURES / f"{name}-{scheme}.svg", metadata=metadata)
            plt.close(figure)


def stale(name: str) -> bool:
    wanted = f"sha256:{digest(MADE[name][0]())}"
    files = [PICTURES / f"{name}-{scheme}.svg" for scheme in ("light", "dark")]
    return not all(file.exists() and wanted in file.read_text(encoding="utf-8") for file in files)


def peers_rows(functions: dict[str, Callable[[Any, float], Any]]) -> list[list[Any]]:
    """Loss and gradient of a positive in float32, over the logit."""
    import torch

    rows = []
    for library, function in functions.items():
        for gamma in GAMMAS:
            x = torch.linspace(-40, 40, 321, requires_grad=True)
            loss = function(x, gamma)
            loss.sum().backward()
            rows += [[library, gamma, *row] for row in zip(x.tolist(), loss.tolist(), x.grad.tolist(), strict=True)]
    return rows


def by_keras(x: Any, gamma: float) -> Any:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras
    import torch

    ones = torch.ones_like(x)[:, None]
    return keras.losses.binary_focal_crossentropy(ones, x[:, None], gamma=gamma, from_logits=True)


def record_peers(folder: Path) -> None:
    """Ask Keras on PyTorch, and torchvision's own file."""
    sys.path.append(str(ROOT / "tests"))
    import torch

    from peers import without_init

    without_init(folder, "torchvision", "torchvision.ops")
    from torchvision.ops.focal_loss import sigmoid_focal_loss

    def by_torchvision(x: Any, gamma: float) -> Any:
        return sigmoid_focal_loss(x, torch.ones_like(x), alpha=-1, gamma=gamma)

    with PEERS.open("w", encoding="utf-8", newline="") as file:
        write = csv.writer(file, lineterminator="\n")
        write.writerow(["library", "gamma", "logit", "loss", "gradient"])
        for *names, x, loss, slope in peers_rows({"Keras": by_keras, "torchvision": by_torchvision}):
            write.writerow([*names, f"{x:.6g}", f"{loss:.6g}", f"{slope:.6g}"])


def record_runs() -> None:
    for name, settings in EXAMPLES.items():
        one_core = {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, str(ROOT / "examples" / name)]
        result = subprocess.run(
            command, capture_output=True, text=True, check=True, env=os.environ | one_core | settings
        )
        lines = [line for line in result.stdout.splitlines() if not line.startswith(NOISE)]
        (PRINTED / name).with_suffix(".txt").write_text("\n".join([*lines, ""]), encoding="utf-8")


def main(arguments: list[str] | None = None, say: Callable[[str], None] = print) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="only these pictures")
    parser.add_argument("--check", action="store_true", help="change nothing; 1 where a picture is stale")
    parser.add_argument("--runs", action="store_true", help="run the examples anew, first")
    parser.add_argument("--peers", type=Path, help="compute the peers' numbers anew, first")
    options = parser.parse_args(arguments)
    names = options.names or list(MADE)
    if options.check:
        old = [name for name in names if stale(name)]
        say(
            f"stale: {', '.join(old)}; run python docs/make_pictures.py"
            if old
            else f"{len(names)} pictures are current"
        )
        return int(bool(old))
    if options.runs:
        record_runs()
    if options.peers:
        record_peers(options.peers)
    for name in names:
        make(name)
        say(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
