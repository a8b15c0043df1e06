"""One picture of the final test: precision against recall, and the reliability of the probabilities."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from sklearn.metrics import precision_recall_curve

from parfocal.app.errors import counted, trimmed, visible
from parfocal.app.study.candidates import Candidate
from parfocal.app.study.metrics import ClassResult, equal_count_bins
from parfocal.app.study.study import Study
from parfocal.app.study.trials import CALIBRATED, RECOVERED

# By Okabe and Ito: colour-blind readers can distinguish them.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
STYLES = ("-", ":", "--", ":", "-.")

LONGEST_NAME = 32  # characters; two of them and the number of rows fit above the picture


def draw_report(study: Study) -> bytes:
    """A PNG: the precision-recall and the reliability curve of each finalist's calibrated probabilities.

    Raw focal scores are drawn beside them.  For more than two classes: the average precision of each class, and the
    reliability of all probabilities.
    """
    test, target = study.test, study.sample.target
    name = drawn_name(target.name)
    weights = np.ones(len(test.labels)) if test.weights is None else test.weights
    figure = Figure(figsize=(11, 5), layout="constrained")
    ranking, reliability = figure.subplots(1, 2)
    drawn = [result for result in study.results if result.kind != RECOVERED]
    for result, colour, style in zip(drawn, COLOURS, STYLES, strict=False):
        said, happened = reliability_points(*against_the_rest(test.labels, result.probabilities, weights))
        reliability.plot(said, happened, style, marker="o", markersize=4, color=colour, label=result.name)
    kinds = [kind for kind in zip(drawn, COLOURS, STYLES, strict=False) if kind[0].kind == CALIBRATED]
    rows = f"the final test of {counted(len(test.labels), 'row')}"
    if test.classes == 2:  # raw scores rank the rows alike
        for result, colour, style in kinds:
            precision, recall, _ = precision_recall_curve(test.labels, result.probabilities, sample_weight=weights)
            ranking.plot(recall[:-1], precision[:-1], style, color=colour, label=result.candidate.name)
        finish_ranking(ranking, float(np.average(test.labels, weights=weights)))
        figure.suptitle(f"{name} = {drawn_name(target.positive)}: {rows}", parse_math=False)
    else:
        by_classes = {finalist.candidate: finalist.by_class for finalist in study.finalists}
        draw_classes(ranking, by_classes, {result.candidate: colour for result, colour, _ in kinds}, target.classes)
        figure.suptitle(f"{name}: {rows}", parse_math=False)
    finish_reliability(reliability)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def draw_classes(
    axes: Axes,
    by_classes: Mapping[Candidate, Sequence[ClassResult]],
    colours: Mapping[Candidate, str],
    classes: Sequence[str],
    shown: int = 20,
) -> None:
    """Dots for the average precision of each class, the rarest at the top; a tick is what chance reaches."""
    of_any = next(iter(by_classes.values()))
    rarest = np.argsort([result.rows for result in of_any], kind="stable")[:shown]
    places = np.arange(len(rarest))[::-1]
    for number, (candidate, colour) in enumerate(colours.items()):
        beside = 0.2 * (number - (len(colours) - 1) / 2)  # so that equal values do not hide each other
        reached = [by_classes[candidate][place].average_precision for place in rarest]
        axes.plot(reached, places - beside, "o", color=colour, markersize=7, alpha=0.8, label=candidate.name)
    chance = [of_any[place].share for place in rarest]
    axes.plot(chance, places, "|", color="grey", markersize=10, label="chance")
    names = [f"{drawn_name(classes[place])} ({of_any[place].rows:,})" for place in rarest]
    axes.set_yticks(places, names, parse_math=False)
    axes.set(xlabel="average precision", xlim=(-0.02, 1.02), title="each class against the rest (rows)")
    axes.legend(frameon=False)


def drawn_name(name: str) -> str:
    """A name as the font can draw it: a character without a glyph is written as \\U0001f98a, not as a box."""
    font = get_font(findfont(FontProperties()))

    def drawn(letter: str) -> str:
        return visible(letter) if font.get_char_index(ord(letter)) else ascii(letter)[1:-1]

    return trimmed(name, LONGEST_NAME, drawn)


def against_the_rest(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities and weights of two classes; with more, every class of every row is an event."""
    if probabilities.ndim == 1:
        return labels, probabilities, weights
    classes = probabilities.shape[1]
    return np.eye(classes)[labels].ravel(), probabilities.ravel(), np.repeat(weights, classes)


def reliability_points(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean probability and share of positives in each of the bins of the calibration error.

    A bin without positives has no place on a logarithmic axis: its share is NaN, which leaves a gap.
    """
    bins = equal_count_bins(probabilities)
    total = np.bincount(bins, weights)
    filled = total > 0
    said, happened = (np.bincount(bins, weights * values)[filled] / total[filled] for values in (probabilities, labels))
    return said, np.where(happened > 0, happened, np.nan)


def finish_ranking(axes: Axes, prior: float) -> None:
    axes.axhline(prior, color="grey", linewidth=0.8, linestyle=":", label=f"chance ({prior:.3g})")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, None), title="precision and recall")
    axes.legend(frameon=False)


def finish_reliability(axes: Axes) -> None:
    # Rare events crowd near 0, so the axes are logarithmic.
    axes.set_xscale("log")
    axes.set_yscale("log")
    low, high = max(min(axes.get_xlim()[0], axes.get_ylim()[0]), 1e-5), 1.0
    axes.plot([low, high], [low, high], color="grey", linewidth=0.8, linestyle=":", label="perfect")
    axes.set(xlim=(low, high), ylim=(low, high), title="reliability (15 bins of equal count)")
    axes.set(xlabel="mean probability", ylabel="share of positives")
    axes.legend(frameon=False)
