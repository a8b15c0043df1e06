"""Which array library an array belongs to, found without importing any.

The type of `y_pred` decides: the first part of the module that defines it, or a base of it, names its library.  There
is no global switch.  Each library has a file here; what a backend must have is written down in `tensors.Tensors`.
"""

from __future__ import annotations

from types import NoneType
from typing import Any

from numpy import ndarray

from parfocal.backends import numpy

# Libraries that have a file here, by the first part of the module of their array types.
LIBRARIES = {
    "numpy": "numpy",
    "torch": "torch",
    "jax": "jax",
    "jaxlib": "jax",
    "tensorflow": "tensorflow",
}


def library_of(array: Any) -> str:
    """The library of an array; lists, numbers and whatever NumPy can read (a column of a table) count as NumPy's."""
    for base in type(array).__mro__:
        library = LIBRARIES.get(base.__module__.partition(".")[0])
        if library is not None:
            return library
    if hasattr(array, "__array_namespace__"):  # the array API standard's own way to say so
        return str(array.__array_namespace__().__name__.partition(".")[0])
    return "numpy"


def find(y_pred: Any, traced: bool = False, **others: Any) -> Any:
    """The backend of `y_pred`.  The other arrays must be of the same library, or NumPy's.

    `traced` asks for one that computes with the library's own operations.
    """
    if type(y_pred) is ndarray and all(type(array) in (ndarray, NoneType) for array in others.values()):
        return numpy  # the usual case, in a fifth of the time
    library = library_of(y_pred)
    for name, array in others.items():
        if library_of(array) not in (library, "numpy"):
            raise TypeError(
                f"{name} is a {library_of(array)} array and y_pred a {library} one; convert both to one library, or "
                f"{name} to NumPy, which goes with any y_pred"
            )
    return of_library(library, y_pred, traced, others)


def of_library(library: str, y_pred: Any, traced: bool, others: dict[str, Any]) -> Any:
    """The file of that library; the user has imported the library, or there would be no such array."""
    if library == "numpy":
        return numpy
    if library == "torch":
        from parfocal.backends import torch

        return torch.backend(y_pred, traced, others)
    if library == "jax":
        from parfocal.backends import jax

        return jax.BACKEND
    if library == "tensorflow":
        from parfocal.backends import tensorflow

        return tensorflow.BACKEND
    from parfocal.backends import tensors

    return tensors.Tensors(y_pred.__array_namespace__())
