"""Which array library an array belongs to, found without importing any.

The type of the scores decides: the first part of the module that defines it, or a base of it, names its library.  There
is no global switch.  Each library has a file here; what a backend has is written down in `base.Backend`.
"""

from __future__ import annotations

from typing import Any

from numpy import ndarray

from parfocal.backends.base import Backend
from parfocal.backends.numpy import NUMPY
from parfocal.core.hosts import KERAS, Host

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


def find(scores: Any, labels: Any = None, weight: Any = None, differentiable: bool = False, host: Host = KERAS) -> Any:
    """The backend of `scores`.  The other arrays must be of the same library, or NumPy's.

    `differentiable` asks for one that computes with the library's own operations.
    """
    if type(scores) is ndarray and type(labels) is ndarray and weight is None:
        return NUMPY  # the usual case, in a tenth of the time
    library = library_of(scores)
    if labels is not None and type(labels) is not type(scores):
        same_library(host.labels, labels, library, host)
    if weight is not None and type(weight) is not type(scores):
        same_library(host.weight, weight, library, host)
    if library == "numpy":
        return NUMPY
    module = loaded.get(library) or load(library)
    if library == "torch":
        return module.backend(scores, labels, weight, differentiable, host)
    return module.backend(scores)


def same_library(name: str, array: Any, library: str, host: Host) -> None:
    found = library_of(array)
    if found not in (library, "numpy"):
        raise TypeError(
            f"{name} is a {found} array and {host.scores} a {library} one; convert both to one library, or "
            f"{name} to NumPy, which goes with any {host.scores}"
        )


loaded: dict[str, Any] = {}


def load(library: str) -> Any:
    """The file of that library, which the user has imported, or there would be no such array.

    Each import is written out: torch.compile traces no importlib.
    """
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
        from parfocal.backends import standard

        module = standard
    loaded[library] = module
    return module


__all__ = ["Backend", "find", "library_of"]
