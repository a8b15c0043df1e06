"""Libraries that have no file here, by the array API standard."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from parfocal.backends.base import Backend
from parfocal.core.formula import Array, Namespace


class StandardNamespace:
    """A library's own namespace, with an exponential that keeps its digits.

    The standard asks for no digits.  NumPy's exponential of a float32 is off by up to 2.5 units in the last place: the
    same for 100,000 equal classes, so their sum, and the loss by 1.2e-6.  So it is taken in double, where there is one.
    """

    def __init__(self, standard: Namespace) -> None:
        self.standard = standard

    def __getattr__(self, name: str) -> Any:
        return getattr(self.standard, name)

    def where(self, condition: Array, a: Any, b: Any) -> Array:
        """With a number in place of an array, which the standard allows since 2024."""
        like = a if hasattr(a, "dtype") else b
        a, b = (
            value if hasattr(value, "dtype") else self.standard.asarray(value, dtype=like.dtype, device=like.device)
            for value in (a, b)
        )
        return self.standard.where(condition, a, b)

    def exp(self, values: Array) -> Array:
        xp = self.standard
        if values.dtype == xp.float64 or "float64" not in dtypes_on(xp, values.device):
            return xp.exp(values)
        return xp.astype(xp.exp(xp.astype(values, xp.float64)), values.dtype)


def dtypes_on(xp: Namespace, device: Any) -> Collection[str]:
    """What a library says that a device can hold; nothing where it follows a standard from before 2023."""
    if not hasattr(xp, "__array_namespace_info__"):
        return ()
    return xp.__array_namespace_info__().dtypes(device=device, kind="real floating")


def backend(array: Array) -> Backend:
    """The backend of an array's library."""
    return Backend(StandardNamespace(array.__array_namespace__()))
