"""Which array library an array belongs to, found without importing any.

The type of `y_pred` decides: the first part of the module that defines it, or a base of it, names its library.  There
is no global switch.  Each library has a file here; what a backend must have is written down in `base.Tensors`.
"""

from __future__ import annotations

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
    """The library of an array; lists and numbers count as NumPy's."""
    for base in type(array).__mro__:  # no cache of types: torch.compile would guard its length, and compile again
        library = LIBRARIES.get(base.__module__.partition(".")[0])
        if library is not None:
            return library
    # The array API standard's own way to tell; whatever else NumPy can read (a column of a table) counts as NumPy's.
    if hasattr(array, "__array_namespace__"):
        return str(array.__array_namespace__().__name__.partition(".")[0])
    return "numpy"


def find(y_pred: Any, y_true: Any = None, sample_weight: Any = None, traced: bool = False) -> Any:
    """The backend of `y_pred`.  The other arrays must be of the same library, or NumPy's.

    `traced` asks for one that computes with the library's own operations.
    """
    if type(y_pred) is ndarray and type(y_true) is ndarray and sample_weight is None:
        return numpy  # the usual case, in a tenth of the time
    library = library_of(y_pred)
    same_library("y_true", y_true, library)
    same_library("sample_weight", sample_weight, library)
    if library == "numpy":
        return numpy
    module = loaded.get(library) or load(library)
    if library == "torch":
        return module.backend(y_pred, y_true, sample_weight, traced)
    if library in LIBRARIES.values():
        return module.BACKEND
    return module.Tensors(module.StandardNamespace(y_pred.__array_namespace__()))


def same_library(name: str, array: Any, library: str) -> None:
    if array is not None and library_of(array) not in (library, "numpy"):
        raise TypeError(
            f"{name} is a {library_of(array)} array and y_pred a {library} one; convert both to one library, or "
            f"{name} to NumPy, which goes with any y_pred"
        )


loaded: dict[str, Any] = {}


def load(library: str) -> Any:
    """The file of that library, which the user has imported, or there would be no such array."""
    module: Any
    if library == "torch":
        from parfocal.backends import torch

        module = torch
    elif library == "jax":
        from parfocal.backends import jax

        module = jax
    elif library == "tensorflow":
        from parfocal.backends import tensorflow

        module = tensorflow
    else:
        from parfocal.backends import base

        module = base
    loaded[library] = module
    return module
