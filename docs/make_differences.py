"""Makes the tables of docs/differences.md by running Keras, parfocal and exact arithmetic side by side.

    python docs/make_differences.py            writes the block between the two markers
    python docs/make_differences.py --check    exits with 1 if the page is not what a run gives

Three or four digits are printed: float32 carries seven, so the last rounding of another machine does not show.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

import parfocal

HERE = Path(__file__).resolve().parent
PAGE = HERE / "differences.md"
START, END = "<!-- made by docs/make_differences.py: start -->", "<!-- made by docs/make_differences.py: end -->"

# (gamma, logit), from the easy side to the hard one.
BINARY = [
    *((0.5, x) for x in (0.0, 8.0, 16.2, 17.0, 40.0, -17.0)),
    *((2.0, x) for x in (0.0, 8.0, 16.2, 17.0, -8.0, -16.2, -17.0, -40.0, -89.0, -1e4)),
]
CATEGORICAL = [
    *((0.5, x) for x in (0.0, 17.0, 40.0, -17.0)),
    *((2.0, x) for x in (0.0, 17.0, -8.0, -16.2, -40.0, -89.0, -1e4)),
]


class Row(NamedTuple):
    """Loss, and gradient with respect to the logit x."""

    loss: float
    gradient: float


def exact(gamma: float, x: float, others: int) -> Row:
    """By the oracle, with `others` more classes at a logit of 0; 0 means the binary loss."""
    if (tests := str(HERE.parent / "tests")) not in sys.path:
        sys.path.append(tests)
    import oracle

    # Many digits are needed only for 1 - p near p = 1, so not on the hard side, where they would take seconds.
    digits = oracle.digits_for(max(x, 0.0))

    def loss(t: oracle.mpf) -> oracle.mpf:
        if not others:
            return oracle.binary_loss(t, 1, (gamma, gamma), (1, 1), "linear")
        return oracle.softmax_loss([t] + [0] * others, [1] + [0] * others, [gamma] * (1 + others))

    value, first, _ = oracle.derivatives(loss, float(np.float32(x)), digits)  # the logit that float32 holds
    return Row(float(value), float(first))


def of_parfocal(gamma: float, x: float, others: int) -> Row:
    if others:
        loss = parfocal.CategoricalFocalCrossentropy(1.0, gamma, from_logits=True, reduction="sum")
    else:
        loss = parfocal.BinaryFocalCrossentropy(gamma=gamma, from_logits=True, reduction="sum")
    value, gradient = loss.value_and_grad([[1.0] + [0.0] * others], np.array([[x] + [0.0] * others], "float32"))
    return Row(float(value), float(gradient[0, 0]))


def of_keras(gamma: float, x: float, others: int) -> Row:
    os.environ.setdefault("KERAS_BACKEND", "torch")  # read when keras is imported
    import keras
    import torch

    if others:
        loss = keras.losses.CategoricalFocalCrossentropy(1.0, gamma, from_logits=True, reduction="sum")
    else:
        loss = keras.losses.BinaryFocalCrossentropy(gamma=gamma, from_logits=True, reduction="sum")
    logits = torch.tensor([[x] + [0.0] * others], requires_grad=True)
    value = loss(torch.tensor([[1.0] + [0.0] * others]), logits)
    value.backward()
    return Row(value.item(), logits.grad[0, 0].item())


def number(value: float) -> str:
    """Four digits, three below 1; NaN in bold."""
    if np.isnan(value):
        return "**NaN**"

    def text(x: float) -> str:
        return f"{x:.3g}" if abs(x) < 1 else f"{x:.4g}" if abs(x) < 9999 else f"{x:.0f}"

    if len({text(value * (1 + error)) for error in (-2e-6, 0, 2e-6)}) > 1:
        raise SystemExit(f"{value!r} is where the last digit changes, so another machine may print another: move x")
    return text(value) if value else "0"


def gradient(value: float, truth: float) -> str:
    """A gradient; bold if it is 0 although float32 can hold the exact one."""
    vanished = value == 0 and abs(truth) > np.finfo(np.float32).tiny
    return "**0**" if vanished else number(value)


def rows(points: Iterable[tuple[float, float]], others: int) -> list[str]:
    lines = []
    for gamma, x in points:
        truth, theirs, ours = (f(gamma, x, others) for f in (exact, of_keras, of_parfocal))
        cells = [f"{gamma:g}", f"{x:g}", number(truth.loss), number(theirs.loss), number(ours.loss)]
        cells += [number(truth.gradient), gradient(theirs.gradient, truth.gradient)]
        cells += [gradient(ours.gradient, truth.gradient)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def table(title: str, points: Iterable[tuple[float, float]], others: int) -> str:
    head = "| gamma | x | loss, exact | Keras | parfocal | gradient, exact | Keras | parfocal |"
    return "\n".join([f"**{title}**", "", head, "|" + " ---: |" * 8, *rows(points, others)])


def block() -> str:
    """The text between the markers."""
    binary = table("Binary, label 1, logit x", BINARY, 0)
    softmax = table("Categorical, three classes with the logits [x, 0, 0], the first is true, alpha 1", CATEGORICAL, 2)
    return f"{START}\n\n{binary}\n\n{softmax}\n\n{END}"


def page_with(text: str, new: str) -> str:
    before, _, rest = text.partition(START)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{PAGE.name} needs the two lines {START} and {END}")
    return before + new + after


def main(arguments: list[str], say: Callable[[str], None] = print) -> int:
    text = PAGE.read_text(encoding="utf-8")
    made = page_with(text, block())
    if "--check" in arguments:
        if made == text:
            return 0
        changed = sorted(set(made.splitlines()) - set(text.splitlines()))
        say(f"{PAGE.name} is not what a run gives. These lines are new; python docs/{Path(__file__).name} writes them:")
        say("\n".join(changed))
        return 1
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
