"""The two settings that Keras has too: the default dtype of losses and metrics, and the clipping of probabilities."""

from __future__ import annotations

FLOAT_DTYPES = ("float16", "bfloat16", "float32", "float64")

_floatx = "float32"
_epsilon = 1e-7


def floatx() -> str:
    """The default dtype of losses and metrics: "float32" unless set."""
    return _floatx


def set_floatx(dtype: str) -> None:
    """Set the dtype of losses and metrics that are built from now on.

    Raises ValueError for anything but "float16", "bfloat16", "float32" and "float64".

    >>> set_floatx("float64"); floatx()
    'float64'
    >>> set_floatx("float32")
    """
    global _floatx
    if dtype is None:
        raise ValueError("floatx must be a dtype; got None")
    _floatx = dtype_name(dtype)


def epsilon() -> float:
    """Probabilities in y_pred are clipped to [epsilon, 1 - epsilon]: 1e-7 unless set, as in Keras."""
    return _epsilon


def set_epsilon(value: float) -> None:
    """Set epsilon, a number in (0, 0.5), for the clipping of probabilities.  Logits are never clipped.

    Where 1 - epsilon would round to 1 in the dtype of the probabilities, the upper bound is the largest number below 1.

    >>> set_epsilon(1e-9); epsilon()
    1e-09
    >>> set_epsilon(1e-7)
    """
    global _epsilon
    if not isinstance(value, int | float) or not 0 < value < 0.5:
        raise ValueError(f"epsilon must be a number in (0, 0.5); got {value!r}")
    _epsilon = float(value)


def dtype_name(dtype: object) -> str:
    """The name of `dtype`, one of the four; that of `floatx()` for None.  Takes names and dtypes of any framework."""
    if dtype is None:
        return floatx()
    name = str(getattr(dtype, "name", None) or getattr(dtype, "__name__", dtype)).rpartition(".")[2]
    if name not in FLOAT_DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(FLOAT_DTYPES)}; got {dtype!r}")
    return name
