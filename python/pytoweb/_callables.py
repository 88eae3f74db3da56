"""What can be registered as a handler or a hook."""

from __future__ import annotations

import functools
import types

#: `inspect.CO_GENERATOR` and `inspect.CO_ASYNC_GENERATOR`: a function with a ``yield``.
GENERATOR = 0x20
ASYNC_GENERATOR = 0x200


def _function_of(handler: object) -> types.FunctionType | None:
    """The Python function that a call of ``handler`` runs, if it is one."""
    function: object = handler
    while isinstance(function, functools.partial):
        function = function.func
    if not isinstance(function, (types.FunctionType, types.MethodType, type)):
        function = type(function).__call__
    if isinstance(function, types.MethodType):
        function = function.__func__
    return function if isinstance(function, types.FunctionType) else None


def has_yield(handler: object) -> bool:
    """Whether it is a generator function, ``async def`` or not."""
    function = _function_of(handler)
    return function is not None and function.__code__.co_flags & (GENERATOR | ASYNC_GENERATOR) != 0


def is_async_generator(handler: object) -> bool:
    """Whether it is an ``async def`` generator function."""
    function = _function_of(handler)
    return function is not None and function.__code__.co_flags & ASYNC_GENERATOR != 0


def checked_callable(handler: object, what: str) -> None:
    """Refuses what cannot be called."""
    if not callable(handler):
        raise TypeError(f"{what} must be callable, not {type(handler).__name__}")


def checked_handler(handler: object, what: str) -> None:
    """Refuses what cannot be called, and generator functions: a call of one runs nothing of it."""
    checked_callable(handler, what)
    if has_yield(handler):
        name = getattr(_function_of(handler), "__qualname__", "it")
        raise TypeError(
            f"{what} must not be a generator function ({name} has a yield): calling it would run nothing "
            "of it"
        )
