"""The machine and the versions that the times were measured with."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

import parfocal

LIBRARIES = ("parfocal", "numpy", "torch", "keras", "kornia", "jax", "jaxlib", "optax", "lightgbm")


def kernel() -> str:
    """The instruction set that parfocal uses in this process, or "numpy" without native kernels."""
    info = getattr(parfocal, "kernel_info", None)
    return str(info()["kernel"]) if info else "numpy"


def set_threads(threads: int) -> None:
    """Sets the number of parfocal's own threads, if it has any."""
    setter = getattr(parfocal, "set_num_threads", None)
    if setter:
        setter(threads)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's name, family and model."""
    listing = Path("/proc/cpuinfo")
    if not listing.exists():
        return platform.processor() or platform.machine()
    facts = dict(line.split("\t: ", 1) for line in listing.read_text().splitlines() if "\t: " in line)
    facts = {name.strip(): value for name, value in facts.items()}
    if "model name" not in facts:
        return platform.machine()
    return f"{facts['model name']} (family {facts.get('cpu family')}, model {facts.get('model')})"


def versions() -> str:
    found = [f"python {platform.python_version()}"]
    for library in LIBRARIES:
        try:
            found.append(f"{library} {metadata.version(library)}")
        except metadata.PackageNotFoundError:
            found.append(f"{library} not installed")
    return "; ".join(found)
