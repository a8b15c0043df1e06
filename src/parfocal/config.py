"""The two settings that Keras has too: the default dtype of losses and metrics, and the clip of probabilities."""

from __future__ import annotations

FLOAT_DTYPES = ("float16", "bfloat16", "float32", "float64")

_floatx = "float32"
_epsilon = 1e-7


def floatx() -> str:
    """The dtype that losses and metrics compute in unless they are given one: "float32" at the start."""
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
    """The distance from 0 and 1 at which given probabilities are clipped: 1e-7 at the start, as in Keras."""
    return _epsilon


def set_epsilon(value: float) -> None:
    """Set the clip of probabilities, a number in (0, 0.5).  Logits are never clipped.

    Where 1 - epsilon would round to 1 in the dtype of the probabilities, they are clipped to the last number before it.

    >>> set_epsilon(1e-9); epsilon()
    1e-09
    >>> set_epsilon(1e-7)
    """
    global _epsilon
    if not isinstance(value, int | float) or not 0 < value < 0.5:
        raise ValueError(f"epsilon must be a number in (0, 0.5); got {value!r}")
    _epsilon = float(value)


def dtype_name(dtype: object) -> str:
    """`dtype` as one of the four names; None is `floatx()`.  Takes names and dtype objects of any framework."""
    if dtype is None:
        return floatx()
    name = str(getattr(dtype, "name", None) or getattr(dtype, "__name__", dtype)).rpartition(".")[2]
    if name not in FLOAT_DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(FLOAT_DTYPES)}; got {dtype!r}")
    return name
