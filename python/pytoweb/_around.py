"""Middleware: what is entered before each handler of a worker or pool, and left after it."""

from __future__ import annotations

import contextlib
import types

from pytoweb._batch import messages_of
from pytoweb._functions import is_coroutine_function

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ["Around", "check_hook"]

# `inspect.CO_GENERATOR` and `CO_ASYNC_GENERATOR`; its import takes 5 ms.
CO_GENERATOR = 0x20
CO_ASYNC_GENERATOR = 0x200


def _flags(hook: Any) -> int:
    function = getattr(hook, "__func__", hook)
    return function.__code__.co_flags if isinstance(function, types.FunctionType) else 0


def check_hook(hook: Any) -> None:
    """Refuses what could never give a context manager."""
    if not callable(hook):
        raise TypeError(f"what surrounds handlers must be callable, not {type(hook).__name__}")
    if is_coroutine_function(hook):
        raise TypeError(
            f"{_name(hook)} is a coroutine function: what surrounds handlers yields once, or returns a "
            "context manager"
        )


def _name(hook: Any) -> str:
    return getattr(hook, "__qualname__", None) or repr(hook)


class Around:
    """Calls the handlers of one worker or pool, surrounded."""

    __slots__ = ("_hooks", "outer")

    def __init__(self, outer: Around | None) -> None:
        #: What surrounds the handlers of the whole pool.
        self.outer = outer
        self._hooks: list[tuple[str, Callable[..., Any], bool]] = []

    def add(self, hook: Any) -> None:
        """Has ``hook`` entered after those that are there."""
        flags = _flags(hook)
        name = _name(hook)
        # One of this package may ask how many messages it surrounds.
        counts = getattr(hook, "_pytoweb_counts", False)
        if flags & CO_GENERATOR:
            hook = contextlib.contextmanager(hook)
        elif flags & CO_ASYNC_GENERATOR:
            hook = contextlib.asynccontextmanager(hook)
        self._hooks.append((name, hook, counts))

    def _managers(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
        if self.outer is not None:
            yield from self.outer._managers(function, args)
        for name, hook, counts in self._hooks:
            yield name, hook(messages_of(function, args)) if counts else hook()

    def __call__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        awaits: bool,
    ) -> Any:
        """``function(*args, **kwargs)``; a coroutine where ``awaits`` and the function gives one."""
        kwargs = kwargs or {}
        if awaits and is_coroutine_function(function):
            return self._surrounded(function, args, kwargs)
        with contextlib.ExitStack() as stack:
            for name, manager in self._managers(function, args):
                if not hasattr(type(manager), "__enter__"):
                    raise _unfit(name, manager, function)
                stack.enter_context(manager)
            result = function(*args, **kwargs)
            if awaits and isinstance(result, types.CoroutineType):
                # It did not look like a coroutine function, so they go on around the coroutine.
                return _finished(stack.pop_all(), result)
            return result
        # Only past a manager that swallowed an exception: None.

    async def _surrounded(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        async with contextlib.AsyncExitStack() as stack:
            for name, manager in self._managers(function, args):
                if hasattr(type(manager), "__aenter__"):
                    await stack.enter_async_context(manager)
                elif hasattr(type(manager), "__enter__"):
                    stack.enter_context(manager)
                else:
                    raise _unfit(name, manager, function)
            return await function(*args, **kwargs)


async def _finished(stack: contextlib.ExitStack, coroutine: types.CoroutineType[Any, Any, Any]) -> Any:
    with stack:
        return await coroutine


def _unfit(name: str, manager: Any, function: Callable[..., Any]) -> TypeError:
    if hasattr(type(manager), "__aenter__"):
        return TypeError(
            f"{name} is asynchronous and cannot surround {_name(function)}, which is not: make that "
            "function async def, or have a synchronous one surround it"
        )
    return TypeError(
        f"{name} gave {type(manager).__name__}, which is no context manager: what surrounds handlers yields "
        "once, or returns a context manager"
    )
