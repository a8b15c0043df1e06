"""Which kernel computes: a native one, made for an instruction set of this processor, or the formula in NumPy.

The environment variable PARFOCAL_KERNEL forces one by its name, and PARFOCAL_NUM_THREADS sets the number of threads.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

native: ModuleType | None
try:
    from parfocal import _native

    native, why_not = _native, ""
except ImportError as error:  # built without a compiler, or for another machine
    native, why_not = None, str(error)

_numpy_only = False
_threads_chosen = False


def available() -> list[str]:
    """The names of the kernels that run here, the fastest first; the last one is "numpy"."""
    return [*(native.names() if native else []), "numpy"]


def use(name: str) -> None:
    """Compute with the kernel of that name from now on.  Raises ValueError for one that does not run here."""
    global _numpy_only
    if name not in available():
        raise ValueError(
            f"no kernel named {name!r} runs here; choose one of {', '.join(available())}"
            + (f" (the native ones are missing: {why_not})" if why_not else "")
        )
    _numpy_only = name == "numpy"
    if native and not _numpy_only:
        native.use(name)


def module() -> Any:
    """The native module, where it computes; otherwise None."""
    return None if _numpy_only else native


def kernel_info() -> dict[str, Any]:
    """What computes the losses of NumPy arrays in this process.

    Returns a dict: "kernel", the one in use: "v4" (AVX-512), "v3" (AVX2), "baseline" (any processor) or "numpy";
    "available", all that run here; "threads", how many a large array may use; "note", why there is no native kernel.

    >>> kernel_info()["kernel"] in kernel_info()["available"]
    True
    """
    computing = module()
    return {
        "kernel": computing.in_use() if computing else "numpy",
        "available": available(),
        "threads": computing.threads() if computing else 1,
        "note": why_not,
    }


def set_num_threads(number: int) -> None:
    """How many threads the native kernel may use for a large array; at the start, one for each processor.

    PyTorch tensors are computed with one thread until a number has been set, here or by PARFOCAL_NUM_THREADS.  The
    result has the same bits whatever the number.  NumPy, where it computes, has one thread of its own.  Raises
    ValueError for anything but a whole number above 0.

    >>> before = kernel_info()["threads"]
    >>> set_num_threads(1)
    >>> set_num_threads(before)
    """
    if isinstance(number, bool) or not hasattr(number, "__index__") or not 0 < number.__index__() < 1 << 16:
        raise ValueError(f"the number of threads must be a whole number from 1 to 65535; got {number!r}")
    global _threads_chosen
    _threads_chosen = True
    if native:
        native.set_threads(number.__index__())


def threads_beside_torch() -> int:
    """How many threads a tensor's loss may use: one, unless somebody has chosen; torch has threads of its own."""
    return 0 if _threads_chosen else 1


def from_environment() -> None:
    """Follow PARFOCAL_KERNEL and PARFOCAL_NUM_THREADS."""
    if name := os.environ.get("PARFOCAL_KERNEL"):
        try:
            use(name)
        except ValueError as error:
            raise ValueError(f"PARFOCAL_KERNEL: {error}") from None
    if threads := os.environ.get("PARFOCAL_NUM_THREADS"):
        try:
            # What is not a number goes there as it is: its error says what is allowed.
            set_num_threads(int(threads) if threads.isdecimal() else threads)  # type: ignore[arg-type]
        except ValueError as error:
            raise ValueError(f"PARFOCAL_NUM_THREADS: {error}") from None


from_environment()
