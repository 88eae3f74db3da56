"""Handlers that go to a child by module and name, looked up when the worker starts.

A function that is decorated with ``@worker.on_message(...)`` is registered before its name leads to it.
"""

from __future__ import annotations

import functools
import importlib
import sys
import types

from pytoweb import _pickling
from pytoweb._by_value import find_cloudpickle

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Named", "is_named"]


def is_named(handler: object) -> bool:
    """Whether it is a function that its module defines by a name, not inside of another function."""
    if not isinstance(handler, types.FunctionType):
        return False
    return "<" not in handler.__qualname__ and isinstance(handler.__module__, str)


class Named:
    """A handler that is pickled when its child is told of it.

    Args:
        function: one that ``is_named``.
        what: names it in errors.
        takes_worker: whether the worker is its first argument.
    """

    def __init__(self, function: types.FunctionType, what: str, takes_worker: bool) -> None:
        self._function = function
        self._what = what
        self._takes_worker = takes_worker

    def is_bound(self) -> bool:
        """Whether the name leads somewhere yet."""
        return _found(self._function)[1] is not None

    def dump(self, owner: object) -> tuple[bytes, bool]:
        """As ``_pickling.dump_handler``: by name, or by value where the name does not lead to it."""
        sent: Any = self._function
        # Functions of the script go by value where that is possible, and the child does not run the script.
        by_value = sent.__module__ == "__main__" and find_cloudpickle() is not None
        if not by_value and _leads_to(sent):
            sent = _ByName(sent)
        if self._takes_worker:
            sent = functools.partial(sent, owner)
        return _pickling.dump_handler(sent, owner, self._what)


def _found(function: types.FunctionType) -> tuple[Any, Any]:
    """The module of a function, and what its name leads to there; None for nothing."""
    module = sys.modules.get(function.__module__)
    found: Any = module
    for name in function.__qualname__.split("."):
        found = getattr(found, name, None)
    return module, found


def _leads_to(function: types.FunctionType) -> bool:
    module, found = _found(function)
    if module is not None and found is None:
        # While the module is being imported, the name comes when the decorators are through.
        return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))
    while found is not None:
        if found is function:
            return True
        found = getattr(found, "__wrapped__", None)
    return False


class _ByName:
    """Stands for a function in a pickle; called nowhere."""

    def __init__(self, function: types.FunctionType) -> None:
        self._function = function

    def __call__(self) -> None:
        raise NotImplementedError

    def __reduce__(self) -> Any:
        function = self._function
        return look_up, (function.__module__, function.__qualname__, function.__code__.co_firstlineno)


def look_up(module: str, qualname: str, line: int) -> Any:
    """The function of that name, below its decorators: the one that begins at ``line``."""
    outermost: Any = importlib.import_module(module)
    for name in qualname.split("."):
        outermost = getattr(outermost, name)
    found = outermost
    while found is not None:
        code = getattr(found, "__code__", None)
        if code is not None and code.co_firstlineno == line:
            return found
        found = getattr(found, "__wrapped__", None)
    return outermost
