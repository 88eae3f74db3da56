"""What can be registered as a handler or a hook."""

from __future__ import annotations

import functools
import types

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Iterator

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


def _wrapped_by(handler: object) -> Iterator[object]:
    """What ``functools.wraps`` says that it wraps, from the outside in."""
    known = set()
    while (handler := getattr(handler, "__wrapped__", None)) is not None and id(handler) not in known:
        known.add(id(handler))
        yield handler


def may_yield(handler: object) -> bool:
    """Whether a call may return a generator: its decorator wraps a generator function, and is none.

    Only what a call returns tells: a decorator may read all of the generator.
    """
    while isinstance(handler, functools.partial):
        handler = handler.func
    return not has_yield(handler) and any(map(has_yield, _wrapped_by(handler)))


def may_be_async_generator(handler: object) -> bool:
    """The same of an ``async def`` generator; also of a handler that is one."""
    return is_async_generator(handler) or any(map(is_async_generator, _wrapped_by(handler)))


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
