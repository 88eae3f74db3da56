"""Functions: which are coroutine functions, and what ``run_in_worker`` makes of them.

A decorated function stays one, and an ``async def`` function stays that: frameworks look at their flags. A
method has to know its instance for ``submit`` too, so it becomes a descriptor.
"""

from __future__ import annotations

import functools
import sys
import types

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pytoweb.futures import WorkerFuture

__all__ = ["is_coroutine_function", "is_method", "method_of"]

#: `inspect.CO_COROUTINE`: the flag of an ``async def``.
CO_COROUTINE = 0x80


def is_coroutine_function(function: Callable[..., object]) -> bool:
    """As `inspect.iscoroutinefunction`, which takes 5 ms to import."""
    if isinstance(function, types.MethodType):
        function = function.__func__
    if isinstance(function, types.FunctionType) and "inspect" not in sys.modules:
        # Only `inspect` could have marked the function as what its flags do not say.
        return bool(function.__code__.co_flags & CO_COROUTINE)
    import inspect

    return inspect.iscoroutinefunction(function)


def is_method(function: Callable[..., Any]) -> bool:
    """Whether a function stands in the body of a class, as far as its name tells."""
    scope = getattr(function, "__qualname__", "").rpartition(".")[0]
    return bool(scope) and not scope.endswith("<locals>")


def method_of(call: Callable[..., Any], submit: Callable[..., WorkerFuture[Any]], is_async: bool) -> Any:
    """The method that ``call`` and ``submit`` make, which take the instance as their first argument."""
    return (_AsyncMethod if is_async else _Method)(call, submit)


def _marked_as_coroutine_function(function: Any) -> None:
    """Has ``inspect`` and ``asyncio`` take an object for an ``async def`` function, where that is known."""
    if sys.version_info >= (3, 12):
        import inspect

        inspect.markcoroutinefunction(function)
    else:
        import asyncio.coroutines

        function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]


class _Method:
    """A method that runs in a worker; of an instance, or still to be given one."""

    def __init__(
        self, call: Callable[..., Any], submit: Callable[..., WorkerFuture[Any]], instance: Any = None
    ) -> None:
        functools.update_wrapper(self, call)
        self.__wrapped__ = call.__wrapped__  # type: ignore[attr-defined]
        self._call = call
        self._submit = submit
        self._own = () if instance is None else (instance,)
        if instance is not None:
            self.__self__ = instance
            self.__wrapped__ = types.MethodType(self.__wrapped__, instance)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else type(self)(self._call, self._submit, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*self._own, *args, **kwargs)

    def submit(self, *args: Any, **kwargs: Any) -> WorkerFuture[Any]:
        """Has it run, and returns the future."""
        return self._submit(*self._own, *args, **kwargs)

    def __reduce__(self) -> Any:
        # By name, as functions and methods are pickled.
        if self._own:
            return getattr, (*self._own, self._call.__name__)
        return self._call.__qualname__


class _AsyncMethod(_Method):
    """The same of an ``async def`` method."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        _marked_as_coroutine_function(self)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return await self._call(*self._own, *args, **kwargs)
