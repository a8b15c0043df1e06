"""The native kernels, native/binding.cpp.  Arrays are what has the buffer protocol; results are written into them."""

from typing import Any

def binary(
    x: Any,
    y: Any,
    weight: Any,
    cotangent: Any,
    loss: Any,
    gradient: Any,
    curvature: Any,
    gamma_0: float,
    gamma_1: float,
    weight_0: float,
    weight_1: float,
    label_smoothing: float,
    expected: bool,
    scale: float,
    boosting: bool,
    threads: int = 0,
) -> tuple[float, int, bool]: ...
def softmax(
    z: Any,
    target: Any,
    labels: Any,
    weight: Any,
    cotangent: Any,
    loss: Any,
    gradient: Any,
    curvature: Any,
    alpha: Any,
    gamma: Any,
    label_smoothing: float,
    ignore_class: float | None,
    scale: float,
    boosting: bool,
    threads: int = 0,
) -> tuple[float, int, bool]: ...
def names() -> list[str]: ...
def use(name: str) -> None: ...
def in_use() -> str: ...
def threads() -> int: ...
def set_threads(number: int) -> None: ...
