"""What computes the losses of tensors on a GPU: Triton's kernels, or torch's operations.

PARFOCAL_GPU=triton or torch forces one of them.  By default kernels do the work where Triton is installed.  At their
first use on a device they are compared with NumPy (triton/self_check.py).  Kernels that fail, or give wrong numbers,
are replaced by operations from there on, and one warning says so; where they are forced it is an error.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import warnings

CHOICES = ("triton", "torch")

failure = ""  # what Triton failed with


@functools.cache
def forced() -> str:
    """PARFOCAL_GPU, or "".  Raises ValueError for anything else."""
    name = os.environ.get("PARFOCAL_GPU", "")
    if name and name not in CHOICES:
        raise ValueError(f"PARFOCAL_GPU must be one of {', '.join(CHOICES)}; got {name!r}")
    return name


@functools.cache
def installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def uses_triton() -> bool:
    return forced() == "triton" or (not forced() and installed() and not failure)


def why() -> str:
    """What computes on a GPU, and the reason."""
    if forced():
        return f"{forced()} (PARFOCAL_GPU)"
    if not installed():
        return "torch (Triton is not installed)"
    return f"torch (Triton failed: {failure})" if failure else "triton"


def missing() -> list[str]:
    """What the kernels lack to compute on a GPU of this machine, and how to get it: for `parfocal info`.

    Imports PyTorch where it is installed.  Nothing is missing where PARFOCAL_GPU asks for operations.
    """
    if forced() == "torch":
        return []
    builds = "https://pytorch.org/get-started/locally has the build for each GPU; it brings Triton"
    if importlib.util.find_spec("torch") is None:
        return [f"PyTorch is not installed. {builds}"]
    import torch

    if not (torch.version.cuda or torch.version.hip or torch.xpu.is_available()):
        return [f"PyTorch {torch.__version__} was built for processors alone. {builds}"]
    lacks = []
    if not (torch.cuda.is_available() or torch.xpu.is_available()):
        lacks.append(
            f"PyTorch {torch.__version__} finds no GPU. Does the driver (`nvidia-smi`, `rocm-smi`), "
            "and does CUDA_VISIBLE_DEVICES hide it?"
        )
    if not installed():
        way = "`python -m pip install triton`" if sys.platform == "linux" else "its wheels are for Linux alone"
        lacks.append(f"Triton is not installed: {way}. PyTorch's operations compute without it, more slowly")
    return lacks


def fail(error: Exception) -> None:
    """Operations compute from now on.  Where Triton is forced, that is an error."""
    global failure
    if forced() == "triton":
        raise error
    failure = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    warnings.warn(
        f"parfocal's GPU kernels failed ({failure}); torch's operations compute the losses from here on, more slowly.  "
        "PARFOCAL_GPU=torch chooses that without this warning, and PARFOCAL_GPU=triton makes it an error.",
        RuntimeWarning,
        stacklevel=2,
    )
