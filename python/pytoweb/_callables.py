"""What can be registered as a handler or a hook."""

from __future__ import annotations

import functools
import types

#: `inspect.CO_GENERATOR` and `inspect.CO_ASYNC_GENERATOR`: a function with a ``yield``.
GENERATOR = 0x20 | 0x200


def checked_handler(handler: object, what: str) -> None:
    """Refuses what cannot be called, and generator functions: a call of one runs nothing of it."""
    if not callable(handler):
        raise TypeError(f"{what} must be callable, not {type(handler).__name__}")
    function: object = handler
    while isinstance(function, functools.partial):
        function = function.func
    if not isinstance(function, (types.FunctionType, types.MethodType, type)):
        function = type(function).__call__
    if isinstance(function, types.MethodType):
        function = function.__func__
    if isinstance(function, types.FunctionType) and function.__code__.co_flags & GENERATOR:
        raise TypeError(
            f"{what} must not be a generator function ({function.__qualname__} has a yield): calling it "
            "would run nothing of it; return a list, or post one message per item"
        )
