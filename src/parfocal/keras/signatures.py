"""Parameter lists that are written in the core once, and taken over by Keras's classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec

P = ParamSpec("P")


def takes_the_parameters_of(
    written: Callable[Concatenate[Any, P], None],
) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, P], None]]:
    """Gives an `__init__(self, **parameters)` the parameters of another one, also for editors and type checkers.

    >>> class Written:
    ...     def __init__(self, gamma: float = 2.0) -> None: ...
    >>> class Derived:
    ...     @takes_the_parameters_of(Written.__init__)
    ...     def __init__(self, **parameters):
    ...         print(parameters)
    >>> _ = Derived()
    {'gamma': 2.0}
    """
    signature = inspect.signature(written)

    def derive(init: Callable[..., None]) -> Callable[Concatenate[Any, P], None]:
        @wraps(written)
        def derived(self: Any, /, *arguments: P.args, **named: P.kwargs) -> None:
            given = signature.bind(self, *arguments, **named)
            given.apply_defaults()
            init(**given.arguments)

        return derived

    return derive
