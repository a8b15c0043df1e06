"""Which array library an array belongs to, found without importing any.

The type of `y_pred` decides: the first part of the module that defines it, or a base of it, names its library.  There
is no global switch.  Each library has a file here with the functions `binary` and `categorical`, which run the formula.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from numpy import ndarray

from parfocal.backends import numpy

BACKENDS: dict[str, ModuleType] = {"numpy": numpy}

# Libraries that are recognised, by the first part of the module of their array types.
LIBRARIES = {
    "numpy": "numpy",
    "torch": "torch",
    "jax": "jax",
    "jaxlib": "jax",
    "tensorflow": "tensorflow",
    "cupy": "cupy",
    "array_api_strict": "array_api_strict",
}


def library_of(array: Any) -> str:
    """The library of an array; lists, numbers and whatever NumPy can read (a column of a table) count as NumPy's."""
    for base in type(array).__mro__:
        library = LIBRARIES.get(base.__module__.partition(".")[0])
        if library is not None:
            return library
    return "numpy"


def find(y_pred: Any, **others: Any) -> ModuleType:
    """The backend of `y_pred`.  The other arrays must be of the same library, or NumPy's."""
    if type(y_pred) is ndarray:
        for array in others.values():
            if type(array) is not ndarray and array is not None:
                break
        else:
            return numpy  # the usual case, in a tenth of the time
    library = library_of(y_pred)
    for name, array in others.items():
        if library_of(array) not in (library, "numpy"):
            raise TypeError(
                f"{name} is a {library_of(array)} array and y_pred a {library} one; convert both to one library, or "
                f"{name} to NumPy, which goes with any y_pred"
            )
    backend = BACKENDS.get(library)
    if backend is None:
        raise TypeError(
            f"y_pred is a {library} array ({type(y_pred).__module__}.{type(y_pred).__qualname__}); parfocal computes "
            f"on {', '.join(BACKENDS)} arrays and lists. Convert it to NumPy first."
        )
    return backend
