"""The array libraries, and the ways to run in them: one Enum, which the fixture `library` goes through.

A test writes its function once, in arrays of the library; `run` traces, compiles or calls it as the library's users do.
TensorFlow and array_api_strict are imported when the first array of theirs is made.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import parfocal

Function = Callable[..., Any]


class Library(Enum):
    NUMPY = "numpy"
    TORCH = "torch"
    TORCH_TRACED = "torch traced"
    TORCH_COMPILED = "torch compiled"  # traced as torch.compile traces; its operations run one by one
    TORCH_INDUCTOR = "torch compiled by Inductor"  # and into C++ that is compiled, for half a minute
    JAX = "jax"
    JAX_JITTED = "jax jitted"
    TENSORFLOW = "tensorflow"
    TF_FUNCTION = "tf.function"
    STRICT = "array_api_strict"

    @property
    def name_of_library(self) -> str:
        return {"tf.function": "tensorflow"}.get(self.value, self.value.split()[0])

    @property
    def checks_values(self) -> bool:
        """Whether labels are looked at, so that a wrong one is an error; elsewhere it makes its sample NaN."""
        return self in (Library.NUMPY, Library.TORCH)

    def array(self, values: Any) -> Any:
        """NumPy's array as this library's.  Lists and None stay what they are."""
        if not isinstance(values, np.ndarray):
            return values
        match self.name_of_library:
            case "numpy":
                return read_only(values)
            case "torch":
                return torch.from_numpy(values.copy())
            case "jax":
                return jnp.asarray(values)
            case "tensorflow":
                import tensorflow as tf

                return tf.constant(values)
            case _:
                import array_api_strict

                return array_api_strict.asarray(values.copy())

    def run(self, function: Function, *arrays: Any) -> Any:
        """function(*arrays) in this library's way."""
        if self in COMPILED:
            torch.compiler.reset()
            with warnings.catch_warnings():  # Inductor uses what torch deprecates
                warnings.simplefilter("ignore", DeprecationWarning)
                backend = "aot_eager" if self is Library.TORCH_COMPILED else "inductor"
                return torch.compile(function, fullgraph=True, backend=backend)(*arrays)
        if self is Library.JAX_JITTED:
            return jax.jit(function)(*arrays)
        if self is Library.TF_FUNCTION:
            import tensorflow as tf

            # A function for each case is meant: its warning of too many would be right elsewhere.
            return tf.function(function, reduce_retracing=True)(*arrays)
        if self is Library.TORCH_TRACED:  # the tensor is a tracer of torch.func then
            with torch.no_grad():
                return torch.func.vjp(function, *arrays)[0]
        return function(*arrays)

    def loss_and_gradient(self, loss: Function, scores: Any) -> tuple[Any, Any]:
        """What `loss` returns for scores, and the gradient of its sum by the library's own differentiation."""
        if self is Library.TORCH or self in COMPILED:
            leaf = scores.clone().requires_grad_()
            value = self.run(loss, leaf)
            value.sum().backward()
            return value.detach(), leaf.grad
        if self is Library.TORCH_TRACED:

            def total(scores: Any) -> tuple[Any, Any]:
                value = loss(scores)
                return value.sum(), value

            gradient, (_, value) = torch.func.grad_and_value(total, has_aux=True)(scores)
            return value, gradient
        if self.name_of_library == "jax":

            def both(scores: Any) -> tuple[Any, Any]:
                value, back = jax.vjp(loss, scores)
                return value, back(jnp.ones_like(value))[0]

            return self.run(both, scores)
        if self.name_of_library == "tensorflow":
            import tensorflow as tf

            def taped(scores: Any) -> tuple[Any, Any]:
                with tf.GradientTape() as tape:
                    tape.watch(scores)
                    value = loss(scores)
                return value, tape.gradient(value, scores)

            return self.run(taped, scores)
        raise AssertionError(f"{self.value} differentiates nothing")

    @property
    def differentiates(self) -> bool:
        return self not in (Library.NUMPY, Library.STRICT)


COMPILED = (Library.TORCH_COMPILED, Library.TORCH_INDUCTOR)
COMPILE = (*COMPILED, Library.JAX_JITTED, Library.TF_FUNCTION)


def one(library: Library, *others: Any, id: str | None = None, full: bool = False) -> Any:
    """A parameter set of a test, with the library first, and the marks that it asks for."""
    marks = [pytest.mark.full] * (full or library is Library.TORCH_INDUCTOR)
    return pytest.param(library, *others, id=id or library.value, marks=marks)


def each(libraries: Any, full: tuple[Library, ...] = ()) -> Any:
    """Makes a test go through libraries; in `full`, and where they compile each case, in the second tier."""
    return pytest.mark.parametrize("library", [one(member, full=member in COMPILE + full) for member in libraries])


QUICK = [library for library in Library if library not in COMPILED]


def read_only(array: np.ndarray) -> np.ndarray:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def numpys(array: Any) -> np.ndarray:
    """Any library's array as NumPy's; bfloat16 as float32."""
    if isinstance(array, torch.Tensor):
        return (array.float() if array.dtype == torch.bfloat16 else array).detach().numpy()
    array = np.asarray(array)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def dtype_name(array: Any) -> str:
    """The name of an array's dtype, the same in every library."""
    return str(getattr(array.dtype, "name", array.dtype)).rpartition(".")[2]


@contextlib.contextmanager
def precision(dtype: Any) -> Iterator[None]:
    """JAX has float64 only where it is switched on."""
    with jax.enable_x64(np.dtype(dtype) == np.float64):
        yield


def all_terms(library: Library, loss: parfocal.Loss, labels: Any, scores: Any, weight: Any = None) -> list[np.ndarray]:
    """Loss, gradient, curvature; and, where the library differentiates, the gradient that it finds itself."""

    def terms(scores: Any) -> tuple[Any, ...]:
        return (*loss.value_and_grad(labels, scores, weight), loss.curvature(labels, scores, weight))

    found = [numpys(term) for term in library.run(terms, scores)]
    if library.differentiates:
        value, gradient = library.loss_and_gradient(lambda scores: loss(labels, scores, weight), scores)
        np.testing.assert_allclose(numpys(value), found[0], rtol=6e-7 if found[0].dtype == np.float32 else 6e-15)
        found.append(numpys(gradient))
    return found
