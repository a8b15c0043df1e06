"""Whose words an error uses: the names of the library that was called, and verbs and plurals that fit them."""

from __future__ import annotations

from typing import NamedTuple


class Host(NamedTuple):
    """The library whose conventions a caller follows: its names for what it gives, and what a loss belongs to.

    The names stand in errors.  `by_element` says that each element of a binary batch is a loss of its own, and that
    weights broadcast to the elements; otherwise a loss is the mean over an axis, and weights follow Keras's rule.
    `one_sample` says that scores and labels (C,) got an axis in front, of which the caller knows nothing.  Calibrators
    are pickled with a host, so new fields go last.
    """

    scores: str = "y_pred"
    labels: str = "y_true"
    weight: str = "sample_weight"
    indices: str = "sparse labels"
    ignored: str = "ignore_class"
    binary: str = "binary_focal_crossentropy"
    dense: str = "categorical_focal_crossentropy"
    sparse: str = "sparse_categorical_focal_crossentropy"
    by_element: bool = False
    one_sample: bool = False


def have(name: str) -> str:
    """The verb of an argument's name: logits have, y_pred has."""
    return "have" if name.endswith("s") else "has"


def hold(name: str) -> str:
    return "hold" if name.endswith("s") else "holds"


def be(name: str) -> str:
    return "are" if name.endswith("s") else "is"


def do(name: str) -> str:
    return "do" if name.endswith("s") else "does"


KERAS = Host()  # whose names and rules parfocal's own functions have
OBJECTS = Host(  # and those of the losses that are objects
    binary="BinaryFocalCrossentropy",
    dense="CategoricalFocalCrossentropy",
    sparse="SparseCategoricalFocalCrossentropy",
)


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """`1 row`, `2,000 rows`, `3 classes`; `plural` where it is not the noun with s or es."""
    return f"{count:,} {noun if count == 1 else plural or noun + ('es' if noun.endswith('s') else 's')}"
