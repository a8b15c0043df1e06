"""The three functions, as Keras's users expect them: tensors come back, and a saved model finds them again."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import keras

from parfocal import functional

register = keras.saving.register_keras_serializable(package="parfocal")


def for_keras(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function on tensors of Keras's backend.

    Both are registered under one name.  A function without one comes back from a saved model as Keras's, which has
    the same name, and nobody is told.
    """

    @wraps(function)
    def on_tensors(y_true: Any, y_pred: Any, *arguments: Any, **named: Any) -> Any:
        return function(y_true, keras.ops.convert_to_tensor(y_pred), *arguments, **named)

    on_tensors.__doc__ = f"`parfocal.{function.__name__}`; lists and arrays, too, give a tensor of Keras's backend."
    register(function)
    return register(on_tensors)


binary_focal_crossentropy = for_keras(functional.binary_focal_crossentropy)
categorical_focal_crossentropy = for_keras(functional.categorical_focal_crossentropy)
sparse_categorical_focal_crossentropy = for_keras(functional.sparse_categorical_focal_crossentropy)
