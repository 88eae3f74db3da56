"""Functions that calls refer to by a number: which they are, and what must be as it was for that.

A function goes by its name, and then it is the same for ever. One of the script may go by value, together
with what it refers to: then it is pickled again when one of its globals is another object, or when one that
can change by itself (a list, a dictionary, an object) has changed.
"""

from __future__ import annotations

import datetime
import io
import logging
import pickle
import re
import sys
import types

from pytoweb._by_value import find_cloudpickle, pickler_to_child

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["ABSENT", "describe"]

#: Stands for a global that is not there.
ABSENT = object()

#: Classes of values that stay as they are.
STABLE = frozenset(
    (
        *(type(None), bool, int, float, complex, str, bytes, range, type(Ellipsis), type(NotImplemented)),
        *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone),
        *(types.BuiltinFunctionType, re.Pattern),
    )
)

#: Values that are longer as a pickle are not compared with each call.
COMPARED_BYTES = 16 << 10


def describe(function: types.FunctionType) -> tuple[bytes, tuple[Any, ...] | None, Any] | None:
    """What children are sent of a function.

    Returns:
        Its pickle; the globals to watch: a dictionary, a name and the value, again and again; and a function
        that says whether the rest is as it was. Or None, if it has to go along with each call.
    """
    if "<" in function.__qualname__:
        return None
    try:
        by_name = pickle.dumps(function, 5)
    except Exception:
        # The name leads to something else.
        by_name = None
    if function.__module__ != "__main__":
        return None if by_name is None else (by_name, None, None)
    cloudpickle = find_cloudpickle()
    if cloudpickle is None:
        return None if by_name is None else (by_name, None, None)
    watch = _Watch()
    file = io.BytesIO()
    try:
        if not watch.function(function):
            return None
        pickler_to_child(cloudpickle)(file, 5).dump(function)
    except Exception:
        # The call will say it, or find another way.
        return None
    changing = watch.values or watch.classes
    return file.getvalue(), tuple(watch.names), watch.is_as_before if changing else None


class _Watch:
    """What a function refers to, collected through the functions and classes of the script."""

    def __init__(self) -> None:
        self.names: list[Any] = []
        self.values: list[tuple[Any, bytes]] = []
        self.classes: list[tuple[type, dict[str, Any]]] = []
        self._seen: set[int] = set()

    def is_as_before(self) -> bool:
        """Whether the values that can change by themselves have not."""
        for kind, attributes in self.classes:
            now = vars(kind)
            if len(now) != len(attributes):
                return False
            if any(now.get(name, ABSENT) is not value for name, value in attributes.items()):
                return False
        try:
            return all(pickle.dumps(value, 5) == then for value, then in self.values)
        except Exception:
            return False

    def function(self, function: types.FunctionType) -> bool:
        """Notes what a function refers to; False if that cannot be watched."""
        if id(function) in self._seen:
            return True
        self._seen.add(id(function))
        if function.__closure__ is not None:
            # The contents of its cells may be replaced, where nothing here would see it.
            return False
        known = function.__globals__
        for name in set(_global_names(function.__code__)):
            value = known.get(name, ABSENT)
            if value is ABSENT and hasattr(_builtins(), name):
                continue
            self.names += known, name, value
            if value is not ABSENT and not self.value(value):
                return False
        defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
        return all(map(self.value, defaults))

    def value(self, value: Any) -> bool:
        """Notes a value; False if it cannot be watched."""
        if type(value) in STABLE or isinstance(value, (types.ModuleType, logging.Logger)):
            return True
        if isinstance(value, types.FunctionType):
            return value.__module__ != "__main__" or self.function(value)
        if isinstance(value, type):
            return value.__module__ != "__main__" or self._class(value)
        if type(value) in (tuple, frozenset):
            return all(map(self.value, value))
        pickled = pickle.dumps(value, 5)
        if len(pickled) > COMPARED_BYTES:
            return False
        self.values.append((value, pickled))
        return self.value(type(value))

    def _class(self, kind: type) -> bool:
        if id(kind) in self._seen:
            return True
        self._seen.add(id(kind))
        attributes = dict(vars(kind))
        self.classes.append((kind, attributes))
        for name, value in attributes.items():
            for part in _parts(value):
                is_function = isinstance(part, types.FunctionType)
                # Those of the interpreter do not go along.
                is_own = is_function or not (name.startswith("__") and name.endswith("__"))
                if is_own and not self.value(part):
                    return False
        return all(map(self.value, kind.__bases__))


def _parts(value: Any) -> Iterator[Any]:
    """A function below what makes a method of it, or the value itself."""
    if isinstance(value, (staticmethod, classmethod)):
        yield value.__func__
    elif isinstance(value, property):
        yield from (part for part in (value.fget, value.fset, value.fdel) if part is not None)
    elif not isinstance(value, (types.MemberDescriptorType, types.GetSetDescriptorType)):
        yield value


def _global_names(code: types.CodeType) -> Iterator[str]:
    import dis

    for step in dis.get_instructions(code):
        if step.opname.endswith(("_GLOBAL", "_NAME")) and isinstance(step.argval, str):
            yield step.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


def _builtins() -> types.ModuleType:
    return sys.modules["builtins"]
