"""One picture of the final test: how precise at which recall, and how true the probabilities are."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve

from parfocal.app.metrics import equal_count_bins

if TYPE_CHECKING:
    from parfocal.app.fitting import Curve

# Of Okabe and Ito, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
STYLES = ("-", ":", "--", ":", "-.")


def draw_report(labels: np.ndarray, weights: np.ndarray | None, curves: Sequence[Curve], title: str) -> bytes:
    """A PNG of the precision-recall and the reliability curve of each kind of probabilities."""
    weights = np.ones(len(labels)) if weights is None else weights
    figure = Figure(figsize=(11, 5), layout="constrained")
    ranking, reliability = figure.subplots(1, 2)
    for curve, colour, style in zip(curves, COLOURS, STYLES, strict=False):
        said, happened = reliability_points(labels, curve.probabilities, weights)
        reliability.plot(said, happened, style, marker="o", markersize=4, color=colour, label=curve.name)
        if curve.recovered:  # raw scores rank the rows alike
            precision, recall, _ = precision_recall_curve(labels, curve.probabilities, sample_weight=weights)
            ranking.plot(recall[:-1], precision[:-1], style, color=colour, label=curve.candidate.name)
    finish_ranking(ranking, float(np.average(labels, weights=weights)))
    finish_reliability(reliability)
    figure.suptitle(title)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


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
